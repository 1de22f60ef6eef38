//===- Internal.h - What the simulator's files share ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Memory, queue, scheduler and checker of the CUDA simulator see each other
// through the functions here; emitted code sees none of them.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_CUDASIM_INTERNAL_H
#define MPT_LIB_CUDASIM_INTERNAL_H

#include "mpt/CUDASim/CudaSim.h"

#include <functional>
#include <vector>

namespace mpt::sim {

//===----------------------------------------------------------------------===//
// Errors (HostApi.cpp)
//===----------------------------------------------------------------------===//

/// Makes `code` the last error, with `detail` as its text. Returns `code`.
cudaError_t error(cudaError_t code, std::string detail);

/// As error(), and keeps `detail` as the report and prints it.
cudaError_t fault(cudaError_t code, std::string detail);

//===----------------------------------------------------------------------===//
// Device and planned failures (Device.cpp)
//===----------------------------------------------------------------------===//

/// What a fault has left of the device: cudaSuccess, or the error that every
/// later call returns.
cudaError_t deviceState();
/// True if the work of this name is to be refused when it is queued, or to
/// fault when it runs (deviceState() tells from then on).
bool refusesLaunch(const std::string &name);
bool faults(const std::string &name);
bool refusesGraph();
/// Bytes that may still be allocated.
size_t freeMemory();

//===----------------------------------------------------------------------===//
// Queue (HostApi.cpp)
//===----------------------------------------------------------------------===//

using Work = std::function<cudaError_t()>;

/// Runs `work` now, or records it if `stream` is being captured.
cudaError_t enqueue(cudaStream_t stream, Work work);

/// Calls the hook before and behind one kernel or product.
void callHook(const std::string &name, int after);

/// Name given by nameNextProduct, which is then forgotten.
std::string takeProductName();

//===----------------------------------------------------------------------===//
// Memory (Memory.cpp)
//===----------------------------------------------------------------------===//

/// Device memory lies in one reserved range of addresses.
struct Range {
  uintptr_t begin = 0, end = 0;
  bool contains(uintptr_t address) const {
    return address >= begin && address < end;
  }
};
Range deviceRange();

/// Bytes of all live allocations.
size_t allocatedBytes();
/// Fills `*pointer`; returns an error text, empty if there is memory.
std::string allocate(void **pointer, size_t bytes);
/// Returns an error text: no such allocation, or written beyond its end.
std::string release(void *pointer);

bool isDevicePointer(const void *pointer);
/// Returns why [pointer, pointer + bytes) is not within one live allocation.
std::string checkDeviceRange(const void *pointer, size_t bytes);
/// What lies at `address`, for messages.
std::string describeAddress(uintptr_t address);
/// Returns what was written beyond an allocation, empty if nothing.
std::string checkCanaries();

/// The memory that a launch's pointer arguments give access to: if the pointer
/// is in named buffers, those; else empty ranges (all that has no name).
std::vector<Range> allowedRanges(const Launch &launch);
/// True if a named buffer contains the address.
bool inNamedBuffer(uintptr_t address);
bool anyNamedBuffer();
/// The live allocation that contains the address, else empty.
Range allocationAt(uintptr_t address);

/// Shared memory: static arrays by site, and the dynamic part.
void beginSharedLaunch(size_t dynamicBytes);
/// Fills all of it with 0xFF (NaN), as memory of unknown content.
void beginSharedBlock();
/// Returns what was written beside an array, empty if nothing.
std::string endSharedBlock();
Range sharedRange();
/// The array (static or dynamic part) that contains the address, else empty.
Range sharedArrayAt(uintptr_t address);

//===----------------------------------------------------------------------===//
// Scheduler (Scheduler.cpp)
//===----------------------------------------------------------------------===//

/// Returns the fault of the launch, empty if it ran well.
std::string runLaunch(const Launch &launch);

/// Index in its block of the thread that runs, and texts for messages.
unsigned currentThread();
std::string threadText(unsigned thread);
std::string blockText();
/// " at file:line" of a machine address (by addr2line where it is installed).
std::string placeText(const void *address);
/// Addresses of the threads' stacks.
Range stackRange();

/// True while a thread of a kernel runs, and not the simulator.
bool threadRuns();

/// Ends the running kernel with a fault, from a thread of it.
[[noreturn]] void abandon(std::string message);

/// Lets the running thread wait until wakeWaiters(key); it then looks again
/// whether what it waits for has come. `what` names the instruction.
void waitFor(const void *key, const char *what, const char *file, int line);
void wakeWaiters(const void *key);

//===----------------------------------------------------------------------===//
// Clocks (Clocks.cpp): which threads of a block are behind what others did
//===----------------------------------------------------------------------===//

/// What is known of every thread's clock and of every mbarrier's phases.
using Knowledge = std::vector<unsigned>;
constexpr unsigned maxBarriers = 64;

void beginClocks(unsigned threads);
/// Keeps full rows from here on: for blocks in which any threads may meet.
void widenClocks();
/// The running clock of a thread: what it does now bears this time.
unsigned threadClock(unsigned thread);
/// Advances the clock of a thread and returns it.
unsigned tickClock(unsigned thread);
/// True if `thread` is behind what `other` did at time `clock`.
bool isBehind(unsigned thread, unsigned other, unsigned clock);
/// All threads of the block, or the lanes of `mask`, have met.
void joinBlock();
void joinWarp(unsigned warp, unsigned mask);
/// Adds what `thread` knows to `to` (an arrival), or the reverse (a wait).
void release(unsigned thread, Knowledge &to);
void acquire(unsigned thread, const Knowledge &from);
/// How many phases of an mbarrier `thread` knows to be over.
unsigned phasesKnown(unsigned thread, unsigned barrier);
/// Notes in `to` that `phases` phases of an mbarrier are over.
void notePhases(Knowledge &to, unsigned barrier, unsigned phases);

//===----------------------------------------------------------------------===//
// Asynchronous work (Async.cpp, linked in only with kernels that have it)
//===----------------------------------------------------------------------===//

/// What copies, mbarriers and wgmma want to know, and say. All may be null.
struct AsyncHooks {
  void (*beginBlock)() = nullptr;
  /// Returns what was left undone, empty if nothing.
  std::string (*endBlock)() = nullptr;
  std::string (*threadExit)(unsigned thread) = nullptr;
  /// Called between threads; `idle`: none can run. Returns whether anything
  /// was completed.
  bool (*step)(bool idle) = nullptr;
  /// State of what threads wait for with `key`.
  std::string (*describe)(const void *key) = nullptr;
  /// Why an ordinary access of the running thread to shared memory collides
  /// with asynchronous work, empty if it does not.
  std::string (*ordinaryAccess)(uintptr_t address, size_t bytes,
                                bool write) = nullptr;
};
AsyncHooks &async();

//===----------------------------------------------------------------------===//
// Checker (Checker.cpp, linked in only where instrumented code asks for it)
//===----------------------------------------------------------------------===//

/// What the checker wants to know, and says. All may be null.
struct CheckerHooks {
  void (*beginLaunch)(const Launch &) = nullptr;
  /// Returns what was found, empty if nothing.
  std::string (*endLaunch)() = nullptr;
  void (*beginBlock)() = nullptr;
  void (*atomicAccess)(uintptr_t address, size_t bytes, const char *file,
                       int line) = nullptr;
  /// Host or product wrote device memory.
  void (*written)(uintptr_t address, size_t bytes) = nullptr;
  /// True if all bytes were written.
  bool (*isWritten)(uintptr_t address, size_t bytes) = nullptr;
  /// The running thread starts work that reads or writes shared memory through
  /// the async proxy. `fenced(t, clock)` is the time of the first
  /// fence.proxy.async of thread t behind `clock`, 0 if there is none.
  void (*asyncRead)(uintptr_t address, size_t bytes,
                    unsigned (*fenced)(unsigned thread, unsigned clock),
                    const char *file, int line) = nullptr;
  void (*asyncWrite)(uintptr_t address, size_t bytes, const char *file,
                     int line) = nullptr;
};
CheckerHooks &checker();

} // namespace mpt::sim

#endif // MPT_LIB_CUDASIM_INTERNAL_H
