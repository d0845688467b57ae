#include "protobuf.hpp"

#include <stdexcept>

namespace gsp::protobuf {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}

  bool empty() const { return rest_.empty(); }
  const char* position() const { return rest_.data(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      if (shift < 64) value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("a number of more than 10 bytes");
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) throw std::runtime_error("a field is longer than what holds it");
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(static_cast<std::size_t>(size));
    return taken;
  }

 private:
  std::string_view rest_;
};

}  // namespace

std::vector<Field> fields_of(std::string_view message) {
  std::vector<Field> found;
  Reader reader(message);
  while (!reader.empty()) {
    const char* start = reader.position();
    const std::uint64_t tag = reader.varint();
    Field field;
    field.number = tag >> 3;
    field.wire = static_cast<Wire>(tag & 7);
    switch (field.wire) {
      case Wire::varint: field.value = reader.varint(); break;
      case Wire::bytes: field.content = reader.take(reader.varint()); break;
      case Wire::eight_bytes: field.content = reader.take(8); break;
      case Wire::four_bytes: field.content = reader.take(4); break;
      default: throw std::runtime_error("a field of an unknown wire type");
    }
    field.whole = {start, static_cast<std::size_t>(reader.position() - start)};
    found.push_back(field);
  }
  return found;
}

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void append_number(std::string& out, std::uint64_t field, std::uint64_t value) {
  append_varint(out, field << 3 | static_cast<unsigned>(Wire::varint));
  append_varint(out, value);
}

void append_bytes(std::string& out, std::uint64_t field, std::string_view content) {
  append_varint(out, field << 3 | static_cast<unsigned>(Wire::bytes));
  append_varint(out, content.size());
  out.append(content);
}

}  // namespace gsp::protobuf
