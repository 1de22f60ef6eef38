//===- Clocks.cpp - Which threads are behind what others did --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Vector clocks for the threads of the running block. __syncthreads orders all
// threads, so a single time is enough for it; __syncwarp orders lanes, so each
// thread knows 32 clocks. Blocks that use named barriers or mbarriers, which
// order any threads, get a full row for each thread from the first such use on,
// and the row also counts the phases of each mbarrier that are known to be
// over: that is how copies, which complete a phase, are ordered with readers.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <algorithm>
#include <cstring>

using namespace mpt::sim;

namespace {

struct Clocks {
  unsigned threads = 0;
  unsigned clock[1024];
  /// Whatever has a lower clock is in front of the latest __syncthreads.
  unsigned barrierTime = 0;
  /// known[i][j]: clock of lane j of i's warp up to which i is behind it.
  unsigned known[1024][32];
  /// Rows of `width` numbers take the place of `known` once `wide` is set.
  bool wide = false;
  size_t width = 0;
  std::vector<unsigned> rows;

  unsigned *row(unsigned thread) { return rows.data() + thread * width; }
};

Clocks state;

void raise(unsigned *to, const unsigned *from, size_t count) {
  for (size_t i = 0; i < count; ++i)
    to[i] = std::max(to[i], from[i]);
}

} // namespace

void mpt::sim::beginClocks(unsigned threads) {
  state.threads = threads;
  std::fill_n(state.clock, threads, 1);
  std::memset(state.known, 0, threads * sizeof(state.known[0]));
  state.barrierTime = 1;
  state.wide = false;
}

void mpt::sim::widenClocks() {
  if (state.wide)
    return;
  state.wide = true;
  state.width = state.threads + maxBarriers;
  state.rows.assign(state.threads * state.width, 0);
  for (unsigned i = 0; i < state.threads; ++i) {
    unsigned first = i / 32 * 32;
    std::copy_n(state.known[i], std::min(32u, state.threads - first),
                state.row(i) + first);
  }
}

unsigned mpt::sim::threadClock(unsigned thread) { return state.clock[thread]; }

unsigned mpt::sim::tickClock(unsigned thread) { return ++state.clock[thread]; }

bool mpt::sim::isBehind(unsigned thread, unsigned other, unsigned clock) {
  if (other == thread || clock < state.barrierTime)
    return true;
  if (state.wide)
    return clock <= state.row(thread)[other];
  return other / 32 == thread / 32 && clock <= state.known[thread][other % 32];
}

void mpt::sim::joinBlock() {
  unsigned latest =
      *std::max_element(state.clock, state.clock + state.threads) + 1;
  std::fill_n(state.clock, state.threads, latest);
  state.barrierTime = latest;
  if (!state.wide)
    return;
  Knowledge joined(state.width);
  for (unsigned i = 0; i < state.threads; ++i)
    raise(joined.data(), state.row(i), state.width);
  for (unsigned i = 0; i < state.threads; ++i)
    std::copy(joined.begin(), joined.end(), state.row(i));
}

void mpt::sim::joinWarp(unsigned warp, unsigned mask) {
  // Without the checker only blocks with barriers need to know.
  if (!state.wide && !checker().beginLaunch)
    return;
  unsigned first = warp * 32;
  size_t width = state.wide ? state.width : 32;
  auto row = [&](unsigned lane) {
    return state.wide ? state.row(first + lane) : state.known[first + lane];
  };
  Knowledge joined(width);
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) {
      raise(joined.data(), row(lane), width);
      unsigned &own = joined[state.wide ? first + lane : lane];
      own = std::max(own, state.clock[first + lane]);
    }
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) {
      std::copy(joined.begin(), joined.end(), row(lane));
      ++state.clock[first + lane];
    }
}

void mpt::sim::release(unsigned thread, Knowledge &to) {
  widenClocks();
  to.resize(state.width);
  raise(to.data(), state.row(thread), state.width);
  to[thread] = std::max(to[thread], state.clock[thread]++);
}

void mpt::sim::acquire(unsigned thread, const Knowledge &from) {
  widenClocks();
  raise(state.row(thread), from.data(), from.size());
}

unsigned mpt::sim::phasesKnown(unsigned thread, unsigned barrier) {
  widenClocks();
  return state.row(thread)[state.threads + barrier];
}

void mpt::sim::notePhases(Knowledge &to, unsigned barrier, unsigned phases) {
  widenClocks();
  to.resize(state.width);
  to[state.threads + barrier] = phases;
}
