#include "geometry.hpp"

#include <algorithm>
#include <cmath>

namespace gsp {
namespace {

constexpr double largest_side = 1e100;  // what a crop ratio next to 0 asks for is infinite

struct Sides {
  double width, height;
};

double quotient(int want, double ratio) { return std::min(want / ratio, largest_side); }

// Sides of the image's aspect that cover `covered`, the longer one truncated.
Sides truncated(int width, int height, Sides covered) {
  if (covered.width * height >= covered.height * width)
    return {covered.width, std::floor(covered.width * height / width)};
  return {std::floor(covered.height * width / height), covered.height};
}

// Resize(round(size / ratio)): one side is that, the other is truncated.
Sides torchvision(int width, int height, const Preprocessing& spec) {
  return truncated(width, height,
                   {std::nearbyint(quotient(spec.width, spec.crop_ratio)),
                    std::nearbyint(quotient(spec.height, spec.crop_ratio))});
}

// create_transform: the size is rounded down; ResizeKeepRatio where it is no square.
Sides timm(int width, int height, const Preprocessing& spec) {
  const Sides covered{std::floor(quotient(spec.width, spec.crop_ratio)),
                      std::floor(quotient(spec.height, spec.crop_ratio))};
  if (covered.width == covered.height) return truncated(width, height, covered);
  const double scale = std::min(width / covered.width, height / covered.height);
  return {std::nearbyint(width / scale), std::nearbyint(height / scale)};
}

// Both sides are scaled alike and rounded to the nearest.
Sides rounded(int width, int height, const Preprocessing& spec) {
  const double scale = std::max(static_cast<double>(spec.width) / width,
                                static_cast<double>(spec.height) / height) /
                       spec.crop_ratio;
  const auto side = [scale](int have) {
    return std::nearbyint(std::min(have * scale, largest_side));
  };
  return {side(width), side(height)};
}

// The sides that an image of any aspect is resized to.
Sides stretched(const Preprocessing& spec) {
  const auto side = [&spec](int want) {
    if (spec.pipeline == Pipeline::pillow) return static_cast<double>(want);
    const double resized = quotient(want, spec.crop_ratio);
    return spec.pipeline == Pipeline::timm ? std::floor(resized) : std::nearbyint(resized);
  };
  return {side(spec.width), side(spec.height)};
}

Sides resized(int width, int height, const Preprocessing& spec) {
  if (spec.resize == ResizeMode::stretch) return stretched(spec);
  if (spec.pipeline == Pipeline::torchvision) return torchvision(width, height, spec);
  if (spec.pipeline == Pipeline::timm) return timm(width, height, spec);
  return rounded(width, height, spec);
}

Window centred(double resized, int want, bool half_to_even) {
  resized = std::max<double>(resized, want);
  const double half = (resized - want) / 2;
  return {resized, half_to_even ? std::nearbyint(half) : std::floor(half), want};
}

}  // namespace

std::pair<Window, Window> crop_windows(int width, int height, const Preprocessing& spec) {
  const bool half_to_even =
      spec.pipeline == Pipeline::torchvision || spec.pipeline == Pipeline::timm;
  const Sides sides = resized(width, height, spec);
  return {centred(sides.width, spec.width, half_to_even),
          centred(sides.height, spec.height, half_to_even)};
}

}  // namespace gsp
