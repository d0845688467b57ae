// Which way up a photograph was taken.
#pragma once

#include <gsp/image.hpp>
#include <string_view>

namespace gsp {

// The orientation, 1 to 8, of an EXIF block ("II*\0..." or "MM\0*...", with or without the
// "Exif\0\0" before it), or 0 where it tells none.
int exif_orientation(std::string_view exif);

// The same of an XMP packet.
int xmp_orientation(std::string_view xmp);

// Turn an image upright.
Image upright(Image image, int orientation);

}  // namespace gsp
