// Loads libgsp_plugin.so as TensorRT does and holds it to its contract: create, shapes, types,
// formats, workspace, tactics, serialise, create again, clone, refuse. Needs neither TensorRT's
// libraries nor a GPU; with one of its libraries, the plugin comes from that one's own registry.
//
//   gsp_contract_host libgsp_plugin.so            exit 0 when everything holds, else 1
//   gsp_contract_host libgsp_plugin.so --enqueue  also launch, for a library whose launcher records
//   gsp_contract_host libgsp_plugin.so --registry libnvinfer_lean.so.11
#include "contract_host.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;
using namespace contract;

void check_names(const Library& library) {
  IPluginCreatorV3One& creator = library.creator();
  const Plugin plugin = library.create({});
  expect(plugin != nullptr, "a node's plugin is created");
  auto& core = as<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
  expect(std::strcmp(core.getPluginName(), "GeneralizedSumPooling") == 0 &&
             std::strcmp(core.getPluginVersion(), "1") == 0 &&
             std::strcmp(core.getPluginNamespace(), "gsp.deploy") == 0,
         "it is gsp.deploy::GeneralizedSumPooling of version 1");
  expect(std::strcmp(creator.getPluginName(), core.getPluginName()) == 0 &&
             std::strcmp(creator.getPluginVersion(), core.getPluginVersion()) == 0 &&
             std::strcmp(creator.getPluginNamespace(), core.getPluginNamespace()) == 0,
         "the creator has the plugin's names");
  expect(creator.getFieldNames()->nbFields == 13, "the creator tells all attributes");
}

void check_shapes_and_types(const Library& library) {
  for (const bool features : {false, true}) {
    Attributes attributes;
    if (features) attributes.pooling = "gmp";
    attributes.normalize = features ? 0 : 1;
    attributes.output_type = "fp16";
    const Plugin plugin = library.create(attributes);
    auto& build = build_of(plugin);
    const int32_t inputs = features ? 3 : 2;
    std::array<DataType, 3> types{};
    const std::array<DataType, 3> given = {DataType::kHALF, DataType::kFLOAT, DataType::kHALF};
    expect(build.getNbOutputs() == 3, "three outputs");
    expect(build.getOutputDataTypes(types.data(), 3, given.data(), inputs) == 0 &&
               types == std::array{DataType::kHALF, DataType::kHALF, DataType::kHALF},
           "outputs of the type asked for");
    const Size batch{}, depth{}, height{}, width{}, channels{}, prototypes{};
    const DimsExprs maps{4, {&batch, &depth, &height, &width}};
    const std::array<DimsExprs, 3> in = {maps, DimsExprs{2, {&prototypes, &depth}},
                                         DimsExprs{4, {&batch, &channels, &height, &width}}};
    std::array<DimsExprs, 3> out{};
    Expressions expressions;
    expect(build.getOutputShapes(in.data(), inputs, nullptr, 0, out.data(), 3, expressions) == 0,
           "shapes are told");
    expect(out[0].nbDims == 2 && out[0].d[0] == &batch &&
               out[0].d[1] == (features ? &channels : &depth),
           "pooled (B, D), or (B, C)");
    expect(out[1].nbDims == 3 && out[1].d[0] == &batch && out[1].d[1] == &height &&
               out[1].d[2] == &width,
           "weights (B, H, W)");
    expect(out[2].nbDims == 2 && out[2].d[0] == &batch && out[2].d[1] == &prototypes,
           "attributes (B, M)");
    const int32_t code =
        build.getOutputShapes(in.data(), inputs - 1, nullptr, 0, out.data(), 3, expressions);
    expect(code != 0, "another number of inputs is refused");
  }
}

// The certificate comes last, in float32 whatever the other outputs are.
void check_certificate(const Library& library) {
  const Size batch{}, depth{}, height{}, width{}, prototypes{};
  const DimsExprs maps{4, {&batch, &depth, &height, &width}};
  const std::array<DimsExprs, 3> in = {maps, DimsExprs{2, {&prototypes, &depth}}, maps};
  for (const bool features : {false, true}) {
    Attributes attributes;
    if (features) attributes.pooling = "gmp";
    attributes.normalize = 0;
    attributes.output_type = "fp16";
    attributes.output_weights = attributes.output_attributes = 0;
    attributes.output_residual = 1;
    const Plugin plugin = library.create(attributes);
    auto& build = build_of(plugin);
    const int32_t inputs = features ? 3 : 2, outputs = features ? 2 : 3;
    expect(build.getNbOutputs() == outputs, "a residual, and with gap a bound behind it");
    std::array<DataType, 3> types{};
    const std::array<DataType, 3> given = {DataType::kHALF, DataType::kFLOAT, DataType::kHALF};
    std::array<DimsExprs, 3> out{};
    Expressions expressions;
    expect(build.getOutputDataTypes(types.data(), outputs, given.data(), inputs) == 0 &&
               build.getOutputShapes(in.data(), inputs, nullptr, 0, out.data(), outputs,
                                     expressions) == 0,
           "its types and shapes");
    for (int32_t i = 1; i < outputs; ++i) {
      const auto at = static_cast<size_t>(i);
      expect(types[at] == DataType::kFLOAT && out[at].nbDims == 1 && out[at].d[0] == &batch,
             "(B) in float32");
    }
  }
}

void check_formats(const Library& library) {
  const auto float32 = DataType::kFLOAT, half = DataType::kHALF, bfloat = DataType::kBF16;
  const auto linear = TensorFormat::kLINEAR, last = TensorFormat::kHWC, eight = TensorFormat::kHWC8;
  for (const bool features : {false, true}) {
    Attributes attributes;
    if (features) attributes.pooling = "gem";
    attributes.normalize = features ? 0 : 1;
    const Plugin plugin = library.create(attributes);
    auto& build = build_of(plugin);
    for (const DataType type : {float32, half, bfloat}) {
      expect(takes(build, tensors(type, linear, features, float32)), "channels first, every type");
    }
    expect(takes(build, tensors(float32, last, features, float32)), "channels last in float32");
    expect(takes(build, tensors(half, eight, features, float32)), "channels last in float16");
    expect(takes(build, tensors(bfloat, eight, features, float32)), "channels last in bfloat16");
    expect(!takes(build, tensors(half, eight, features, float32, 60)), "no padded channels");
    expect(!takes(build, tensors(DataType::kINT8, linear, features, float32)), "no int8");
    expect(!takes(build, tensors(half, TensorFormat::kCHW32, features, float32)), "no CHW32");
    expect(!takes(build, tensors(half, linear, features, half)), "outputs of one type");
    auto mixed = tensors(half, linear, features, float32);
    mixed[1].desc.type = half;
    expect(!takes(build, mixed), "prototypes in float32 only");
    if (features) {
      mixed = tensors(half, linear, features, float32);
      mixed[2].desc.format = eight;
      expect(!takes(build, mixed), "features in the embeddings' format only");
    }
  }
}

void check_build(const Library& library) {
  const Plugin plugin = library.create({});
  auto& build = build_of(plugin);
  auto all = tensors(DataType::kHALF, TensorFormat::kLINEAR, false, DataType::kFLOAT);
  expect(build.configurePlugin(all.data(), 2, all.data() + 2, 3) == 0, "shapes within the limits");
  const size_t small = build.getWorkspaceSize(all.data(), 2, all.data() + 2, 3);
  all[0].max.d[0] = 64;
  const size_t large = build.getWorkspaceSize(all.data(), 2, all.data() + 2, 3);
  expect(small > 0 && large > small, "the workspace is for the largest batch");
  all[0].max.d[2] = all[0].max.d[3] = 65;
  expect(build.configurePlugin(all.data(), 2, all.data() + 2, 3) != 0 &&
             last_message.find("locations must be from 1 to 4096, got 4225") != std::string::npos,
         "more locations than there may be are refused");
  const int32_t count = build.getNbTactics();
  std::vector<int32_t> tactics(static_cast<size_t>(count));
  expect(count >= 1 && build.getValidTactics(tactics.data(), count) == 0, "there is a tactic");
  for (const int32_t tactic : tactics) {
    expect(tactic > 0 && runtime_of(plugin).setTactic(tactic) == 0, "tactics can be set");
  }
  expect(tactics[0] == 4, "the automatic choice is the first");
  expect(runtime_of(plugin).setTactic(0) == 0, "so can the default");
  expect(runtime_of(plugin).setTactic(77) != 0, "an unknown tactic is refused");
}

std::string identity(const Plugin& plugin) { return build_of(plugin).getTimingCacheID(); }

void check_serialisation(const Library& library) {
  Attributes attributes;
  attributes.pooling = "gem";
  attributes.solver = "certified";
  attributes.grid_points = 63;
  attributes.output_residual = 1;
  attributes.transport_ratio = 0.123456789F;
  attributes.initial_scale = 0.5F;
  attributes.power = 2.5F;
  attributes.normalize = 0;
  attributes.output_weights = 0;
  attributes.output_type = "bf16";
  const Plugin first = library.create(attributes);
  const PluginFieldCollection* const fields = runtime_of(first).getFieldsToSerialize();
  expect(fields != nullptr && fields->nbFields == 14, "a version and all settings are serialised");
  const Plugin second(library.creator().createPlugin("", fields, TensorRTPhase::kRUNTIME));
  expect(second != nullptr && identity(second) == identity(first), "the plan's plugin is the same");
  const Plugin copy(second->clone());
  expect(copy != nullptr && identity(copy) == identity(first), "so is a clone");
  const Plugin attached(runtime_of(copy).attachToContext(nullptr));
  expect(attached != nullptr && identity(attached) == identity(first), "and one of a context");
  attributes.transport_ratio = 0.12345678F;
  expect(identity(library.create(attributes)) != identity(first),
         "other settings have another timing cache id");

  std::vector<PluginField> altered(fields->fields, fields->fields + fields->nbFields);
  const int32_t other = 1;
  altered[0].data = &other;
  const PluginFieldCollection collection{fields->nbFields, altered.data()};
  expect(library.creator().createPlugin("", &collection, TensorRTPhase::kRUNTIME) == nullptr &&
             last_message.find("build the engine again") != std::string::npos,
         "a plan of another version is refused");
}

// Create, serialise, create again and clone in every mode, with every choice of outputs and types.
void check_every_mode(const Library& library) {
  int32_t modes = 0;
  for (const char* const pooling : {"gap", "gmp", "gem"}) {
    for (const char* const solver : {"fixed-point", "newton", "certified"}) {
      for (const char* const type : {"fp32", "fp16", "bf16"}) {
        for (int32_t outputs = 0; outputs < 8; ++outputs, ++modes) {
          Attributes attributes;
          attributes.pooling = pooling;
          attributes.solver = solver;
          attributes.output_type = type;
          attributes.grid_points = attributes.solver == "certified" ? 63 : 0;
          attributes.normalize = attributes.pooling == "gap" ? 1 : 0;
          attributes.output_weights = outputs & 1;
          attributes.output_attributes = outputs >> 1 & 1;
          attributes.output_residual = outputs >> 2 & 1;
          const Plugin first = library.create(attributes);
          require(first != nullptr, std::string("it is created with ") + pooling + " " + solver);
          const auto* const fields = runtime_of(first).getFieldsToSerialize();
          const Plugin second(library.creator().createPlugin("", fields, TensorRTPhase::kRUNTIME));
          require(second != nullptr && identity(second) == identity(first), "created again");
          const Plugin copy(second->clone());
          require(copy != nullptr && identity(copy) == identity(first) &&
                      build_of(copy).getNbOutputs() == build_of(first).getNbOutputs(),
                  "cloned");
        }
      }
    }
  }
  expect(modes == 216, "every mode is created, serialised, created again and cloned");
}

void check_refusals(const Library& library) {
  const auto refused = [&](const char* reason, const std::function<void(Attributes&)>& change) {
    Attributes attributes;
    change(attributes);
    last_message.clear();
    const bool is_refused = library.create(attributes) == nullptr;
    const bool is_told = last_message.find(reason) != std::string::npos;
    expect(is_refused && is_told, "refused: " + last_message);
  };
  static const int32_t one = 1;
  const PluginField unknown("sharpness", &one, PluginFieldType::kINT32, 1);
  const PluginField twice("iterations", &one, PluginFieldType::kINT32, 1);
  const PluginField typed("power", &one, PluginFieldType::kINT32, 1);
  refused("unknown attribute sharpness", [&](Attributes& a) { a.extra = {unknown}; });
  refused("iterations is given twice", [&](Attributes& a) { a.extra = {twice}; });
  refused("power must be a float32", [&](Attributes& a) {
    a.left_out = "power";
    a.extra = {typed};
  });
  refused("solver is missing", [](Attributes& a) { a.left_out = "solver"; });
  refused("pooling must be one of gap, gmp, gem", [](Attributes& a) { a.pooling = "max"; });
  refused("transport_ratio must be above 0", [](Attributes& a) { a.transport_ratio = 1.5F; });
  refused("entropy_weight must be above 0", [](Attributes& a) { a.entropy_weight = -1.0F; });
  refused("iterations must be at least 1", [](Attributes& a) { a.iterations = 0; });
  refused("grid_points must be 0 unless the solver is certified, got 63",
          [](Attributes& a) { a.grid_points = 63; });
  refused("grid_points must be from 1 to 4096, got 0 for the certified solver",
          [](Attributes& a) { a.solver = "certified"; });
  refused("output_residual must be 0 or 1", [](Attributes& a) { a.output_residual = 2; });
  refused("output_weights must be 0 or 1", [](Attributes& a) { a.output_weights = 2; });
  refused("normalize must be false", [](Attributes& a) { a.pooling = "gmp"; });
  expect(library.creator().createPlugin("node", nullptr, TensorRTPhase::kBUILD) == nullptr,
         "no attributes at all are refused");
}

// With a library whose launcher writes down what it gets. The addresses are never followed.
void check_enqueue(const Library& library) {
  Attributes attributes;
  attributes.pooling = "gmp";
  attributes.normalize = 0;
  attributes.output_weights = 0;
  attributes.output_residual = 1;
  attributes.solver = "certified";
  attributes.grid_points = 63;
  const Plugin plugin = library.create(attributes);
  auto& runtime = runtime_of(plugin);
  auto all = tensors(DataType::kHALF, TensorFormat::kHWC8, true, DataType::kFLOAT);
  all.erase(all.begin() + 4);
  all.push_back(tensor(DataType::kFLOAT, TensorFormat::kLINEAR, Dims{1, {2}}));
  std::vector<PluginTensorDesc> plain;
  for (const DynamicPluginTensorDesc& described : all) plain.push_back(described.desc);
  const auto address = [](uintptr_t value) { return reinterpret_cast<void*>(value); };
  const std::array<const void*, 3> in = {address(0x10), address(0x20), address(0x30)};
  const std::array<void*, 3> out = {address(0x40), address(0x50), address(0x70)};
  expect(runtime.setTactic(3) == 0, "a tactic is set");
  expect(runtime.onShapeChange(plain.data(), 3, plain.data() + 3, 3) == 0, "the shapes are taken");
  expect(runtime.enqueue(plain.data(), plain.data() + 3, in.data(), out.data(), address(0x60),
                         nullptr) == 0,
         "it launches");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s libgsp_plugin.so [--enqueue | --registry LIBRARY]\n",
                 arguments[0]);
    return 2;
  }
  const bool is_registered = count > 3 && std::strcmp(arguments[2], "--registry") == 0;
  const Library library(arguments[1], is_registered ? arguments[3] : nullptr);
  std::printf("built with TensorRT %d, abi %d, gsp-deploy %s\n",
              library.symbol<int32_t()>("gsp_plugin_tensorrt")(),
              library.symbol<int32_t()>("gsp_plugin_abi")(),
              library.symbol<const char*()>("gsp_plugin_version")());
  check_names(library);
  check_shapes_and_types(library);
  check_certificate(library);
  check_formats(library);
  check_build(library);
  check_serialisation(library);
  check_every_mode(library);
  check_refusals(library);
  if (count > 2 && !is_registered) check_enqueue(library);
  std::printf("the contract holds\n");
  std::fflush(stdout);
  if (is_registered) std::_Exit(0);  // TensorRT's registry outlives what it refers to here
  return 0;
}
