// Clusters of thread blocks, as far as the pooling uses them.
#pragma once

#include "emulator.h"

namespace cooperative_groups {

struct cluster_group {
  unsigned block_rank() const { return emulation::cluster_rank(); }
  unsigned num_blocks() const { return emulation::cluster_size(); }
  void sync() { emulation::sync_cluster(); }
  template <typename T>
  T* map_shared_rank(T* place, unsigned rank) {
    return static_cast<T*>(emulation::in_block(place, rank));
  }
};

inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
