// What the Python tests look at the library through; each word is one function of it.
//
//   probe fit HEIGHT WIDTH bilinear|bicubic crop|stretch CROP_RATIO FILE OUT [PIPELINE]
//                             pixels as raw bytes
//   probe json FILE...        "ok" or the error, a line for each
//   probe image FILE...       "WxH" or the error, a line for each
//   probe pixels FOLDER FILE...  as image; FOLDER/0, FOLDER/1, ... become the RGB of each file
//   probe npy FILE...         shape and sum of a float32 or uint8 array, or the error of the second
//   probe open BUNDLE...      the model's name or the error, a line for each; no hashes are checked
//   probe sha256 FILE         hash
//   probe unsigned FOLDER FILE...  "rewritten" or "left alone"; FOLDER/0, ... become the former
//   probe half                all 65536 values there and back
//   probe residual BUNDLE FILE...   each image's residual, a line for each, or the error
//   probe threads BUNDLE N    N threads on one Embedder against one thread, then moves it
//   probe signal BUNDLE       a signal after two Embedders, closed in the order of their opening
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <gsp/embedder.hpp>
#include <gsp/npy.hpp>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "half.hpp"
#include "json.hpp"
#include "sha256.hpp"
#include "unsigned.hpp"

namespace {

using Words = std::vector<std::string>;

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

std::string read(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_pixels(const gsp::Image& image, const std::string& file) {
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(image.pixels.data()),
             static_cast<std::streamsize>(image.pixels.size()));
}

void fit(const Words& words) {
  gsp::Preprocessing spec;
  spec.height = std::stoi(words.at(0));
  spec.width = std::stoi(words.at(1));
  spec.interpolation =
      words.at(2) == "bicubic" ? gsp::Interpolation::bicubic : gsp::Interpolation::bilinear;
  spec.resize = words.at(3) == "stretch" ? gsp::ResizeMode::stretch : gsp::ResizeMode::crop;
  spec.crop_ratio = std::stod(words.at(4));
  const std::string pipeline = words.size() > 7 ? words[7] : "torchvision";
  spec.pipeline = pipeline == "timm"     ? gsp::Pipeline::timm
                  : pipeline == "opencv" ? gsp::Pipeline::opencv
                  : pipeline == "pillow" ? gsp::Pipeline::pillow
                                         : gsp::Pipeline::torchvision;
  write_pixels(gsp::fit_image(gsp::decode_image(words.at(5)), spec), words.at(6));
}

// A line for each file: what `tell` returns, or the error.
template <typename Tell>
void tell_each(const Words& files, Tell tell) {
  for (const auto& file : files) {
    try {
      std::puts(tell(file).c_str());
    } catch (const gsp::Error& error) {
      std::puts(error.what());
    }
  }
}

std::string parse(const std::string& file) {
  gsp::Json::parse(read(file), "text");
  return "ok";
}

std::string decode(const std::string& file, const std::string& out = "") {
  const gsp::Image image = gsp::decode_image(file);
  if (!out.empty()) write_pixels(image, out);
  return std::to_string(image.width) + "x" + std::to_string(image.height);
}

void pixels(const Words& words) {
  int index = 0;
  tell_each({words.begin() + 1, words.end()}, [&](const std::string& file) {
    return decode(file, words.at(0) + "/" + std::to_string(index++));
  });
}

void rewrite(const Words& words) {
  int index = 0;
  tell_each({words.begin() + 1, words.end()}, [&](const std::string& file) {
    const std::string out = words.at(0) + "/" + std::to_string(index++);
    const auto found = gsp::unsign(read(file));
    if (found) std::ofstream(out, std::ios::binary) << *found;
    return std::string(found ? "rewritten" : "left alone");
  });
}

template <typename T>
std::string shape_and_sum(const gsp::Array<T>& array) {
  std::string text;
  for (const std::size_t extent : array.shape) text += std::to_string(extent) + " ";
  return text + "sum " +
         std::to_string(std::accumulate(array.values.begin(), array.values.end(), 0.0));
}

std::string array(const std::string& file) {
  try {
    return shape_and_sum(gsp::read_npy_float32(file));
  } catch (const gsp::Error&) {
    return shape_and_sum(gsp::read_npy_uint8(file));
  }
}

std::string open(const std::string& bundle) {
  gsp::Options options;
  options.verify_hashes = false;
  return gsp::Embedder::open(bundle, options).info().model;
}

void residual(const Words& words) {
  gsp::Options options;
  options.max_batch = 2;
  const auto embedder = gsp::Embedder::open(words.at(0), options);
  std::vector<gsp::Image> images;
  for (std::size_t i = 1; i < words.size(); ++i) images.push_back(gsp::decode_image(words[i]));
  std::vector<float> alone, found, residuals;
  embedder.embed(images, alone);
  embedder.embed(images, found, residuals);
  require(found == alone, "a residual changes no embedding");
  require(residuals.size() == images.size(), "one residual per image");
  for (const float value : residuals) std::printf("%.9g\n", static_cast<double>(value));
}

void half(const Words&) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = gsp::from_half(static_cast<std::uint16_t>(bits));
    std::printf("%.9g %u\n", static_cast<double>(value), unsigned{gsp::to_half(value)});
  }
  const float between[] = {1.00048828125f, 1.00146484375f, 65519.0f, 65520.0f,
                           1e-8f,          3e-8f,          6.1e-5f};
  for (const float value : between)
    std::printf("%.9g %u\n", static_cast<double>(value), unsigned{gsp::to_half(value)});
}

void threads(const Words& words) {
  gsp::Options options;
  options.threads = 1;
  options.max_batch = 3;  // 7 images are three runs, the last one short
  auto embedder = gsp::Embedder::open(words.at(0), options);
  const auto& spec = embedder.info().preprocessing;
  const std::size_t count = 7, dim = embedder.info().embedding_dim;
  std::vector<std::uint8_t> pixels(count * 3 * static_cast<std::size_t>(spec.height * spec.width));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * i % 251);
  std::vector<float> alone(count * dim);
  embedder.embed_pixels(pixels.data(), count, alone.data());

  std::vector<std::vector<float>> found(static_cast<std::size_t>(std::stoi(words.at(1))));
  std::vector<std::thread> running;
  for (auto& out : found) {
    out.resize(count * dim);
    running.emplace_back([&] {
      for (int round = 0; round < 3; ++round)
        embedder.embed_pixels(pixels.data(), count, out.data());
    });
  }
  for (auto& thread : running) thread.join();
  for (const auto& out : found) require(out == alone, "threads disagree");

  gsp::Embedder moved = std::move(embedder);
  std::vector<float> again(count * dim);
  moved.embed_pixels(pixels.data(), count, again.data());
  require(again == alone, "a moved Embedder disagrees");
  std::vector<float> none = {1, 2};
  moved.embed({}, none);
  require(none.empty(), "no images make no embeddings");
  const float bad = std::nanf("");
  const std::vector<float> inputs(pixels.size(), bad);
  try {
    moved.embed_normalised(inputs.data(), count, again.data());
    require(false, "NaN was taken");
  } catch (const gsp::Error& error) {
    require(error.kind() == gsp::ErrorKind::usage, "NaN is an error of use");
  }
  try {
    moved.embed_device(nullptr, 1, nullptr, nullptr);
    require(false, "a device pointer was taken on a CPU");
  } catch (const gsp::Error& error) {
    require(error.kind() == gsp::ErrorKind::missing, "a GPU is missing");
  }
  std::puts("ok");
}

void signal_after(const Words& words) {
  auto first = std::make_unique<gsp::Embedder>(gsp::Embedder::open(words.at(0)));
  auto second = std::make_unique<gsp::Embedder>(gsp::Embedder::open(words.at(0)));
  first.reset();
  second.reset();
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &action, nullptr);
  std::raise(SIGUSR1);
  std::puts("ok");
}

}  // namespace

int main(int argc, char** argv) {
  const Words words(argv + 2, argv + argc);
  const std::string what = argc > 1 ? argv[1] : "";
  try {
    if (what == "fit")
      fit(words);
    else if (what == "json")
      tell_each(words, parse);
    else if (what == "image")
      tell_each(words, [](const std::string& file) { return decode(file); });
    else if (what == "pixels")
      pixels(words);
    else if (what == "npy")
      tell_each(words, array);
    else if (what == "open")
      tell_each(words, open);
    else if (what == "sha256")
      std::puts(gsp::sha256_of(words.at(0)).c_str());
    else if (what == "unsigned")
      rewrite(words);
    else if (what == "half")
      half(words);
    else if (what == "residual")
      residual(words);
    else if (what == "threads")
      threads(words);
    else if (what == "signal")
      signal_after(words);
    else
      throw std::runtime_error("what?");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
