// Resizing by convolution, as Pillow defines it: the filter is stretched by the scale when
// shrinking (antialiasing), one axis after the other, each pass rounded to 8 bits.
#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace gsp {
namespace {

constexpr int fraction_bits = 22;  // of a weight, so that 8-bit sums fit 32 bits
constexpr int channels = 3;

struct Filter {
  double (*value)(double);
  double support;  // zero from here on, in source pixels at scale 1
};

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double cubic(double x) {  // Keys' convolution kernel with a = -1/2
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// What one output pixel sums: the first source pixel, and its weights in fixed point.
struct Taps {
  int first;
  std::vector<std::int32_t> weights;
};

// Where the centres of the output pixels are: begin + (first + i + 1/2) * scale.
struct Grid {
  double begin, first, scale;
};

// The grid of the whole resized image, of which the window is a part.
Grid whole_grid(int have, const Window& window) {
  return {0, window.start, have / window.resized};
}

// The grid of the window alone, in single precision, as Pillow takes its box.
Grid box_grid(int have, const Window& window) {
  const auto begin = static_cast<float>(window.start * have / window.resized);
  const auto end = static_cast<float>(
      std::min<double>((window.start + window.size) * have / window.resized, have));
  return {begin, 0, static_cast<double>(end - begin) / window.size};
}

std::vector<Taps> taps_for(int source, const Grid& grid, int wanted, const Filter& filter) {
  const double scale = grid.scale;
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  std::vector<Taps> taps(static_cast<std::size_t>(wanted));
  for (std::size_t i = 0; i < taps.size(); ++i) {
    const double centre = grid.begin + (grid.first + static_cast<double>(i) + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + support + 0.5), source);
    std::vector<double> weights;
    double sum = 0;
    for (int x = first; x < last; ++x) {
      weights.push_back(filter.value((x - centre + 0.5) * (1 / stretch)));
      sum += weights.back();
    }
    taps[i].first = first;
    for (const double weight : weights)
      taps[i].weights.push_back(
          static_cast<std::int32_t>(std::lround(weight * (1 / sum) * (1 << fraction_bits))));
  }
  return taps;
}

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> fraction_bits, 0, 255));
}

// Convolve along one axis. `step` is the distance of neighbours along it, in bytes.
void convolve(const std::uint8_t* source, std::size_t step, const Taps& taps, std::uint8_t* out) {
  for (int channel = 0; channel < channels; ++channel) {
    std::int32_t sum = 1 << (fraction_bits - 1);
    const std::uint8_t* at = source + static_cast<std::size_t>(taps.first) * step + channel;
    for (const std::int32_t weight : taps.weights) {
      sum += weight * *at;
      at += step;
    }
    out[channel] = rounded(sum);
  }
}

bool is_whole(const Window& window, int have) {
  return window.size == have && window.resized == have;
}

Image resize_rows(const Image& image, const Window& across, const Grid& grid,
                  const Filter& filter) {
  if (is_whole(across, image.width)) return image;
  const int width = across.size;
  const std::size_t row = static_cast<std::size_t>(image.width) * channels;
  Image out{width, image.height, {}};
  out.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(image.height) *
                    channels);
  const auto taps = taps_for(image.width, grid, width, filter);
  std::uint8_t* to = out.pixels.data();
  for (std::size_t start = 0; start < image.pixels.size(); start += row)
    for (const Taps& column : taps) {
      convolve(&image.pixels[start], channels, column, to);
      to += channels;
    }
  return out;
}

Image resize_columns(const Image& image, const Window& down, const Grid& grid,
                     const Filter& filter) {
  if (is_whole(down, image.height)) return image;
  const int height = down.size;
  const std::size_t row = static_cast<std::size_t>(image.width) * channels;
  Image out{image.width, height, {}};
  out.pixels.resize(row * static_cast<std::size_t>(height));
  const auto taps = taps_for(image.height, grid, height, filter);
  std::uint8_t* to = out.pixels.data();
  for (const Taps& line : taps)
    for (std::size_t column = 0; column < row; column += channels) {
      convolve(&image.pixels[column], row, line, to);
      to += channels;
    }
  return out;
}

// Columns go first where the height shrinks much more than the width, as of Pillow 13; before that
// rows always did. Both round to 8 bits in between, so the order shows.
bool columns_first(const Image& image, double width, double height) {
  return height < image.height && image.height - height > 2 * (image.width - width);
}

}  // namespace

Image resize_like_pillow(const Image& image, const Window& across, const Window& down,
                         Interpolation interpolation, bool of_whole) {
  const Filter filter =
      interpolation == Interpolation::bilinear ? Filter{triangle, 1.0} : Filter{cubic, 2.0};
  const Grid columns = of_whole ? whole_grid(image.width, across) : box_grid(image.width, across);
  const Grid rows = of_whole ? whole_grid(image.height, down) : box_grid(image.height, down);
  const bool columns_are_first = of_whole ? columns_first(image, across.resized, down.resized)
                                          : columns_first(image, across.size, down.size);
  if (columns_are_first)
    return resize_rows(resize_columns(image, down, rows, filter), across, columns, filter);
  return resize_columns(resize_rows(image, across, columns, filter), down, rows, filter);
}

}  // namespace gsp
