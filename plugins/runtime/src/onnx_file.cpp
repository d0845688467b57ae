#include "onnx_file.hpp"

#include <stdexcept>

namespace gsp::onnx {

using protobuf::Field;
using protobuf::fields_of;
using protobuf::Wire;

Node node_of(std::string_view message) {
  Node made;
  for (const Field& part : fields_of(message)) {
    if (part.wire != Wire::bytes) continue;
    switch (part.number) {
      case field::node_input: made.inputs.push_back(part.content); break;
      case field::node_output: made.outputs.push_back(part.content); break;
      case field::node_name: made.name = part.content; break;
      case field::operator_type: made.type = part.content; break;
      default: break;
    }
  }
  return made;
}

Tensor tensor_of(std::string_view message) {
  Tensor made;
  for (const Field& part : fields_of(message)) {
    if (part.number == field::dims && part.wire == Wire::varint)
      made.dims.push_back(part.value);
    if (part.number == field::dims && part.wire == Wire::bytes)
      throw std::runtime_error("packed dimensions");  // onnx.proto does not pack them
    if (part.number == field::data_type) made.type = part.value;
    if (part.number == field::raw_data) made.raw = part.content;
    if (part.number == field::data_location) made.is_external = part.value != 0;
    if (part.number == field::float_data || part.number == field::int32_data) {
      if (part.wire == Wire::varint)
        made.numbers.push_back(part.value);
      else
        made.packed = part.content;
    }
  }
  return made;
}

std::uint64_t operator_set_of(const std::vector<Field>& model) {
  std::uint64_t found = 0;
  for (const Field& part : model) {
    if (part.number != field::operator_set || part.wire != Wire::bytes) continue;
    Name domain;
    std::uint64_t version = 0;
    for (const Field& entry : fields_of(part.content)) {
      if (entry.number == field::domain) domain = entry.content;
      if (entry.number == field::version) version = entry.value;
    }
    if (domain.empty() || domain == "ai.onnx") found = version;
  }
  return found;
}

Name name_of(std::string_view message, std::uint64_t number) {
  for (const Field& part : fields_of(message))
    if (part.number == number && part.wire == Wire::bytes) return part.content;
  return {};
}

}  // namespace gsp::onnx
