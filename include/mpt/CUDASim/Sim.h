//===- Sim.h - The simulator's own interface --------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// How kernels reach the simulator, and what tests and tools ask of it: the
// order in which threads run, and the report of the latest fault. A package
// built for simulation also exports the C functions at the end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDASIM_SIM_H
#define MPT_CUDASIM_SIM_H

#include "mpt/CUDASim/HostApi.h"

#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mpt::sim {

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

/// Which thread of a block runs next. A race shows in one order and not in
/// another, so tests run under several. Blocks follow the same order.
enum class Order {
  /// One warp as far as it goes, warps and lanes ascending. The default.
  Forward,
  /// The same, descending.
  Reverse,
  /// The same, warps and lanes drawn at random.
  Random,
  /// A random thread after every synchronisation.
  Interleaved
};

struct Options {
  Order order = Order::Forward;
  uint64_t seed = 0;
};

/// In force from the next launch. At start they come from MPT_SIM_ORDER:
/// forward, reverse, random[:seed] or interleaved[:seed].
Options &options();

/// Reads the text form of an order; returns false if it is none.
bool parseOrder(const char *text, Options &options);

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

/// A kernel with its arguments, as bound at launch.
class Call {
public:
  virtual ~Call() = default;
  virtual void run() const = 0;
  /// Size of the object: the checker lets threads read it.
  virtual size_t size() const = 0;
};

template <typename... Params> class BoundCall final : public Call {
public:
  template <typename... Args>
  explicit BoundCall(void (*kernel)(Params...), Args... args)
      : kernel(kernel), args(args...) {}
  MPT_SIM_INTERNAL void run() const override {
    invoke(std::index_sequence_for<Params...>());
  }
  size_t size() const override { return sizeof(*this); }

private:
  template <size_t... I>
  MPT_SIM_INTERNAL void invoke(std::index_sequence<I...>) const {
    kernel(std::get<I>(args)...);
  }
  void (*kernel)(Params...);
  std::tuple<std::decay_t<Params>...> args;
};

/// A pointer argument of a launch.
struct PointerArgument {
  const void *pointer;
  int index;
  /// Points to const: the kernel may not write there.
  bool readOnly;
};

struct Launch {
  std::string name;
  const void *kernel = nullptr;
  dim3 grid, block;
  size_t sharedBytes = 0;
  std::vector<PointerArgument> pointers;
  std::shared_ptr<const Call> call;
};

/// Queues a launch; a refusal is what cudaGetLastError returns next.
void submit(Launch launch, cudaStream_t stream);

/// True for structures that tell which pointers they hold: they have
/// `template <typename Visit> void visitPointers(Visit visit) const`.
template <typename T, typename = void>
struct HoldsPointers : std::false_type {};
template <typename T>
struct HoldsPointers<
    T, std::void_t<decltype(std::declval<const T &>().visitPointers(0))>>
    : std::true_type {};

template <typename T>
void addArgument(Launch &launch, int index, const T &value) {
  if constexpr (std::is_pointer_v<T>)
    launch.pointers.push_back({static_cast<const void *>(value), index,
                               std::is_const_v<std::remove_pointer_t<T>>});
  else if constexpr (HoldsPointers<T>::value)
    value.visitPointers(
        [&](const auto *pointer) { addArgument(launch, index, pointer); });
}

template <typename... Params, typename... Args>
void launchKernel(const char *name, void (*kernel)(Params...), dim3 grid,
                  dim3 block, size_t sharedBytes, cudaStream_t stream,
                  Args... args) {
  Launch launch;
  launch.name = name;
  launch.kernel = reinterpret_cast<const void *>(kernel);
  launch.grid = grid;
  launch.block = block;
  launch.sharedBytes = sharedBytes;
  int index = 0;
  (void)index; // a kernel may have no parameters
  (addArgument(launch, index++, args), ...);
  launch.call = std::make_shared<BoundCall<Params...>>(kernel, args...);
  submit(std::move(launch), stream);
}

/// ", kernel at file:line", for messages; empty if it cannot be told.
std::string kernelText(const void *kernel);

/// Names the bytes at `pointer` as one buffer; see mpt::nameBuffer.
void nameBuffer(const void *pointer, size_t bytes, const char *name);

/// Names the next matrix product that is queued, for hooks and messages.
void nameNextProduct(const char *name);

/// Memory of a shared array of the running block, the same for all threads that
/// give the same `site`. Called by MPT_SHARED.
void *sharedArray(const void *site, const char *name, size_t bytes,
                  size_t align);
/// The launch's dynamic shared memory.
void *dynamicShared();

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

/// What the latest fault was, in words; empty if none since clearReport().
const std::string &report();
void clearReport();

} // namespace mpt::sim

extern "C" {
/// mpt::sim::report() for foreign callers.
__attribute__((visibility("default"))) const char *mpt_sim_report();
/// Sets the order by its text form; returns 0, or 1 if it is none.
__attribute__((visibility("default"))) int mpt_sim_set_order(const char *order);
/// `hook` is called before (after = 0) and behind (after = 1) every kernel and
/// product that runs, with its name and its ordinal since the hook was set.
/// Device memory is host memory, so it may read and write buffers.
__attribute__((visibility("default"))) void
mpt_sim_set_hook(void (*hook)(const char *name, uint64_t ordinal, int after));
/// Plans a failure of the machine (lib/CUDASim/Device.cpp), such as
/// "free=1048576" or "fault=<launch>"; "" mends everything. Returns 0, or 1 if
/// it is none.
__attribute__((visibility("default"))) int mpt_sim_fail(const char *plan);
/// Tells the checker that the caller itself wrote device memory.
__attribute__((visibility("default"))) void
mpt_sim_mark_written(const void *pointer, size_t bytes);
}

#endif // MPT_CUDASIM_SIM_H
