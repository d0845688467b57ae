#include "jpeg_stream.hpp"

#include <algorithm>
#include <array>
#include <map>

namespace gsp {
namespace {

constexpr std::string_view exif_prefix{"Exif\0\0", 6};
constexpr std::string_view xmp_prefix{"http://ns.adobe.com/xap/1.0/\0", 29};
constexpr std::string_view jfif{"JFIF\0", 5};
constexpr std::string_view adobe{"Adobe", 5};
constexpr std::string_view end_of_image{"\xff\xd9", 2};
constexpr unsigned end_marker = 0xd9, scan_marker = 0xda, app0 = 0xe0, app1 = 0xe1, app14 = 0xee;

// Where these frequencies of a progressive file were not sent whole, libjpeg guesses them, each of
// its versions in another way.
constexpr std::size_t guessed = 10;
constexpr unsigned nothing_sent = 16;

bool is_restart(unsigned marker) { return marker >= 0xd0 && marker <= 0xd7; }
bool is_alone(unsigned marker) { return marker == 1 || is_restart(marker); }
bool is_metadata(unsigned marker) {
  return (marker >= 0xe0 && marker <= 0xef) || marker == 0xfe || marker == 0xdc;
}
bool is_table(unsigned marker) {
  return marker == 0xc4 || marker == 0xcc || marker == 0xdb || marker == 0xdd;
}
// Baseline, extended and progressive, by Huffman codes or arithmetic ones.
bool is_frame(unsigned marker) {
  return marker == 0xc0 || marker == 0xc1 || marker == 0xc2 || marker == 0xc9 || marker == 0xca;
}
bool is_progressive(unsigned marker) { return marker == 0xc2 || marker == 0xca; }

std::string hexadecimal(unsigned marker) {
  return {'F', 'F', "0123456789ABCDEF"[marker >> 4], "0123456789ABCDEF"[marker & 15]};
}

class Walk {
 public:
  explicit Walk(const Encoded& encoded) : encoded_(encoded), bytes_(encoded.bytes) {}

  JpegStream run() {
    made_.pixels = "\xff\xd8";
    bool in_scan = false;
    for (;;) {
      const std::size_t before = at_;
      const auto marker = next_marker(in_scan);
      if (!marker) {
        if (made_.scans == 0) encoded_.damaged("it ends too early");
        if (in_scan) made_.pixels += bytes_.substr(before);
        return std::move(made_);
      }
      if (in_scan) {
        made_.pixels += bytes_.substr(before, marker_start_ - before);
        if (in_one_scan_) return finished();
      }
      if (*marker == end_marker) {
        if (made_.scans == 0) encoded_.damaged("it has no pixels");
        for (const auto& channel : missing_bits_)
          for (const unsigned bits : channel.second)
            if (bits != 0) encoded_.damaged("scans are missing");
        return finished();
      }
      in_scan = *marker == scan_marker;
      if (!is_alone(*marker)) take_segment(*marker);
    }
  }

 private:
  JpegStream finished() {
    made_.pixels += end_of_image;
    return std::move(made_);
  }

  // Step behind the next marker. Within the data of a scan, restarts belong to it.
  std::optional<unsigned> next_marker(bool in_scan) {
    for (std::size_t at = at_; (at = bytes_.find('\xff', at)) != bytes_.npos;) {
      marker_start_ = at;
      at = bytes_.find_first_not_of('\xff', at);
      if (at == bytes_.npos) break;
      const unsigned marker = byte_at(bytes_, at++);
      if (marker == 0 || (in_scan && is_restart(marker))) continue;
      at_ = at;
      return marker;
    }
    return std::nullopt;
  }

  void take_segment(unsigned marker) {
    const bool metadata = is_metadata(marker);
    if (at_ + 2 > bytes_.size()) encoded_.damaged("it ends too early");
    std::size_t length = big_endian_16(bytes_, at_);
    if (metadata) length = std::max<std::size_t>(length, 2);
    if (at_ + length > bytes_.size()) encoded_.damaged("it ends too early");
    if (length < 2) encoded_.damaged("segment " + hexadecimal(marker) + " has no length");
    const std::string_view body = bytes_.substr(at_ + 2, length - 2);
    at_ += length;
    if (metadata) {
      if (made_.scans == 0) take_metadata(marker, body);
      return;
    }
    if (is_frame(marker))
      take_frame(marker, body);
    else if (marker == scan_marker)
      take_scan(body);
    else if (!is_table(marker))
      encoded_.damaged("it is of a kind of JPEG that is not read, by its marker " +
                       hexadecimal(marker));
    keep(marker, body);
  }

  void take_metadata(unsigned marker, std::string_view body) {
    if (marker == app1 && starts_with(body, exif_prefix)) {
      // A block that is too long for one segment goes on in the next.
      if (made_.exif)
        *made_.exif += body.substr(exif_prefix.size());
      else
        made_.exif = body;
    } else if (marker == app1 && starts_with(body, xmp_prefix)) {
      made_.xmp = body.substr(xmp_prefix.size());
    } else if ((marker == app0 && starts_with(body, jfif) && body.size() >= 14) ||
               (marker == app14 && starts_with(body, adobe) && body.size() >= 12)) {
      keep(marker, body);  // these say what the colours mean
    }
  }

  void take_frame(unsigned marker, std::string_view body) {
    if (made_.components != 0) encoded_.damaged("it has two frames");
    if (body.size() < 6 || body.size() != 6 + 3 * std::size_t{byte_at(body, 5)})
      encoded_.damaged("its frame is not whole");
    const unsigned bits = byte_at(body, 0), channels = byte_at(body, 5);
    if (bits != 8) encoded_.damaged("it has " + std::to_string(bits) + " bits a sample, expected 8");
    if (channels != 1 && channels != 3 && channels != 4)
      encoded_.damaged("it has " + std::to_string(channels) + " channels, expected 1, 3 or 4");
    made_.height = static_cast<int>(big_endian_16(body, 1));
    made_.width = static_cast<int>(big_endian_16(body, 3));
    made_.components = static_cast<int>(channels);
    made_.progressive = is_progressive(marker);
    if (!made_.progressive) return;
    for (std::size_t at = 6; at < body.size(); at += 3)
      missing_bits_[byte_at(body, at)].fill(nothing_sent);
  }

  void take_scan(std::string_view body) {
    if (made_.components == 0 || body.empty()) encoded_.damaged("a scan comes before its frame");
    if (body.size() != 4 + 2 * std::size_t{byte_at(body, 0)})
      encoded_.damaged("a scan's header is not whole");
    const std::size_t end = body.size() - 3;
    const unsigned first = byte_at(body, end), last = byte_at(body, end + 1);
    for (std::size_t at = 1; at < end; at += 2)
      if (const auto found = missing_bits_.find(byte_at(body, at)); found != missing_bits_.end())
        for (std::size_t i = first; i <= last && i < guessed; ++i)
          found->second[i] = byte_at(body, end + 2) & 15;
    if (++made_.scans > max_scans)
      encoded_.damaged("it has more than " + std::to_string(max_scans) + " scans");
    in_one_scan_ = !made_.progressive && made_.scans == 1 &&
                   byte_at(body, 0) == static_cast<unsigned>(made_.components);
  }

  void keep(unsigned marker, std::string_view body) {
    const std::size_t length = body.size() + 2;
    for (const std::size_t byte : {std::size_t{0xff}, std::size_t{marker}, length >> 8, length & 255})
      made_.pixels += static_cast<char>(byte);
    made_.pixels += body;
  }

  const Encoded& encoded_;
  std::string_view bytes_;
  std::size_t at_ = 2;
  std::size_t marker_start_ = 0;
  bool in_one_scan_ = false;
  // What scans have not sent yet of a progressive file's lowest frequencies, by channel.
  std::map<unsigned, std::array<unsigned, guessed>> missing_bits_;
  JpegStream made_;
};

}  // namespace

JpegStream read_jpeg(const Encoded& encoded) { return Walk(encoded).run(); }

}  // namespace gsp
