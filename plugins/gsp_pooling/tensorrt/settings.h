// The plugin's attributes: read from TensorRT's fields, held, and written back for the plan.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "../gsp_pooling.h"

namespace gsp_deploy::tensorrt {

// Of what a plan holds of the plugin. Raised when its fields change; a plan of another version is
// refused. gsp_plugin_abi() returns it.
//   1  first release
//   2  the certified solver with its grid_points, output_residual
constexpr int32_t kSerializationVersion = 2;

struct Settings {
  Pooling pooling = Pooling::kGap;
  Solver solver = Solver::kNewton;
  int32_t iterations = 0;
  int32_t grid_points = 0;
  float transport_ratio = 0.0F;
  float entropy_weight = 0.0F;
  float initial_scale = 0.0F;
  float power = 3.0F;
  bool normalize = false;
  bool output_weights = false;
  bool output_attributes = false;
  bool output_residual = false;
  DataType output_type = DataType::kFloat32;

  int32_t inputs() const { return pooling == Pooling::kGap ? 2 : 3; }
  bool output_bound() const { return output_residual && pooling == Pooling::kGap; }
  // Outputs of `output_type`: pooled, weights, attributes.
  int32_t results() const { return 1 + (output_weights ? 1 : 0) + (output_attributes ? 1 : 0); }
  // And those of float32 behind them: residual, embedding_bound.
  int32_t outputs() const {
    return results() + (output_residual ? 1 : 0) + (output_bound() ? 1 : 0);
  }

  // Return the settings as kernel parameters, shapes and input format left open.
  PoolingParams to_params() const;

  // Return every setting in one line, the same for the same settings.
  std::string to_string() const;
};

// Read the settings that a network's node has, or in phase kRUNTIME those that a plan holds.
// Throws std::invalid_argument: a field is unknown, missing, given twice, of the wrong type, or
// outside its range; or the plan is of another serialisation version.
Settings read_settings(const nvinfer1::PluginFieldCollection& fields,
                       nvinfer1::TensorRTPhase phase);

// Return the attributes that a node may have: what a parser looks for.
const nvinfer1::PluginFieldCollection& attribute_names();

// Settings as fields, with the memory that the fields point to.
class SerializedSettings {
 public:
  explicit SerializedSettings(const Settings& settings);
  SerializedSettings(const SerializedSettings&) = delete;
  SerializedSettings& operator=(const SerializedSettings&) = delete;

  const nvinfer1::PluginFieldCollection* fields() const { return &collection_; }

 private:
  Settings settings_;
  int32_t version_ = kSerializationVersion;
  int32_t flags_[4];
  std::vector<nvinfer1::PluginField> list_;
  nvinfer1::PluginFieldCollection collection_;
};

}  // namespace gsp_deploy::tensorrt
