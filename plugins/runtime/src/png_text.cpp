#include "png_text.hpp"

#include "decode.hpp"
#include "inflate.hpp"

namespace gsp {
namespace {

using Text = std::optional<std::string>;

Text plain(std::string_view text) {
  if (text.size() > static_cast<std::size_t>(max_text_bytes)) return std::nullopt;
  return std::string(text);
}

Text packed(std::string_view data) {
  bool more = false;
  const auto bytes =
      unpacked(data, Packing::zlib, static_cast<std::size_t>(max_text_bytes), more);
  if (!bytes || more) return std::nullopt;
  return std::string(bytes->begin(), bytes->end());
}

// The text after the flags, the language and the translated keyword.
Text international(std::string_view rest) {
  if (rest.size() < 2) return std::nullopt;
  std::string_view text = rest.substr(2);
  for (int i = 0; i < 2; ++i) {
    const auto end = text.find('\0');
    if (end == text.npos) return std::nullopt;
    text.remove_prefix(end + 1);
  }
  if (rest[0] == 0) return plain(text);
  return rest[1] == 0 ? packed(text) : std::nullopt;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<PngText> png_text(std::string_view kind, std::string_view data) {
  const auto end = data.find('\0');
  const std::string_view keyword = data.substr(0, end);
  const std::string_view rest = end == data.npos ? std::string_view{} : data.substr(end + 1);
  std::string_view key;
  for (const std::string_view known : {exif_key, profile_key, xmp_key})
    if (keyword == known) key = known;
  if (key.empty() || (key == exif_key && kind != "tEXt")) return std::nullopt;
  Text text;
  if (kind == "tEXt")
    text = plain(rest);
  else if (kind == "zTXt" && (rest.empty() || rest[0] == '\0'))
    text = packed(rest.empty() ? rest : rest.substr(1));
  else if (kind == "iTXt")
    text = international(rest);
  if (!text) return std::nullopt;
  return PngText{key, std::move(*text)};
}

std::optional<std::string> unpacked_profile(std::string_view text) {
  for (int i = 0; i < 3; ++i) {
    const auto end = text.find('\n');
    if (end == text.npos) return std::string();
    text.remove_prefix(end + 1);
  }
  std::string digits;
  for (const char c : text)
    if (c != '\n') digits += c;
  std::string block;
  for (std::size_t at = 0; at < digits.size();) {
    if (is_space(digits[at])) {
      ++at;
      continue;
    }
    const int high = digit(digits[at]), low = at + 1 < digits.size() ? digit(digits[at + 1]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    block += static_cast<char>(high << 4 | low);
    at += 2;
  }
  return block;
}

}  // namespace gsp
