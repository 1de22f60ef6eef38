//===- ThreadPool.cpp - the threads of one package ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Pieces are claimed by compare-and-swap on one word that holds the region's
// number and the pieces left. A worker that comes late claims nothing, so the
// caller never waits for a worker to wake up, only for claimed pieces.
//
//===----------------------------------------------------------------------===//

#include "ThreadPool.h"

#include <algorithm>
#include <sched.h>

namespace mpt::rt {

static void pauseCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int availableCpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int threads) {
  // Spinning pays only if every thread has a CPU of its own.
  spins = threads <= availableCpus() ? 4000 : 0;
  for (int i = 1; i < threads; ++i)
    workers.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stop = true;
  }
  wake.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

static uint32_t piecesLeft(uint64_t state) {
  return static_cast<uint32_t>(state);
}

void ThreadPool::work() {
  while (!stop) {
    drain();
    bool found = false;
    for (int i = 0; i < spins && !found; ++i) {
      found = piecesLeft(state.load(std::memory_order_relaxed)) != 0;
      pauseCpu();
    }
    if (found)
      continue;
    std::unique_lock<std::mutex> lock(mutex);
    sleeping.fetch_add(1);
    wake.wait(lock, [&] { return stop || piecesLeft(state.load()) != 0; });
    sleeping.fetch_sub(1);
  }
}

void ThreadPool::drain() {
  uint64_t seen = state.load(std::memory_order_acquire);
  while (uint32_t left = piecesLeft(seen)) {
    if (!state.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire))
      continue;
    int64_t end = std::min<int64_t>(left * step, count);
    function(context, (left - 1) * step, end);
    done.fetch_add(1, std::memory_order_release);
    seen = state.load(std::memory_order_acquire);
  }
}

void ThreadPool::run(int64_t newCount, int64_t newStep, Function newFunction,
                     const void *newContext) {
  function = newFunction;
  context = newContext;
  count = newCount;
  step = newStep;
  int64_t pieces = (count + step - 1) / step;
  done.store(0, std::memory_order_relaxed);
  uint64_t region = (state.load(std::memory_order_relaxed) >> 32) + 1;
  // Sequentially consistent with `sleeping`: a worker that goes to sleep sees
  // the new pieces, or is seen here and woken.
  state.store(region << 32 | static_cast<uint64_t>(pieces));
  if (sleeping.load() != 0) {
    {
      std::lock_guard<std::mutex> lock(mutex);
    }
    wake.notify_all();
  }
  drain();
  for (int i = 0; done.load(std::memory_order_acquire) != pieces; ++i) {
    if (i < std::max(spins, 100))
      pauseCpu();
    else
      sched_yield();
  }
}

} // namespace mpt::rt
