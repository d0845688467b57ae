// Any bytes state an orientation from 1 to 8; nothing is thrown.
#include "orientation.hpp"

#include <cstdlib>

#include "png_text.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t half = size / 2;
  const std::string first(bytes.substr(0, half)), second(bytes.substr(half)), whole(bytes);
  for (const auto& exif : {std::optional<std::string>(whole), gsp::unpacked_profile(bytes)})
    for (const auto& xmp : {std::optional<std::string>(second), std::optional<std::string>()}) {
      const int found = gsp::stated_orientation(exif, xmp);
      if (found < 1 || found > 8) std::abort();
    }
  for (const char* kind : {"tEXt", "zTXt", "iTXt"})
    if (const auto text = gsp::png_text(kind, bytes);
        text && text->text.size() > static_cast<std::size_t>(gsp::max_text_bytes))
      std::abort();
  return 0;
}
