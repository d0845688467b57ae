// What a rewriting of an ONNX file reads of it: nodes, stored tensors and the operator set.
// Field numbers are those of onnx.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protobuf.hpp"

namespace gsp::onnx {

using Name = std::string_view;

namespace field {
enum Model : std::uint64_t { graph = 7, operator_set = 8 };
enum OperatorSet : std::uint64_t { domain = 1, version = 2 };
enum Graph : std::uint64_t { node = 1, initializer = 5, output = 12, value_info = 13 };
enum Node : std::uint64_t { node_input = 1, node_output = 2, node_name = 3, operator_type = 4 };
enum Tensor : std::uint64_t {
  dims = 1, data_type = 2, float_data = 4, int32_data = 5, tensor_name = 8, raw_data = 9,
  data_location = 14
};
enum ValueInfo : std::uint64_t { value_name = 1 };
}  // namespace field

constexpr std::uint64_t float32 = 1, uint8 = 2, int8 = 3;  // TensorProto.DataType

struct Node {
  Name type, name;
  std::vector<Name> inputs, outputs;
  std::string replacement;  // empty: the node stays
};

struct Tensor {
  std::uint64_t type = 0;
  bool is_external = false;
  std::vector<std::uint64_t> dims;
  std::string_view raw;
  std::string_view packed;             // float_data or int32_data
  std::vector<std::uint64_t> numbers;  // int32_data that is not packed
};

Node node_of(std::string_view message);
Tensor tensor_of(std::string_view message);

// The text in a field of a message; empty if there is none.
Name name_of(std::string_view message, std::uint64_t number);

// The version of ONNX's own operators in the fields of a model.
std::uint64_t operator_set_of(const std::vector<protobuf::Field>& model);

}  // namespace gsp::onnx
