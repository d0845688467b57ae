// From an image file to pixels of the model's size, by the rules that the Python package follows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gsp/api.hpp>
#include <gsp/limits.hpp>
#include <string>
#include <vector>

namespace gsp {

// 8-bit RGB, rows from the top without gaps: pixels[(y * width + x) * 3 + channel].
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;
};

enum class Interpolation { bilinear, bicubic };
enum class ResizeMode { crop, stretch };
// Whose pixels these are, to the pixel: how sides and the crop's start are rounded. `opencv` does
// not antialias; `pillow` is what bundles mean that do not name a pipeline.
enum class Pipeline { torchvision, timm, opencv, pillow };

// How an image becomes the network's input. `crop` resizes so that the image covers
// size / crop_ratio and cuts the centre out; `stretch` does so in another aspect ratio, but keeps
// all with the pipeline `pillow`. Then (pixel / 255 - mean) / std for each channel.
struct Preprocessing {
  int height = 0;
  int width = 0;
  std::array<double, 3> mean{};
  std::array<double, 3> std{};
  Interpolation interpolation = Interpolation::bilinear;
  ResizeMode resize = ResizeMode::crop;
  double crop_ratio = 1.0;
  Pipeline pipeline = Pipeline::torchvision;
};

// Decode a JPEG or PNG within the limits of limits.hpp and turn it upright by its metadata.
// Transparency is laid on white, 16 bits become 8. `name` is what errors call the image.
// Throws Error(image).
GSP_API Image decode_image(const std::uint8_t* bytes, std::size_t size, const std::string& name);
GSP_API Image decode_image(const std::filesystem::path& file);

// Resize and crop to the model's size, in 8-bit fixed-point arithmetic.
// Throws Error: usage when the image is not whole, runtime when there is not enough memory.
GSP_API Image fit_image(const Image& image, const Preprocessing& spec);

}  // namespace gsp
