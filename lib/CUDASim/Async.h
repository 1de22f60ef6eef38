//===- Async.h - What asynchronous work knows of itself ---------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// State that mbarriers, tensor copies and wgmma share: which bytes of shared
// memory copies fill, which are being read, and when unfinished work completes.
// Whether somebody may touch such bytes is decided by what the thread knows
// (Clocks.cpp), not by what happens to be finished, so an error shows in every
// order of completion.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_CUDASIM_ASYNC_H
#define MPT_LIB_CUDASIM_ASYNC_H

#include "Internal.h"

#include "mpt/CUDASim/Hopper.h"

#include <list>

namespace mpt::sim {

/// A place in the source.
struct Source {
  const char *file = nullptr;
  int line = 0;
  std::string text() const {
    return std::string(file) + ":" + std::to_string(line);
  }
};

/// Bytes of shared memory that a copy fills. They belong to whoever knows that
/// the barrier's phase is over.
struct Fill {
  Range range;
  unsigned barrier, phase;
  Source source;
};

/// Bytes of shared memory that wgmma or a store reads. They are free for
/// whoever is behind all of `ends`: a time at which a thread waited for the
/// work (time 0: not yet).
struct Reading {
  struct End {
    unsigned thread, clock;
  };
  Range range;
  const char *what;
  Source source;
  std::vector<End> ends;
};

/// When asynchronous work of one kind completes.
enum class Completion { Early, Late, Any };

struct AsyncState {
  uint64_t random = 0;
  Completion copies, stores, products;
  std::vector<Fill> fills;
  std::list<Reading> readings;
  /// Times of each thread's fence.proxy.async, ascending.
  std::vector<unsigned> fences[1024];

  unsigned draw(unsigned bound);
};
AsyncState &asyncState();

/// abandon() with the running thread's name and the place in front.
[[noreturn]] void abandonAt(const Source &source, const std::string &message);

/// The running thread starts work that reads, or writes, `range` of shared
/// memory through the async proxy: abandons unless it may. `checkBytes`: look
/// at the checker's cells too.
void beginAsyncRead(Range range, const char *what, const Source &source,
                    bool checkBytes);
void beginAsyncWrite(Range range, const char *what, const Source &source);

/// Adds a reading of `range`, which must be ended for each of `threads`.
Reading *addReading(Range range, const char *what, const Source &source,
                    std::vector<unsigned> threads);
/// The running thread waited for the reading.
void endReading(Reading &reading);

// Barriers.cpp
struct BarrierUse {
  unsigned index, phase;
};
void beginBarriers(unsigned threads);
/// A copy of `bytes` is on its way to the barrier; abandons unless the phase
/// expects that many more.
BarrierUse beginCopyTo(void *barrier, unsigned bytes, const Source &source);
/// It has landed.
void endCopyTo(void *barrier, unsigned bytes);
std::string endBarriers();
std::string describeBarrier(const void *key);

// TensorCopy.cpp
void beginCopies();
/// Completes one copy or store; returns whether there was one.
bool completeCopy(bool idle);
std::string leftStores(unsigned thread);
std::string endCopies();

// Wgmma.cpp
void beginProducts();
bool executeProduct();
std::string leftProducts(unsigned thread);

} // namespace mpt::sim

#endif // MPT_LIB_CUDASIM_ASYNC_H
