#include "tensorrt_profiles.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace gsp {
namespace {

bool has_less_min(const BatchProfile& a, const BatchProfile& b) { return a.min < b.min; }
bool has_less_max(const BatchProfile& a, const BatchProfile& b) { return a.max < b.max; }

}  // namespace

std::size_t least_batch(const std::vector<BatchProfile>& profiles) {
  return std::min_element(profiles.begin(), profiles.end(), has_less_min)->min;
}

std::size_t most_batch(const std::vector<BatchProfile>& profiles) {
  return std::max_element(profiles.begin(), profiles.end(), has_less_max)->max;
}

ChosenProfile choose_profile(const std::vector<BatchProfile>& profiles, std::size_t count) {
  const BatchProfile* best = nullptr;
  std::pair<std::size_t, double> least{};
  for (const BatchProfile& profile : profiles) {
    if (count > profile.max) continue;
    const std::size_t batch = std::max(count, profile.min);
    const double ratio = static_cast<double>(batch) / static_cast<double>(profile.opt);
    const std::pair cost{batch - count, profile.size_distance + std::fabs(std::log(ratio))};
    if (best == nullptr || cost < least) {
      best = &profile;
      least = cost;
    }
  }
  return {best->index, count + least.first};
}

std::size_t room_for(const std::vector<BatchProfile>& profiles, std::size_t count) {
  std::size_t room = count;
  for (std::size_t images = 1; images <= count; ++images)
    room = std::max(room, choose_profile(profiles, images).batch);
  return room;
}

}  // namespace gsp
