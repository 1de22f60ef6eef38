//===- Barriers.cpp - mbarriers, named barriers, registers ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mbarrier objects as the PTX ISA describes them (pending arrivals, bytes still
// expected, a phase that is over when both are zero), bar.sync and bar.arrive,
// and the pool of registers behind setmaxnreg. Stricter than the hardware:
//
//   * bytes must be expected before the copy that brings them is issued;
//   * an mbarrier is used by other threads only behind a barrier, and by copies
//     only behind a fence.mbarrier_init or fence.proxy.async of the thread that
//     initialised it;
//   * nothing may be outstanding when the block ends.
//
//===----------------------------------------------------------------------===//

#include "Async.h"

#include <algorithm>
#include <map>

using namespace mpt::sim;

namespace {

/// What the 8 bytes of an mbarrier hold, so that stores into it are noticed.
constexpr uint64_t barrierContent = 0x6d62617272696572u;
/// Limits of the PTX ISA.
constexpr unsigned maxArrivals = (1u << 20) - 1, maxBytes = (1u << 20) - 1;
constexpr unsigned registerFile = 64 * 1024;

struct MBarrier {
  unsigned index;
  Source source;
  unsigned count, pending;
  /// Bytes that the phase still expects, and those on their way.
  unsigned expected = 0, flying = 0;
  /// Phases that are over; the running one has parity `phase & 1`.
  unsigned phase = 0;
  /// What the arrivals of the running phase, and of all earlier ones, knew.
  Knowledge arriving, over;
  unsigned initThread, initClock;
  bool fenced = false;
};

struct NamedBarrier {
  unsigned threads = 0;
  std::vector<unsigned> arrived;
  unsigned phase = 0;
  Knowledge arriving, over;
};

struct Barriers {
  std::map<uintptr_t, MBarrier> mbarriers;
  NamedBarrier named[16];
  /// setmaxnreg: registers of each thread, and free ones of the block.
  std::vector<unsigned> registers;
  unsigned pool = 0;
};

Barriers state;

std::string quantity(unsigned n, const char *what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

uintptr_t addressOf(const void *pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

/// The mbarrier at `pointer`, as the running thread may use it.
MBarrier &barrierAt(const void *pointer, const char *what,
                    const Source &source) {
  auto it = state.mbarriers.find(addressOf(pointer));
  if (it == state.mbarriers.end())
    abandonAt(source, std::string(what) + " of " +
                          describeAddress(addressOf(pointer)) +
                          ", which is no initialised mbarrier,");
  MBarrier &barrier = it->second;
  uint64_t content;
  __builtin_memcpy(&content, pointer, sizeof(content));
  if (content != barrierContent)
    abandonAt(source, std::string(what) + " of the mbarrier " +
                          describeAddress(addressOf(pointer)) +
                          ", which something wrote over,");
  if (!isBehind(currentThread(), barrier.initThread, barrier.initClock))
    abandonAt(source, std::string(what) + " of an mbarrier that " +
                          threadText(barrier.initThread) + " initialised at " +
                          barrier.source.text() +
                          " with no barrier in between,");
  return barrier;
}

/// Begins the next phase if this one is over.
void finishPhase(uintptr_t address, MBarrier &barrier) {
  if (barrier.pending || barrier.expected)
    return;
  ++barrier.phase;
  barrier.pending = barrier.count;
  barrier.over.resize(barrier.arriving.size());
  for (size_t i = 0; i < barrier.arriving.size(); ++i)
    barrier.over[i] = std::max(barrier.over[i], barrier.arriving[i]);
  barrier.arriving.clear();
  notePhases(barrier.over, barrier.index, barrier.phase);
  wakeWaiters(reinterpret_cast<const void *>(address));
}

} // namespace

//===----------------------------------------------------------------------===//
// mbarriers
//===----------------------------------------------------------------------===//

void mpt::sim::barrierInit(void *pointer, unsigned arrivals, const char *file,
                           int line) {
  Source source = {file, line};
  uintptr_t address = addressOf(pointer);
  Range array = sharedArrayAt(address);
  if (address % 8 || address + 8 > array.end)
    abandonAt(source, "mbarrier.init of " + describeAddress(address) +
                          ", expected 8 aligned bytes of shared memory,");
  if (arrivals == 0 || arrivals > maxArrivals)
    abandonAt(source, "mbarrier.init for " + std::to_string(arrivals) +
                          " arrivals, expected 1 to " +
                          std::to_string(maxArrivals) + ",");
  if (state.mbarriers.count(address) || state.mbarriers.size() == maxBarriers)
    abandonAt(source, state.mbarriers.count(address)
                          ? "mbarrier.init of an initialised mbarrier"
                          : "more than " + std::to_string(maxBarriers) +
                                " mbarriers in one block");
  widenClocks();
  MBarrier barrier;
  barrier.index = static_cast<unsigned>(state.mbarriers.size());
  barrier.source = source;
  barrier.count = barrier.pending = arrivals;
  barrier.initThread = currentThread();
  barrier.initClock = threadClock(currentThread());
  state.mbarriers.emplace(address, std::move(barrier));
  __builtin_memcpy(pointer, &barrierContent, sizeof(barrierContent));
  if (checker().asyncWrite)
    checker().asyncWrite(address, 8, file, line);
}

void mpt::sim::barrierArrive(void *pointer, bool arrive, unsigned expectBytes,
                             const char *file, int line) {
  Source source = {file, line};
  MBarrier &barrier = barrierAt(pointer, "mbarrier.arrive", source);
  if (arrive && barrier.pending == 0)
    abandonAt(source, "mbarrier.arrive of an mbarrier for " +
                          quantity(barrier.count, "arrival") +
                          " that has had them all in this phase (" +
                          quantity(barrier.expected, "byte") +
                          " are still to come),");
  barrier.expected += expectBytes;
  if (barrier.expected > maxBytes)
    abandonAt(source, "mbarrier expects " + quantity(barrier.expected, "byte") +
                          ", at most " + std::to_string(maxBytes) +
                          " are possible,");
  if (!arrive)
    return;
  --barrier.pending;
  release(currentThread(), barrier.arriving);
  finishPhase(addressOf(pointer), barrier);
}

bool mpt::sim::barrierTryWait(void *pointer, unsigned parity, const char *file,
                              int line) {
  Source source = {file, line};
  MBarrier &barrier = barrierAt(pointer, "mbarrier.try_wait", source);
  if ((barrier.phase & 1) == (parity & 1))
    waitFor(pointer, "mbarrier.try_wait", file, line);
  if ((barrier.phase & 1) == (parity & 1))
    return false;
  acquire(currentThread(), barrier.over);
  return true;
}

BarrierUse mpt::sim::beginCopyTo(void *pointer, unsigned bytes,
                                 const Source &source) {
  MBarrier &barrier = barrierAt(pointer, "cp.async.bulk.tensor", source);
  if (!barrier.fenced)
    abandonAt(source, "cp.async.bulk.tensor to an mbarrier whose "
                      "initialisation at " +
                          barrier.source.text() +
                          " no fence.mbarrier_init followed,");
  if (barrier.flying + bytes > barrier.expected)
    abandonAt(source, "copy of " + quantity(bytes, "byte") +
                          " to an mbarrier that expects " +
                          std::to_string(barrier.expected - barrier.flying) +
                          " more in this phase,");
  barrier.flying += bytes;
  return {barrier.index, barrier.phase};
}

void mpt::sim::endCopyTo(void *pointer, unsigned bytes) {
  auto it = state.mbarriers.find(addressOf(pointer));
  it->second.flying -= bytes;
  it->second.expected -= bytes;
  finishPhase(it->first, it->second);
}

void mpt::sim::barrierInitFence() {
  for (auto &[address, barrier] : state.mbarriers)
    if (barrier.initThread == currentThread())
      barrier.fenced = true;
}

void mpt::sim::proxyFence() {
  barrierInitFence();
  asyncState().fences[currentThread()].push_back(tickClock(currentThread()));
}

void mpt::sim::beginBarriers(unsigned threads) {
  state.mbarriers.clear();
  for (NamedBarrier &one : state.named)
    one = {};
  // What launch bounds of one block a multiprocessor give a thread.
  state.registers.assign(threads,
                         std::min(255u, registerFile / threads / 8 * 8));
  state.pool = 0;
}

std::string mpt::sim::endBarriers() {
  for (const auto &[address, barrier] : state.mbarriers)
    if (barrier.expected)
      return "the mbarrier initialised at " + barrier.source.text() +
             " still expects " + quantity(barrier.expected, "byte") +
             " when the block ends";
  return "";
}

std::string mpt::sim::describeBarrier(const void *key) {
  auto it = state.mbarriers.find(addressOf(key));
  if (it != state.mbarriers.end()) {
    const MBarrier &barrier = it->second;
    return " (phase " + std::to_string(barrier.phase) + ", parity " +
           std::to_string(barrier.phase & 1) + ", lacks " +
           quantity(barrier.pending, "arrival") + " of " +
           std::to_string(barrier.count) + " and " +
           quantity(barrier.expected, "byte") + ")";
  }
  for (const NamedBarrier &one : state.named)
    if (key == &one)
      return " (barrier " + std::to_string(&one - state.named) + ", " +
             std::to_string(one.arrived.size()) + " of " +
             quantity(one.threads, "thread") + " came)";
  if (key == &state.pool)
    return " (" + quantity(state.pool, "register") + " are free)";
  return "";
}

//===----------------------------------------------------------------------===//
// Named barriers
//===----------------------------------------------------------------------===//

void mpt::sim::namedBarrier(unsigned id, unsigned threads, bool wait,
                            const char *file, int line) {
  Source source = {file, line};
  if (id == 0 || id > 15)
    abandonAt(source, "named barrier " + std::to_string(id) +
                          ", expected 1 to 15 (0 is __syncthreads),");
  if (threads == 0 || threads % 32 || threads > state.registers.size())
    abandonAt(source, "named barrier for " + quantity(threads, "thread") +
                          ", expected a multiple of 32 up to " +
                          std::to_string(state.registers.size()) + ",");
  NamedBarrier &barrier = state.named[id];
  if (barrier.arrived.empty())
    barrier.threads = threads;
  if (barrier.threads != threads)
    abandonAt(source, "named barrier " + std::to_string(id) + " for " +
                          quantity(threads, "thread") +
                          ", but others came for " +
                          std::to_string(barrier.threads) + ",");
  auto &arrived = barrier.arrived;
  if (std::find(arrived.begin(), arrived.end(), currentThread()) !=
      arrived.end())
    abandonAt(source, "second arrival in one phase of named barrier " +
                          std::to_string(id));
  arrived.push_back(currentThread());
  release(currentThread(), barrier.arriving);
  unsigned phase = barrier.phase;
  if (arrived.size() == threads) {
    ++barrier.phase;
    std::swap(barrier.over, barrier.arriving);
    barrier.arriving.clear();
    arrived.clear();
    wakeWaiters(&barrier);
  }
  while (wait && barrier.phase == phase)
    waitFor(&barrier, "named barrier", file, line);
  if (wait)
    acquire(currentThread(), barrier.over);
}

//===----------------------------------------------------------------------===//
// Registers
//===----------------------------------------------------------------------===//

void mpt::sim::setRegisters(unsigned count, bool raise, const char *file,
                            int line) {
  Source source = {file, line};
  const char *what = raise ? "setmaxnreg.inc" : "setmaxnreg.dec";
  unsigned &mine = state.registers[currentThread()];
  if (count < 24 || count > 256 || count % 8)
    abandonAt(source, std::string(what) + " to " + std::to_string(count) +
                          ", expected a multiple of 8 from 24 to 256,");
  if (raise ? count < mine : count > mine)
    abandonAt(source, std::string(what) + " to " + std::to_string(count) +
                          " with " + std::to_string(mine) + " registers");
  if (!raise) {
    state.pool += mine - count;
    mine = count;
    wakeWaiters(&state.pool);
    return;
  }
  while (state.pool < count - mine)
    waitFor(&state.pool, what, file, line);
  state.pool -= count - mine;
  mine = count;
}
