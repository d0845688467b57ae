// The command line that the examples share, and the line that an error becomes.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <gsp/embedder.hpp>
#include <string>
#include <vector>

namespace example {

struct Arguments {
  gsp::Options options;
  std::vector<std::string> plain;  // what is no option
  bool help = false;
  bool selftest = false;
  int count = 5;     // --count: neighbours to show
  int decoders = 2;  // --decoders: threads that decode
  int workers = 1;   // --workers: threads that embed
  std::string output;
};

inline constexpr const char* options_help =
    "--backend NAME   onnxruntime, openvino or tensorrt; the bundle's first artifact if left out\n"
    "--fallback       take the bundle's next artifact where the first does not fit\n"
    "--threads N      threads of one inference on the CPU\n"
    "--requests N     inferences that OpenVINO runs at once\n"
    "--device N       the GPU of an engine\n"
    "--batch N        images that go through the network at once\n"
    "--plugin FILE    a shared object that an engine needs; repeatable\n"
    "--count N        search: neighbours to show\n"
    "--decoders N     pipeline: threads that decode\n"
    "--workers N      pipeline: threads that embed\n"
    "-o FILE          the .npy to write\n"
    "--selftest       embed_images: hold the golden images against what was packaged\n";

inline int whole_number(const std::string& option, const std::string& text, long most) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0 || value > most)
    throw gsp::Error(gsp::ErrorKind::usage, option + " takes a whole number up to " +
                                                std::to_string(most) + ", got '" + text + "'");
  return static_cast<int>(value);
}

inline gsp::Backend backend_named(const std::string& name) {
  if (name == "onnxruntime") return gsp::Backend::onnxruntime;
  if (name == "openvino") return gsp::Backend::openvino;
  if (name == "tensorrt") return gsp::Backend::tensorrt;
  throw gsp::Error(gsp::ErrorKind::usage,
                   "--backend takes onnxruntime, openvino or tensorrt, got '" + name + "'");
}

inline Arguments parse(int argc, char** argv) {
  Arguments found;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (++i < argc) return argv[i];
      throw gsp::Error(gsp::ErrorKind::usage, option + " needs a value");
    };
    const auto number = [&] { return whole_number(option, value(), 1'000'000); };
    const auto threads = [&] { return whole_number(option, value(), 1'000); };
    if (option == "--help" || option == "-h")
      found.help = true;
    else if (option == "--selftest")
      found.selftest = true;
    else if (option == "--fallback")
      found.options.allow_fallback = true;
    else if (option == "--backend")
      found.options.backend = backend_named(value());
    else if (option == "--threads")
      found.options.threads = threads();
    else if (option == "--requests")
      found.options.requests = threads();
    else if (option == "--device")
      found.options.device = number();
    else if (option == "--batch")
      found.options.max_batch = static_cast<std::size_t>(number());
    else if (option == "--plugin")
      found.options.plugin_libraries.emplace_back(value());
    else if (option == "--count")
      found.count = number();
    else if (option == "--decoders")
      found.decoders = threads();
    else if (option == "--workers")
      found.workers = threads();
    else if (option == "-o")
      found.output = value();
    else if (option.rfind("-", 0) == 0)
      throw gsp::Error(gsp::ErrorKind::usage, "unknown option " + option);
    else
      found.plain.push_back(option);
  }
  return found;
}

// Run a program's body; an error becomes one line on stderr and an exit code.
template <typename Body>
int guarded(int argc, char** argv, const char* usage, Body body) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.help) {
      std::printf("usage: %s %s\n\n%s", argv[0], usage, options_help);
      return 0;
    }
    if (arguments.plain.empty())
      throw gsp::Error(gsp::ErrorKind::usage, std::string("expected ") + usage);
    body(arguments);
    return 0;
  } catch (const gsp::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace example
