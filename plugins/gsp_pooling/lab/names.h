// The words of the lab's tables and of its JSON.
#pragma once

#include "../gsp_pooling.h"

namespace gsp_deploy::lab {

inline const char* name(Plan plan) {
  constexpr const char* names[] = {"auto", "block", "cluster", "split"};
  return names[static_cast<int>(plan)];
}
inline const char* name(DataType type) {
  constexpr const char* names[] = {"float32", "float16", "bfloat16"};
  return names[static_cast<int>(type)];
}
inline const char* name(Layout layout) { return layout == Layout::kChannelsFirst ? "first" : "last"; }
inline const char* name(Solver solver) {
  constexpr const char* names[] = {"fixed-point", "newton", "certified"};
  return names[static_cast<int>(solver)];
}
inline const char* name(Pooling pooling) {
  constexpr const char* names[] = {"gap", "gmp", "gem"};
  return names[static_cast<int>(pooling)];
}

}  // namespace gsp_deploy::lab
