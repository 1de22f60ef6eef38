//===- ThreadPool.h - the threads of one package ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A fork-join pool. A launch list issues thousands of short parallel regions a
// second, so workers spin for a moment before they sleep, and a region costs no
// allocation.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_THREADPOOL_H
#define MPT_LIB_RUNTIME_THREADPOOL_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace mpt::rt {

class ThreadPool {
public:
  /// `threads` counts the calling thread, so `threads - 1` workers start.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int size() const { return static_cast<int>(workers.size()) + 1; }

  /// Calls body(begin, end) on pieces that cover [0, count), in parallel, and
  /// returns when all are done. Pieces are multiples of `grain` (but the last)
  /// and there are at most `piecesPerThread` for each thread, handed out as
  /// threads become free. `body` must not throw.
  template <typename Body>
  void forEach(int64_t count, int64_t grain, int piecesPerThread,
               const Body &body) {
    int64_t pieces = int64_t(size()) * piecesPerThread;
    int64_t units = (count + grain - 1) / grain;
    int64_t step = (units + pieces - 1) / pieces * grain;
    if (count <= 0)
      return;
    if (size() == 1 || step >= count)
      return body(int64_t(0), count);
    run(
        count, step,
        [](const void *context, int64_t begin, int64_t end) {
          (*static_cast<const Body *>(context))(begin, end);
        },
        &body);
  }

private:
  using Function = void (*)(const void *context, int64_t begin, int64_t end);

  void run(int64_t count, int64_t step, Function function, const void *context);
  void work();
  /// Claims and runs pieces until none is left.
  void drain();

  // The current region. Written while no piece of it can be claimed, read by
  // whoever has claimed one: a region does not end before its last piece.
  Function function = nullptr;
  const void *context = nullptr;
  int64_t count = 0, step = 1;

  /// Upper half: number of the region; lower half: pieces not yet claimed.
  alignas(64) std::atomic<uint64_t> state{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  int spins = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;
};

/// CPUs that this process may run on, at least 1.
int availableCpus();

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_THREADPOOL_H
