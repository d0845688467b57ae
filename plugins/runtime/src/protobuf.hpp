// Protobuf's wire format, as far as rewriting a few fields of an ONNX file needs it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gsp::protobuf {

enum class Wire : unsigned { varint = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };

struct Field {
  std::uint64_t number = 0;
  Wire wire = Wire::varint;
  std::uint64_t value = 0;    // of a varint
  std::string_view content;   // of the others
  std::string_view whole;     // with its tag and length
};

// The fields of a message, in order. Throws std::runtime_error if it is no whole message.
std::vector<Field> fields_of(std::string_view message);

void append_varint(std::string& out, std::uint64_t value);
void append_number(std::string& out, std::uint64_t field, std::uint64_t value);
void append_bytes(std::string& out, std::uint64_t field, std::string_view content);

}  // namespace gsp::protobuf
