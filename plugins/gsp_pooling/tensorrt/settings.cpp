#include "settings.h"

#include <array>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace gsp_deploy::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

constexpr const char* kVersionField = "serialization_version";

// The words that stand in ONNX, by the number that the kernel has for them.
constexpr std::array<const char*, 3> kPoolingWords = {"gap", "gmp", "gem"};
constexpr std::array<const char*, 3> kSolverWords = {"fixed-point", "newton", "certified"};
constexpr std::array<const char*, 3> kTypeWords = {"fp32", "fp16", "bf16"};

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

// The fields by name, each to be taken once; what is left over is unknown.
class Reader {
 public:
  explicit Reader(const PluginFieldCollection& fields) {
    for (int32_t i = 0; i < fields.nbFields; ++i) {
      const PluginField& field = fields.fields[i];
      const std::string name = field.name == nullptr ? "" : field.name;
      if (!fields_.emplace(name, field).second) refuse("attribute ", name, " is given twice");
    }
  }

  int32_t integer(const char* name) {
    const PluginField field = take(name);
    if (field.type == PluginFieldType::kINT32) return *static_cast<const int32_t*>(field.data);
    if (field.type != PluginFieldType::kINT64) refuse(name, " must be an integer");
    const int64_t value = *static_cast<const int64_t*>(field.data);
    if (value != static_cast<int32_t>(value)) refuse(name, " must fit 32 bits, got ", value);
    return static_cast<int32_t>(value);
  }

  float number(const char* name) {
    const PluginField field = take(name);
    if (field.type != PluginFieldType::kFLOAT32) refuse(name, " must be a float32");
    return *static_cast<const float*>(field.data);
  }

  bool flag(const char* name) {
    const int32_t value = integer(name);
    if (value != 0 && value != 1) refuse(name, " must be 0 or 1, got ", value);
    return value == 1;
  }

  // Return the position of a word in the list of those that are allowed.
  template <size_t n>
  int32_t word(const char* name, const std::array<const char*, n>& allowed) {
    const PluginField field = take(name);
    if (field.type != PluginFieldType::kCHAR) refuse(name, " must be a string");
    std::string_view word(static_cast<const char*>(field.data), static_cast<size_t>(field.length));
    word = word.substr(0, word.find('\0'));  // some parsers count the terminator, some do not
    std::string list;
    for (size_t i = 0; i < n; ++i) {
      if (word == allowed[i]) return static_cast<int32_t>(i);
      list += (i == 0 ? "" : ", ") + std::string(allowed[i]);
    }
    refuse(name, " must be one of ", list, ", got ", word);
  }

  bool has(const char* name) const { return fields_.count(name) != 0; }

  void refuse_rest() const {
    if (!fields_.empty()) refuse("unknown attribute ", fields_.begin()->first);
  }

 private:
  PluginField take(const char* name) {
    const auto found = fields_.find(name);
    if (found == fields_.end()) refuse("attribute ", name, " is missing");
    const PluginField field = found->second;
    if (field.data == nullptr || field.length < 1) refuse("attribute ", name, " is empty");
    fields_.erase(found);
    return field;
  }

  std::map<std::string, PluginField> fields_;
};

void check_version(Reader& reader, TensorRTPhase phase) {
  if (phase != TensorRTPhase::kRUNTIME) return;
  const int32_t version = reader.integer(kVersionField);
  if (version != kSerializationVersion) {
    refuse("the plan holds version ", version, " of the pooling plugin's settings and this library "
           "reads version ", kSerializationVersion, "; build the engine again with this library");
  }
}

void check_ranges(const Settings& settings) {
  PoolingParams params = settings.to_params();
  params.batch = params.locations = params.embedding_dim = params.num_prototypes = 1;
  params.channels = 1;
  const std::string problem = problem_with(params);
  if (!problem.empty()) refuse(problem);
}

}  // namespace

PoolingParams Settings::to_params() const {
  PoolingParams params;
  params.transport_ratio = transport_ratio;
  params.entropy_weight = entropy_weight;
  params.solver = solver;
  params.iterations = iterations;
  params.grid_points = grid_points;
  params.initial_scale = initial_scale;
  params.pooling = pooling;
  params.power = power;
  params.normalize = normalize;
  params.output_type = output_type;
  return params;
}

std::string Settings::to_string() const {
  std::ostringstream text;
  text.precision(9);  // enough to tell any two floats apart
  text << "v" << kSerializationVersion << " pooling=" << kPoolingWords[static_cast<size_t>(pooling)]
       << " solver=" << kSolverWords[static_cast<size_t>(solver)] << " iterations=" << iterations
       << " grid_points=" << grid_points
       << " transport_ratio=" << transport_ratio << " entropy_weight=" << entropy_weight
       << " initial_scale=" << initial_scale << " power=" << power << " normalize=" << normalize
       << " output_weights=" << output_weights << " output_attributes=" << output_attributes
       << " output_residual=" << output_residual
       << " output_type=" << kTypeWords[static_cast<size_t>(output_type)];
  return text.str();
}

Settings read_settings(const PluginFieldCollection& fields, TensorRTPhase phase) {
  Reader reader(fields);
  check_version(reader, phase);
  Settings settings;
  settings.pooling = static_cast<Pooling>(reader.word("pooling", kPoolingWords));
  settings.solver = static_cast<Solver>(reader.word("solver", kSolverWords));
  settings.iterations = reader.integer("iterations");
  settings.transport_ratio = reader.number("transport_ratio");
  settings.entropy_weight = reader.number("entropy_weight");
  if (reader.has("grid_points")) settings.grid_points = reader.integer("grid_points");
  if (reader.has("initial_scale")) settings.initial_scale = reader.number("initial_scale");
  if (reader.has("power")) settings.power = reader.number("power");
  if (reader.has("normalize")) settings.normalize = reader.flag("normalize");
  if (reader.has("output_weights")) settings.output_weights = reader.flag("output_weights");
  if (reader.has("output_attributes")) {
    settings.output_attributes = reader.flag("output_attributes");
  }
  if (reader.has("output_residual")) settings.output_residual = reader.flag("output_residual");
  if (reader.has("output_type")) {
    settings.output_type = static_cast<DataType>(reader.word("output_type", kTypeWords));
  }
  reader.refuse_rest();
  check_ranges(settings);
  return settings;
}

const PluginFieldCollection& attribute_names() {
  static const std::array<PluginField, 13> names = {{
      {"pooling", nullptr, PluginFieldType::kCHAR, 1},
      {"solver", nullptr, PluginFieldType::kCHAR, 1},
      {"iterations", nullptr, PluginFieldType::kINT32, 1},
      {"grid_points", nullptr, PluginFieldType::kINT32, 1},
      {"transport_ratio", nullptr, PluginFieldType::kFLOAT32, 1},
      {"entropy_weight", nullptr, PluginFieldType::kFLOAT32, 1},
      {"initial_scale", nullptr, PluginFieldType::kFLOAT32, 1},
      {"power", nullptr, PluginFieldType::kFLOAT32, 1},
      {"normalize", nullptr, PluginFieldType::kINT32, 1},
      {"output_weights", nullptr, PluginFieldType::kINT32, 1},
      {"output_attributes", nullptr, PluginFieldType::kINT32, 1},
      {"output_residual", nullptr, PluginFieldType::kINT32, 1},
      {"output_type", nullptr, PluginFieldType::kCHAR, 1},
  }};
  static const PluginFieldCollection collection = {static_cast<int32_t>(names.size()),
                                                   names.data()};
  return collection;
}

SerializedSettings::SerializedSettings(const Settings& settings)
    : settings_(settings),
      flags_{settings.normalize, settings.output_weights, settings.output_attributes,
             settings.output_residual} {
  const auto word = [this](const char* name, const char* value) {
    list_.emplace_back(name, value, PluginFieldType::kCHAR,
                       static_cast<int32_t>(std::string_view(value).size()) + 1);
  };
  const auto integer = [this](const char* name, const int32_t* value) {
    list_.emplace_back(name, value, PluginFieldType::kINT32, 1);
  };
  const auto number = [this](const char* name, const float* value) {
    list_.emplace_back(name, value, PluginFieldType::kFLOAT32, 1);
  };
  integer(kVersionField, &version_);
  word("pooling", kPoolingWords[static_cast<size_t>(settings.pooling)]);
  word("solver", kSolverWords[static_cast<size_t>(settings.solver)]);
  integer("iterations", &settings_.iterations);
  integer("grid_points", &settings_.grid_points);
  number("transport_ratio", &settings_.transport_ratio);
  number("entropy_weight", &settings_.entropy_weight);
  number("initial_scale", &settings_.initial_scale);
  number("power", &settings_.power);
  integer("normalize", &flags_[0]);
  integer("output_weights", &flags_[1]);
  integer("output_attributes", &flags_[2]);
  integer("output_residual", &flags_[3]);
  word("output_type", kTypeWords[static_cast<size_t>(settings.output_type)]);
  collection_ = {static_cast<int32_t>(list_.size()), list_.data()};
}

}  // namespace gsp_deploy::tensorrt
