// Resizing an image to what a crop sees of it.
#pragma once

#include <gsp/image.hpp>

#include "geometry.hpp"

namespace gsp {

// Antialiased. `of_whole`: as if the resized image had been made whole and then cut; otherwise as
// Pillow resizes a box of an image.
Image resize_like_pillow(const Image& image, const Window& across, const Window& down,
                         Interpolation interpolation, bool of_whole);

// Not antialiased, as cv2.resize.
Image resize_like_opencv(const Image& image, const Window& across, const Window& down,
                         Interpolation interpolation);

}  // namespace gsp
