#include <gsp/error.hpp>
#include <gsp/image.hpp>

#include "guarded.hpp"
#include "resize.hpp"

namespace gsp {
namespace {

constexpr int largest_side = 1 << 15;  // of a model's input

void check(const Image& image, const Preprocessing& spec) {
  const auto is_side = [](int side) { return side >= 1 && side <= largest_side; };
  if (!is_side(spec.width) || !is_side(spec.height) ||
      !(spec.crop_ratio > 0 && spec.crop_ratio <= 1))
    throw Error(ErrorKind::usage,
                "expected a model's size and a crop ratio above 0 and at most 1, got " +
                    std::to_string(spec.width) + "x" + std::to_string(spec.height) + " and " +
                    std::to_string(spec.crop_ratio));
  const auto bytes =
      static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * 3;
  if (image.width < 1 || image.height < 1 || image.pixels.size() != bytes)
    throw Error(ErrorKind::usage, "expected an image of width x height RGB pixels, got " +
                                      std::to_string(image.width) + "x" +
                                      std::to_string(image.height) + " and " +
                                      std::to_string(image.pixels.size()) + " bytes");
}

}  // namespace

Image fit_image(const Image& image, const Preprocessing& spec) {
  return guarded(ErrorKind::usage, [&] {
    check(image, spec);
    const auto [across, down] = crop_windows(image.width, image.height, spec);
    if (spec.pipeline == Pipeline::opencv)
      return resize_like_opencv(image, across, down, spec.interpolation);
    const bool of_whole = spec.pipeline != Pipeline::pillow;
    return resize_like_pillow(image, across, down, spec.interpolation, of_whole);
  });
}

}  // namespace gsp
