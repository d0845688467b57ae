// Which way up a photograph was taken; the rule is gsp_deploy/images/orientation.py's.
#pragma once

#include <gsp/image.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace gsp {

// The value of the orientation tag of an EXIF block, 0 if it is no whole number, nothing where the
// block has no such tag or cannot be read.
std::optional<long long> exif_orientation(std::string_view block);

// The same of an XMP packet.
std::optional<long long> xmp_orientation(std::string_view packet);

// The orientation, 1 to 8, that metadata states; 1 where it states none.
int stated_orientation(const std::optional<std::string>& exif,
                       const std::optional<std::string>& xmp);

// Turn an image upright.
Image upright(Image image, int orientation);

}  // namespace gsp
