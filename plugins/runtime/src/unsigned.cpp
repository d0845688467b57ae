// The rules of gsp_deploy/artifact/unsigned.py, on the file's own bytes: ONNX Runtime's C API has
// nothing to change a graph with.
#include "unsigned.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <vector>

#include "onnx_file.hpp"
#include "protobuf.hpp"

namespace gsp {
namespace {

using onnx::Name;
using onnx::Node;
using onnx::Tensor;
using protobuf::Field;
using protobuf::fields_of;
using protobuf::Wire;
namespace field = onnx::field;
using Limits = std::pair<int, int>;

constexpr std::uint64_t first_operator_set = 13;  // Clip and MaxPool take uint8
constexpr int zero_point = 128;
constexpr std::size_t scale_at = 1, point_at = 2;  // inputs of both operators

class Graph {
 public:
  explicit Graph(std::string_view message) : fields_(fields_of(message)) {
    for (const Field& part : fields_) {
      if (part.wire != Wire::bytes) continue;
      if (part.number == field::node) nodes_.push_back(onnx::node_of(part.content));
      if (part.number == field::initializer)
        tensors_[onnx::name_of(part.content, field::tensor_name)] = onnx::tensor_of(part.content);
      if (part.number == field::output) outputs_.insert(onnx::name_of(part.content, field::value_name));
    }
    for (Node& node : nodes_)
      for (const Name input : node.inputs) readers_[input].push_back(&node);
  }

  // The rewritten graph, or nothing if it must stay as it is.
  std::optional<std::string> rewritten() {
    if (!find_zero_points()) return std::nullopt;
    stay_in_integers();
    std::string out;
    std::size_t index = 0;
    for (const Field& part : fields_) {
      if (part.number == field::node && part.wire == Wire::bytes) {
        const std::string& replacement = nodes_[index++].replacement;
        if (!replacement.empty()) {
          protobuf::append_bytes(out, field::node, replacement);
          continue;
        }
      } else if (part.number == field::initializer && part.wire == Wire::bytes) {
        const Name name = onnx::name_of(part.content, field::tensor_name);
        if (points_.count(name) != 0) {
          protobuf::append_bytes(out, field::initializer, stored(name, tensors_[name].dims));
          continue;
        }
      } else if (part.number == field::value_info) {
        continue;  // it has the old types
      }
      out.append(part.whole);
    }
    for (const auto& [name, value] : bounds_)
      protobuf::append_bytes(out, field::initializer, stored(name, {}, value));
    return out;
  }

 private:
  // Whether every zero point of an activation can be replaced.
  bool find_zero_points() {
    std::set<Name> quantised, others = outputs_;
    for (const Node& node : nodes_)
      if (node.type == "QuantizeLinear" && !node.outputs.empty()) quantised.insert(node.outputs[0]);
    for (const Node& node : nodes_) {
      const bool quantises = node.type == "QuantizeLinear";
      const bool is_pair = quantises || (node.type == "DequantizeLinear" && !node.inputs.empty() &&
                                         quantised.count(node.inputs[0]) != 0);
      if (!is_pair) {
        others.insert(node.inputs.begin(), node.inputs.end());
      } else if (node.inputs.size() <= point_at) {
        return false;
      } else {
        points_.insert(node.inputs[point_at]);
        if (quantises) others.insert(node.inputs.begin(), node.inputs.begin() + point_at);
      }
    }
    const auto is_other = [&others](Name name) { return others.count(name) != 0; };
    return !points_.empty() &&
           std::all_of(points_.begin(), points_.end(),
                       [&](Name name) { return is_signed_zero(name) && !is_other(name); }) &&
           std::none_of(quantised.begin(), quantised.end(), is_other);
  }

  bool is_signed_zero(Name name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return false;
    const Tensor& tensor = found->second;
    const auto is_zero = [](auto value) { return value == 0; };
    return tensor.type == onnx::int8 && !tensor.is_external &&
           std::all_of(tensor.raw.begin(), tensor.raw.end(), is_zero) &&
           std::all_of(tensor.packed.begin(), tensor.packed.end(), is_zero) &&
           std::all_of(tensor.numbers.begin(), tensor.numbers.end(), is_zero);
  }

  // Between two pairs of one scale, run what keeps the order of values on the integers.
  void stay_in_integers() {
    for (Node& start : nodes_) {
      if (start.type != "DequantizeLinear") continue;
      std::vector<Node*> chain = chain_after(start);
      if (chain.size() < 2 || chain.back()->type != "QuantizeLinear") continue;
      Node& end = *chain.back();
      const auto scale = scalar(start, scale_at);
      if (!scale || scale != scalar(end, scale_at) || end.outputs.size() != 1) continue;
      chain.pop_back();
      std::vector<std::optional<Limits>> limits;  // by operator
      for (const Node* node : chain) limits.push_back(limits_of(*node, *scale));
      if (std::find(limits.begin(), limits.end(), std::nullopt) != limits.end()) continue;
      start.replacement = replaced(start, "Identity", {start.inputs[0]});
      end.replacement = replaced(end, "Identity", {end.inputs[0]});
      for (std::size_t i = 0; i < chain.size(); ++i)
        if (chain[i]->type != "MaxPool") clip(*chain[i], *limits[i]);
    }
  }

  // The operators after a node that keep the order, and the first other one; each is read once.
  std::vector<Node*> chain_after(const Node& start) {
    std::vector<Node*> chain;
    for (const Node* node = &start; node->outputs.size() == 1; node = chain.back()) {
      const Name value = node->outputs[0];
      const auto& readers = readers_[value];
      if (outputs_.count(value) != 0 || readers.size() != 1 || readers[0]->inputs[0] != value ||
          chain.size() > nodes_.size())
        break;
      chain.push_back(readers[0]);
      const Name type = readers[0]->type;
      if (type != "Relu" && type != "Clip" && type != "MaxPool") break;
    }
    return chain;
  }

  std::optional<float> scalar(const Node& node, std::size_t input) const {
    const auto found = node.inputs.size() > input ? tensors_.find(node.inputs[input]) : tensors_.end();
    if (found == tensors_.end() || found->second.type != onnx::float32 || !found->second.dims.empty() ||
        found->second.is_external)
      return std::nullopt;
    const std::string_view bytes = found->second.raw.empty() ? found->second.packed : found->second.raw;
    float value = 0;
    if (bytes.size() != sizeof value) return std::nullopt;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  // The least and the most integer that an operator lets through, if they are known.
  std::optional<Limits> limits_of(const Node& node, float scale) const {
    std::optional<float> least = 0.0f, most = std::numeric_limits<float>::infinity();
    if (node.type == "MaxPool") return Limits(0, 255);
    if (node.type == "Clip") {
      if (node.inputs.size() != 3) return std::nullopt;
      least = scalar(node, 1), most = scalar(node, 2);
    }
    if (!least || !most) return std::nullopt;
    const auto integer = [scale](float bound) {
      const float value = std::nearbyint(bound / scale) + static_cast<float>(zero_point);
      return value >= 0 ? static_cast<int>(std::min(value, 255.0f)) : 0;
    };
    return Limits(integer(*least), integer(*most));
  }

  void clip(Node& node, Limits limits) {
    const std::string least = std::string(node.outputs[0]) + "/least";
    const std::string most = std::string(node.outputs[0]) + "/most";
    node.replacement = replaced(node, "Clip", {node.inputs[0], least, most});
    bounds_.emplace_back(least, limits.first);
    bounds_.emplace_back(most, limits.second);
  }

  static std::string replaced(const Node& node, Name type, std::initializer_list<Name> inputs) {
    std::string out;
    for (const Name input : inputs) protobuf::append_bytes(out, field::node_input, input);
    protobuf::append_bytes(out, field::node_output, node.outputs[0]);
    if (!node.name.empty()) protobuf::append_bytes(out, field::node_name, node.name);
    protobuf::append_bytes(out, field::operator_type, type);
    return out;
  }

  // A uint8 tensor of one value.
  static std::string stored(Name name, const std::vector<std::uint64_t>& dims,
                            int value = zero_point) {
    std::string out;
    std::uint64_t count = 1;
    for (const std::uint64_t extent : dims) {
      protobuf::append_number(out, field::dims, extent);
      if (extent > 1 << 16 || (count *= extent) > 1 << 16)
        throw std::runtime_error("a zero point of too many values");
    }
    protobuf::append_number(out, field::data_type, onnx::uint8);
    protobuf::append_bytes(out, field::tensor_name, name);
    protobuf::append_bytes(out, field::raw_data,
                           std::string(static_cast<std::size_t>(count), static_cast<char>(value)));
    return out;
  }

  std::vector<Field> fields_;
  std::vector<Node> nodes_;
  std::map<Name, Tensor> tensors_;
  std::map<Name, std::vector<Node*>> readers_;
  std::set<Name> outputs_, points_;
  std::vector<std::pair<std::string, int>> bounds_;
};

}  // namespace

std::optional<std::string> unsign(const std::string& model) {
  if (model.find("QuantizeLinear") == std::string::npos) return std::nullopt;
  try {
    const std::vector<Field> parts = fields_of(model);
    if (onnx::operator_set_of(parts) < first_operator_set) return std::nullopt;
    std::string out;
    bool changed = false;
    for (const Field& part : parts) {
      if (part.number == field::graph && part.wire == Wire::bytes) {
        const auto graph = Graph(part.content).rewritten();
        if (!graph) return std::nullopt;
        protobuf::append_bytes(out, field::graph, *graph);
        changed = true;
      } else {
        out.append(part.whole);
      }
    }
    return changed ? std::optional(out) : std::nullopt;
  } catch (const std::runtime_error&) {
    return std::nullopt;  // ONNX Runtime says what is wrong with the file
  }
}

}  // namespace gsp
