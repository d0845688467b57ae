// Fibers, barriers and shuffles. Compiled without ThreadSanitizer: its own bookkeeping is shared by
// all fibers and is no concern of the kernel's.
#include "emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#if defined(EMULATION_TSAN)
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#elif defined(EMULATION_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr unsigned kWarp = 32;

struct Barrier {
  unsigned expected = 0;
  unsigned arrived = 0;
  unsigned generation = 0;
};

struct Block;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Block* block = nullptr;
  dim3 index;
  unsigned linear = 0;
  unsigned shuffles = 0;
  const Barrier* waits_for = nullptr;
  unsigned generation = 0;
  bool done = false;
  void* tsan = nullptr;
  void* asan = nullptr;
};

struct Warp {
  Barrier barrier;
  Barrier shuffle;
  uint32_t slots[2][kWarp] = {};
};

struct Cluster;

struct Block {
  Cluster* cluster = nullptr;
  dim3 index;
  unsigned rank = 0;
  unsigned char* shared = nullptr;
  Barrier barrier;
  std::vector<Warp> warps;
};

struct Cluster {
  Barrier barrier;
  std::vector<Block> blocks;
  std::vector<std::unique_ptr<Fiber>> fibers;
};

Shape shape_now;
const std::function<void()>* kernel_now = nullptr;
std::vector<Fiber*> order;
size_t place = 0;
Fiber* current = nullptr;
ucontext_t scheduler;
void* scheduler_tsan = nullptr;
const void* scheduler_stack = nullptr;
size_t scheduler_stack_bytes = 0;
int kernel_boundary;

bool reversed() {
  const char* wanted = std::getenv("EMULATION_ORDER");
  return wanted != nullptr && std::strcmp(wanted, "reverse") == 0;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulation: %s\n", what);
  std::exit(70);
}

#if defined(EMULATION_TSAN)
void acquire(void* address) { __tsan_acquire(address); }
void release(void* address) { __tsan_release(address); }
#else
void acquire(void*) {}
void release(void*) {}
#endif

// Leave `from` (null: the scheduler) for `to` (null: the scheduler).
void change(Fiber* from, Fiber* to) {
  current = to;
  ucontext_t* here = from != nullptr ? &from->context : &scheduler;
  ucontext_t* there = to != nullptr ? &to->context : &scheduler;
#if defined(EMULATION_TSAN)
  constexpr unsigned kNoSynchronisation = 1;
  __tsan_switch_to_fiber(to != nullptr ? to->tsan : scheduler_tsan, kNoSynchronisation);
  swapcontext(here, there);
#elif defined(EMULATION_ASAN)
  void* own = nullptr;
  const bool ends = from != nullptr && from->done;
  __sanitizer_start_switch_fiber(ends ? nullptr : &own,
                                 to != nullptr ? to->stack.get() : scheduler_stack,
                                 to != nullptr ? kStackBytes : scheduler_stack_bytes);
  swapcontext(here, there);
  __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
  swapcontext(here, there);
#endif
}

bool may_run(const Fiber& fiber) {
  return !fiber.done &&
         (fiber.waits_for == nullptr || fiber.waits_for->generation != fiber.generation);
}

Fiber* next_fiber() {
  for (size_t tried = 0; tried < order.size(); ++tried) {
    place = (place + 1) % order.size();
    if (may_run(*order[place])) {
      return order[place];
    }
  }
  return nullptr;
}

void wait(Barrier& barrier, bool orders_memory) {
  Fiber* self = current;
  if (orders_memory) {
    release(&barrier);
  }
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
  } else {
    self->waits_for = &barrier;
    self->generation = barrier.generation;
    Fiber* next = next_fiber();
    if (next == nullptr) {
      fail("deadlock: a barrier or a shuffle is not reached by all threads");
    }
    change(self, next);
    self->waits_for = nullptr;
  }
  if (orders_memory) {
    acquire(&barrier);
  }
}

void fiber_main() {
#if defined(EMULATION_ASAN)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (scheduler_stack == nullptr) {  // the first fiber comes from the scheduler's own stack
    scheduler_stack = stack;
    scheduler_stack_bytes = bytes;
  }
#endif
  Fiber* self = current;
  acquire(&kernel_boundary);
  (*kernel_now)();
  release(&kernel_boundary);
  self->done = true;
  change(self, next_fiber());
  fail("a finished thread ran on");
}

void start(Cluster& cluster, Block& block, unsigned linear) {
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  fiber->block = &block;
  fiber->linear = linear;
  fiber->index = dim3(linear % shape_now.block.x, linear / shape_now.block.x, 0);
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = kStackBytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, fiber_main, 0);
#if defined(EMULATION_TSAN)
  fiber->tsan = __tsan_create_fiber(0);
#endif
  cluster.fibers.push_back(std::move(fiber));
}

// Build the blocks first..first+size of the grid, which run at the same time.
std::unique_ptr<Cluster> cluster_at(unsigned first, unsigned threads) {
  auto cluster = std::make_unique<Cluster>();
  cluster->barrier.expected = threads * shape_now.cluster;
  cluster->blocks.resize(shape_now.cluster);
  for (unsigned rank = 0; rank < shape_now.cluster; ++rank) {
    Block& block = cluster->blocks[rank];
    const unsigned linear = first + rank;
    block.cluster = cluster.get();
    block.rank = rank;
    block.index = dim3(linear % shape_now.grid.x, linear / shape_now.grid.x, 0);
    block.barrier.expected = threads;
    block.warps.resize(threads / kWarp);
    for (Warp& warp : block.warps) {
      warp.barrier.expected = warp.shuffle.expected = kWarp;
    }
    void* shared = nullptr;  // of exactly its size, so that AddressSanitizer sees its end
    if (posix_memalign(&shared, 128, shape_now.shared_bytes) != 0) {
      fail("no memory");
    }
    block.shared = static_cast<unsigned char*>(shared);
    for (unsigned thread = 0; thread < threads; ++thread) {
      start(*cluster, block, thread);
    }
  }
  return cluster;
}

void run_cluster(Cluster& cluster) {
  order.clear();
  for (auto& fiber : cluster.fibers) {
    order.push_back(fiber.get());
  }
  if (reversed()) {
    std::reverse(order.begin(), order.end());
  }
  place = order.size() - 1;
  change(nullptr, next_fiber());
  for (Fiber* fiber : order) {
    if (!fiber->done) {
      fail("deadlock: some threads ended while others wait for them");
    }
#if defined(EMULATION_TSAN)
    __tsan_destroy_fiber(fiber->tsan);
#endif
  }
}

}  // namespace

void run(const Shape& shape, const std::function<void()>& kernel) {
  const unsigned threads = shape.block.x * shape.block.y;
  const unsigned blocks = shape.grid.x * shape.grid.y;
  if (threads % kWarp != 0 || blocks % shape.cluster != 0) {
    fail("whole warps and whole clusters only");
  }
  if (std::getenv("EMULATION_TRACE") != nullptr) {
    std::fprintf(stderr, "launch: blocks %u threads %u cluster %u shared %zu\n", blocks, threads,
                 shape.cluster, shape.shared_bytes);
  }
  if (std::getenv("EMULATION_SHAPES_ONLY") != nullptr) {
    return;
  }
  shape_now = shape;
  kernel_now = &kernel;
#if defined(EMULATION_TSAN)
  scheduler_tsan = __tsan_get_current_fiber();
#endif
  release(&kernel_boundary);
  // Stacks and shared memory stay until the end: memory that two blocks had in turn would look
  // like memory that they share.
  std::vector<std::unique_ptr<Cluster>> clusters;
  for (unsigned first = 0; first < blocks; first += shape.cluster) {
    clusters.push_back(cluster_at(first, threads));
    run_cluster(*clusters.back());
  }
  acquire(&kernel_boundary);
  for (auto& cluster : clusters) {
    for (Block& block : cluster->blocks) {
      std::free(block.shared);
    }
  }
}

dim3 thread_index() { return current->index; }
dim3 block_index() { return current->block->index; }
dim3 grid_size() { return shape_now.grid; }
unsigned char* dynamic_shared() { return current->block->shared; }

void sync_block() { wait(current->block->barrier, true); }
void sync_warp() { wait(current->block->warps[current->linear / kWarp].barrier, true); }

// Two sets of slots in turns: nobody can be two shuffles ahead of a reader.
uint32_t shuffle_xor(uint32_t value, int mask) {
  Warp& warp = current->block->warps[current->linear / kWarp];
  const unsigned lane = current->linear % kWarp;
  uint32_t* slots = warp.slots[current->shuffles++ % 2];
  slots[lane] = value;
  wait(warp.shuffle, false);
  return slots[lane ^ static_cast<unsigned>(mask)];
}

unsigned cluster_rank() { return current->block->rank; }
unsigned cluster_size() { return shape_now.cluster; }
void sync_cluster() { wait(current->block->cluster->barrier, true); }

// A block has started for sure only once the cluster has met at a barrier.
void* in_block(void* shared, unsigned rank) {
  const Block& own = *current->block;
  if (rank != own.rank && own.cluster->barrier.generation == 0) {
    fail("a block reaches into another, which may not have started");
  }
  const auto offset = static_cast<unsigned char*>(shared) - own.shared;
  return own.cluster->blocks[rank].shared + offset;
}

}  // namespace emulation
