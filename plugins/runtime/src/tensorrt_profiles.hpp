// The optimisation profiles of an engine, and which one a batch runs in: as Python chooses.
#pragma once

#include <cstddef>
#include <vector>

namespace gsp {

// A profile that takes images of the model's size.
struct BatchProfile {
  int index;               // within the engine
  std::size_t min, opt, max;  // images of one batch
  double size_distance;    // |log ratio| of the image's sizes to the profile's best, summed
};

// The profile of a batch, and how many images it runs as: a shorter batch is filled up.
struct ChosenProfile {
  int index;
  std::size_t batch;
};

std::size_t least_batch(const std::vector<BatchProfile>& profiles);
std::size_t most_batch(const std::vector<BatchProfile>& profiles);

// The profile that needs the least padding; of several, the one with the nearest optimum. `count`
// is at most most_batch(profiles).
ChosenProfile choose_profile(const std::vector<BatchProfile>& profiles, std::size_t count);

// The most images that any batch of 1 to `count` runs as: buffers are of that size.
std::size_t room_for(const std::vector<BatchProfile>& profiles, std::size_t count);

}  // namespace gsp
