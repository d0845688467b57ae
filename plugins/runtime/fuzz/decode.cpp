// Any bytes become an image or an Error; an image fits a model by every pipeline.
#include <cstdlib>
#include <gsp/error.hpp>
#include <gsp/image.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const gsp::Image image = gsp::decode_image(data, size, "fuzzed");
    const auto pixels = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
    if (image.pixels.size() != 3 * pixels || pixels == 0) std::abort();
    if (pixels > 1 << 16) return 0;  // the rest is slow, and known
    gsp::Preprocessing spec;
    spec.height = 1 + data[size / 2] % 40;
    spec.width = 1 + data[size / 3] % 40;
    spec.crop_ratio = (1 + data[size - 1]) / 256.0;
    spec.pipeline = static_cast<gsp::Pipeline>(data[size / 4] % 4);
    gsp::fit_image(image, spec);
  } catch (const gsp::Error&) {
  }
  return 0;
}
