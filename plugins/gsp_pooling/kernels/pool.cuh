// The reduction over locations, once their weights are known, of some of an image's channels.
#pragma once

#include "accumulators.cuh"

namespace gsp_deploy {

// A range of channels, and the input (an image's) that they are read from.
template <typename In>
struct Channels {
  const In* input;
  int all;    // of the image
  int first;  // of this block
  int end;
};

// Vectors of channels, one a thread; threads beyond the last vector start over with other
// locations, and merge through `scratch` in a fixed order. A thread reads some locations before it
// adds the first, so that their trips to memory overlap.
template <typename In, typename Accumulator, typename Emit>
__device__ void pool_channels_last(const Channels<In>& channels, const float* weights,
                                   const Arguments& args, Accumulator* scratch, Emit emit) {
  constexpr int kTogether = Accumulator::kTogether;
  const bool aligned = rows_are_aligned(channels.input, channels.all);
  const int vectors = divide_up(channels.end - channels.first, kVector<In>);
  int across = kThreads;
  while (across / 2 >= max(vectors, 1)) {
    across /= 2;
  }
  const int groups = kThreads / across;
  const int group = static_cast<int>(threadIdx.x) / across;
  const int lane = static_cast<int>(threadIdx.x) % across;
  for (int base = 0; base < vectors; base += across) {
    const int channel = channels.first + (base + lane) * kVector<In>;
    const int valid = min(channels.end - channel, kVector<In>);
    Accumulator found[kVector<In>];
    if (valid > 0) {
      for (int first = group; first < args.locations; first += kTogether * groups) {
        Vector<In> read[kTogether];
#pragma unroll
        for (int at = 0; at < kTogether; ++at) {
          const int i = first + at * groups;
          const In* source = channels.input + static_cast<size_t>(i) * channels.all + channel;
          read[at] = load_vector(source, i < args.locations ? valid : 0, aligned);
        }
#pragma unroll
        for (int at = 0; at < kTogether; ++at) {
          const int i = first + at * groups;
          if (i < args.locations) {
#pragma unroll
            for (int k = 0; k < kVector<In>; ++k) {
              found[k].add(to_float(read[at].at(k)), weights[i], args);
            }
          }
        }
      }
    }
    if (groups > 1) {
#pragma unroll
      for (int k = 0; k < kVector<In>; ++k) {
        scratch[k * kThreads + threadIdx.x] = found[k];
      }
      __syncthreads();  // every group's share is there
      for (int other = 1; group == 0 && other < groups; ++other) {
#pragma unroll
        for (int k = 0; k < kVector<In>; ++k) {
          found[k].merge(scratch[k * kThreads + other * across + lane]);
        }
      }
      __syncthreads();  // every group's share is read
    }
#pragma unroll
    for (int k = 0; k < kVector<In>; ++k) {
      if (group == 0 && k < valid) {
        emit(channel + k, found[k].result(args));
      }
    }
  }
}

// A channel is a row of locations: eight lanes read it, or a whole warp where it is long. They read
// a part of some channels before they add the first.
template <typename In, typename Accumulator, typename Emit>
__device__ void pool_channels_first(const Channels<In>& channels, const float* weights,
                                    const Arguments& args, Emit emit) {
  constexpr int kTogether = Accumulator::kTogether;
  const bool aligned = rows_are_aligned(channels.input, args.locations);
  const int lanes = args.locations <= 16 * kVector<In> ? 8 : kWarpSize;
  const int rows = kThreads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int row = static_cast<int>(threadIdx.x) / lanes;
  for (int base = channels.first; base < channels.end; base += kTogether * rows) {
    Accumulator found[kTogether];
    for (int i = lane * kVector<In>; i < args.locations; i += lanes * kVector<In>) {
      const int left = args.locations - i;
      Vector<In> read[kTogether];
#pragma unroll
      for (int at = 0; at < kTogether; ++at) {
        const int channel = base + at * rows + row;
        const In* source = channels.input + static_cast<size_t>(channel) * args.locations + i;
        read[at] = load_vector(source, channel < channels.end ? left : 0, aligned);
      }
#pragma unroll
      for (int at = 0; at < kTogether; ++at) {
#pragma unroll
        for (int k = 0; k < kVector<In>; ++k) {
          if (k < left) {
            found[at].add(to_float(read[at].at(k)), weights[i + k], args);
          }
        }
      }
    }
#pragma unroll
    for (int at = 0; at < kTogether; ++at) {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        found[at].merge(found[at].from_lane(distance));
      }
      const int channel = base + at * rows + row;
      if (lane == 0 && channel < channels.end) {
        emit(channel, found[at].result(args));
      }
    }
  }
}

template <typename In, Layout kLayout, typename Accumulator, typename Emit>
__device__ void pool_with(const Channels<In>& channels, const float* weights,
                          const Arguments& args, void* scratch, Emit emit) {
  if (kLayout == Layout::kChannelsLast) {
    pool_channels_last(channels, weights, args, static_cast<Accumulator*>(scratch), emit);
  } else {
    pool_channels_first<In, Accumulator>(channels, weights, args, emit);
  }
}

// Call `emit(channel, value)` once for each channel of the range, from any thread.
template <typename In, Layout kLayout, typename Emit>
__device__ void pool(const Channels<In>& channels, const float* weights, const Arguments& args,
                     void* scratch, Emit emit) {
  if (args.pooling == Pooling::kGap) {
    pool_with<In, kLayout, WeightedMean>(channels, weights, args, scratch, emit);
  } else if (args.pooling == Pooling::kGmp) {
    pool_with<In, kLayout, WeightedMax>(channels, weights, args, scratch, emit);
  } else {
    pool_with<In, kLayout, PowerMean>(channels, weights, args, scratch, emit);
  }
}

// Return the `rank`-th of `size` ranges of an image's channels, whole vectors each.
template <typename In>
__device__ Channels<In> channels_of(const Arguments& args, int image, int rank, int size) {
  const int all = args.pooled_channels;
  const int width = round_up(divide_up(all, size), kVector<In>);
  const size_t offset = static_cast<size_t>(image) * all * args.locations;
  return {static_cast<const In*>(args.pooled_input()) + offset, all, min(rank * width, all),
          min((rank + 1) * width, all)};
}

}  // namespace gsp_deploy
