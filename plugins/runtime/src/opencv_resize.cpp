// Resizing without antialiasing, as cv2.resize does, in whole numbers:
// gsp_deploy/images/opencv_resize.py is the same in Python.
#include <algorithm>
#include <array>
#include <cmath>

#include "resize.hpp"

namespace gsp {
namespace {

constexpr std::int64_t one = 1 << 11;  // of a weight, as OpenCV stores it
constexpr double sharpness = -0.75;    // of OpenCV's cubic
constexpr std::size_t most_taps = 4, channels = 3;

// What one output pixel sums along one axis: source pixels and their weights.
struct Taps {
  std::size_t count = 0;
  std::array<std::size_t, most_taps> sources{};
  std::array<std::int64_t, most_taps> weights{};
};

Taps taps_at(double place, int have, Interpolation interpolation) {
  const double first = std::floor(place), x = place - first;
  std::array<double, most_taps> weights{1 - x, x};
  int from = 0;
  Taps taps;
  taps.count = 2;
  if (interpolation == Interpolation::bicubic) {
    constexpr double a = sharpness;
    weights[0] = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
    weights[1] = ((a + 2) * x - (a + 3)) * x * x + 1;
    weights[2] = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1;
    weights[3] = 1 - weights[0] - weights[1] - weights[2];
    from = -1;
    taps.count = most_taps;
  }
  for (std::size_t i = 0; i < taps.count; ++i) {
    const double source = first + from + static_cast<double>(i);
    taps.sources[i] = static_cast<std::size_t>(std::clamp<double>(source, 0, have - 1));
    taps.weights[i] = std::llrint(weights[i] * static_cast<double>(one));
  }
  return taps;
}

std::vector<Taps> taps_for(int have, const Window& window, Interpolation interpolation) {
  std::vector<Taps> made;
  for (int i = 0; i < window.size; ++i)
    made.push_back(
        taps_at((i + window.start + 0.5) * (have / window.resized) - 0.5, have, interpolation));
  return made;
}

}  // namespace

Image resize_like_opencv(const Image& image, const Window& across, const Window& down,
                         Interpolation interpolation) {
  const auto columns = taps_for(image.width, across, interpolation);
  const auto rows = taps_for(image.height, down, interpolation);
  const std::size_t stride = static_cast<std::size_t>(image.width) * channels;
  Image out{across.size, down.size, {}};
  out.pixels.reserve(columns.size() * rows.size() * channels);
  for (const Taps& row : rows)
    for (const Taps& column : columns)
      for (std::size_t c = 0; c < channels; ++c) {
        std::int64_t sum = one * one / 2;
        for (std::size_t y = 0; y < row.count; ++y)
          for (std::size_t x = 0; x < column.count; ++x)
            sum += row.weights[y] * column.weights[x] *
                   image.pixels[row.sources[y] * stride + column.sources[x] * channels + c];
        // Rounded towards minus infinity, as a shift does.
        out.pixels.push_back(
            static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> 22, 0, 255)));
      }
  return out;
}

}  // namespace gsp
