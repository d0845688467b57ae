// Parts of the TensorRT backend that need neither TensorRT nor a GPU, on doubles of CUDA.
//
//   tensorrt_parts profiles COUNT (MIN OPT MAX DISTANCE)...  the profile of a batch of COUNT, the
//                                 batch that it runs as, and the room for all up to COUNT
//   tensorrt_parts device BEFORE WANTED  the calls that CurrentDevice makes, one a line
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cuda_memory.hpp"
#include "tensorrt_profiles.hpp"

namespace {

int current = 0;

void profiles(const std::vector<std::string>& words) {
  std::vector<gsp::BatchProfile> all;
  const auto size = [&](std::size_t at) { return std::stoul(words.at(at)); };
  for (std::size_t at = 1; at + 3 < words.size(); at += 4) {
    const int index = static_cast<int>(all.size());
    all.push_back({index, size(at), size(at + 1), size(at + 2), std::stod(words[at + 3])});
  }
  const std::size_t count = size(0);
  const gsp::ChosenProfile chosen = gsp::choose_profile(all, count);
  std::printf("%d %zu %zu %zu %zu\n", chosen.index, chosen.batch, gsp::room_for(all, count),
              gsp::least_batch(all), gsp::most_batch(all));
}

void device(int before, int wanted) {
  if (dlopen("libcuda.so.1", RTLD_NOW) == nullptr) std::abort();
  current = before;
  {
    const gsp::CurrentDevice outer(wanted);
    const gsp::CurrentDevice inner(wanted);
    std::puts("work");
  }
  std::printf("now %d\n", current);
}

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  std::printf("set %d\n", device);
  current = device;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "an error"; }
}

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 2, argv + argc);
  if (std::string(argv[1]) == "profiles")
    profiles(words);
  else
    device(std::stoi(words.at(0)), std::stoi(words.at(1)));
  return 0;
}
