// Resizing by convolution, as Pillow defines it: the filter is stretched by the scale when
// shrinking (antialiasing), one axis after the other, each pass rounded to 8 bits.
#include <algorithm>
#include <cmath>
#include <gsp/error.hpp>
#include <gsp/image.hpp>

namespace gsp {
namespace {

constexpr int fraction_bits = 22;  // of a weight, so that 8-bit sums fit 32 bits
constexpr int channels = 3;
constexpr double largest_side = 1e100;  // what a crop ratio next to 0 asks for is infinite

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

struct Span {
  float begin, end;  // in source pixels; single precision, as Pillow takes its box
};

std::vector<Taps> taps_for(int source, Span span, int wanted, const Filter& filter) {
  const double scale = static_cast<double>(span.end - span.begin) / wanted;
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  std::vector<Taps> taps(static_cast<std::size_t>(wanted));
  for (std::size_t i = 0; i < taps.size(); ++i) {
    const double centre = span.begin + (static_cast<double>(i) + 0.5) * scale;
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

bool is_whole(Span span, int source, int wanted) {
  return source == wanted && span.begin == 0 && span.end == static_cast<float>(source);
}

Image resize_rows(const Image& image, Span across, int width, const Filter& filter) {
  if (is_whole(across, image.width, width)) return image;
  const std::size_t row = static_cast<std::size_t>(image.width) * channels;
  Image out{width, image.height, {}};
  out.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(image.height) *
                    channels);
  const auto taps = taps_for(image.width, across, width, filter);
  std::uint8_t* to = out.pixels.data();
  for (std::size_t start = 0; start < image.pixels.size(); start += row)
    for (const Taps& column : taps) {
      convolve(&image.pixels[start], channels, column, to);
      to += channels;
    }
  return out;
}

Image resize_columns(const Image& image, Span down, int height, const Filter& filter) {
  if (is_whole(down, image.height, height)) return image;
  const std::size_t row = static_cast<std::size_t>(image.width) * channels;
  Image out{image.width, height, {}};
  out.pixels.resize(row * static_cast<std::size_t>(height));
  const auto taps = taps_for(image.height, down, height, filter);
  std::uint8_t* to = out.pixels.data();
  for (const Taps& line : taps)
    for (std::size_t column = 0; column < row; column += channels) {
      convolve(&image.pixels[column], row, line, to);
      to += channels;
    }
  return out;
}

// Columns go first where the height shrinks much more than the width, as of Pillow 13; before that
// rows always did. Both round to 8 bits in between, so they differ by 1 in some pixels.
bool columns_first(const Image& image, int width, int height) {
  return height < image.height && image.height - height > 2 * (image.width - width);
}

Image resize(const Image& image, Span across, Span down, int width, int height,
             const Filter& filter) {
  if (columns_first(image, width, height))
    return resize_rows(resize_columns(image, down, height, filter), across, width, filter);
  return resize_columns(resize_rows(image, across, width, filter), down, height, filter);
}

// The part of one side that the centred crop sees. The crop lies on whole pixels of the resized
// image, which itself is never made: that of a long thin image would be huge.
Span cropped(int have, int want, double scale) {
  const double resized = std::clamp<double>(std::nearbyint(have * scale), want, largest_side);
  const double start = std::floor((resized - want) / 2);
  const double end = std::min<double>((start + want) * have / resized, have);
  return {static_cast<float>(start * have / resized), static_cast<float>(end)};
}

}  // namespace

Image fit_image(const Image& image, const Preprocessing& spec) {
  if (spec.width < 1 || spec.height < 1 || !(spec.crop_ratio > 0 && spec.crop_ratio <= 1))
    throw Error(ErrorKind::usage,
                "expected a model's size and a crop ratio above 0 and at most 1, got " +
                    std::to_string(spec.width) + "x" + std::to_string(spec.height) + " and " +
                    std::to_string(spec.crop_ratio));
  const auto bytes =
      static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * channels;
  if (image.width < 1 || image.height < 1 || image.pixels.size() != bytes)
    throw Error(ErrorKind::usage, "expected an image of width x height RGB pixels, got " +
                                      std::to_string(image.width) + "x" +
                                      std::to_string(image.height) + " and " +
                                      std::to_string(image.pixels.size()) + " bytes");
  Span across{0, static_cast<float>(image.width)}, down{0, static_cast<float>(image.height)};
  if (spec.resize == ResizeMode::crop) {
    const double scale = std::max(static_cast<double>(spec.width) / image.width,
                                  static_cast<double>(spec.height) / image.height) /
                         spec.crop_ratio;
    across = cropped(image.width, spec.width, scale);
    down = cropped(image.height, spec.height, scale);
  }
  const Filter filter =
      spec.interpolation == Interpolation::bilinear ? Filter{triangle, 1.0} : Filter{cubic, 2.0};
  return resize(image, across, down, spec.width, spec.height, filter);
}

}  // namespace gsp
