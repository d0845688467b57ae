// CUDA threads on a CPU: every thread of a cluster is a fiber, and all fibers share one OS thread.
//
// A fiber runs until it waits at a barrier or a shuffle; then the next one runs. So a run is exact
// and repeatable; the order of the fibers can be turned round, and whatever depends on it (a race,
// a missing barrier) shows in the result. Under ThreadSanitizer each fiber counts as a thread of
// its own, whose only happens-before edges are the barriers of the kernel: a pair of unordered
// accesses is reported whichever order they were made in. A barrier that not all threads reach is
// reported as a deadlock.
//
// Not modelled: memory spaces, the timing of anything, weak memory, partial warps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

struct Shape {
  dim3 grid;
  dim3 block;
  unsigned cluster = 1;
  size_t shared_bytes = 0;
};

// Run `kernel` once for each thread of the grid.
void run(const Shape& shape, const std::function<void()>& kernel);

dim3 thread_index();
dim3 block_index();
dim3 grid_size();
unsigned char* dynamic_shared();

void sync_block();
void sync_warp();
uint32_t shuffle_xor(uint32_t value, int mask);

unsigned cluster_rank();
unsigned cluster_size();
void sync_cluster();
void* in_block(void* shared, unsigned rank);

}  // namespace emulation
