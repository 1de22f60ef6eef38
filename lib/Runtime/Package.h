//===- Package.h - an open package ------------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What stands behind the C API's mpt_package: the manifest, its kernels, memory
// and threads, and the state of training. Package.cpp opens and binds, Step.cpp
// runs, Gradient.cpp runs without updates, Checkpoint.cpp saves and loads.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_PACKAGE_H
#define MPT_LIB_RUNTIME_PACKAGE_H

#include "Dataflow.h"
#include "Manifest.h"
#include "Memory.h"
#include "Products.h"
#include "ThreadPool.h"

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace mpt::rt {

using KernelFunction = void (*)(void *const *args, int64_t begin, int64_t end);

/// kernels.so, checked and loaded. Throws where one of another content is open
/// under the same path: the dynamic loader would hand that one out again.
class KernelLibrary {
public:
  KernelLibrary(const std::string &path, const std::string &kernelsHash,
                const std::string &graphHash);
  ~KernelLibrary();
  KernelLibrary(const KernelLibrary &) = delete;
  KernelLibrary &operator=(const KernelLibrary &) = delete;

  KernelFunction find(const std::string &symbol) const;

private:
  std::string path;
  void *handle = nullptr;
};

/// A launch with its addresses resolved, and its measured time.
struct BoundLaunch {
  const Launch *launch = nullptr;
  KernelFunction kernel = nullptr;
  std::vector<void *> args;
  Product product;
  char *init = nullptr, *ids = nullptr, *updates = nullptr;
  char *source = nullptr, *result = nullptr;
  double seconds = 0;
  int64_t calls = 0;
};

/// Called instead of running a product; `index` is the launch's.
using ProductRunner =
    std::function<void(const BoundLaunch &launch, size_t index)>;

class Package {
public:
  Package(const std::string &directory, int threads);

  const Manifest &manifest() const { return description; }
  int threads() const { return pool.size(); }
  size_t arenaBytes() const { return arena.size(); }
  size_t stateBytes() const { return state.size(); }
  int64_t stepNumber() const { return steps; }

  /// The argument's index; fails with MPT_ERROR_ARGUMENT on an unknown name.
  size_t argumentIndex(const std::string &name) const;
  const Tensor &argument(size_t index) const;
  char *data(const Tensor &tensor) const { return addresses[tensor.buffer]; }
  const Tensor &result(const std::string &name) const;
  /// For the caller to write an argument in place.
  void *expose(size_t argument);
  /// Fails with MPT_ERROR_STATE on a derived argument that state has outrun.
  void requireCurrent(const Tensor &tensor) const;

  void setArgument(const std::string &name, const void *data, int dtype,
                   const Shape &shape);
  void step();
  /// See mpt_run_gradient.
  void runGradient(int64_t rngStep);
  /// Of manifest().gradients[index], dense; fails unless the last thing run was
  /// runGradient.
  const float *gradient(size_t index) const;
  /// What runGradient runs; fails as it does.
  const GradientPlan &gradientPlan();
  /// Fails with MPT_ERROR_STATE where the last run did not compute the result.
  void requireComputed(const Tensor &result) const;

  /// The address of a place in a buffer.
  char *address(const Place &place) const {
    return addresses[place.buffer] + place.offset;
  }
  /// Multiplies any views with this package's engine and threads.
  void runProduct(const Product &product);
  /// Runs products through `runner`, in steps and in gradients; an empty one
  /// ends that. The observer is called afterwards all the same. What the runner
  /// throws ends the run.
  void setProductRunner(ProductRunner runner);

  void saveCheckpoint(const std::string &path) const;
  void loadCheckpoint(const std::string &path);
  void loadParameters(const std::string &path);
  void exportWeights(const std::string &path) const;

  void setObserver(mpt_observer function, void *user);
  void profile(bool enable);
  const std::vector<BoundLaunch> &launches() const { return bound; }

private:
  void allocate();
  void initialize(const Tensor &tensor, size_t index);
  void loadInitialValues(const std::string &path);
  BoundLaunch bind(const Launch &launch) const;
  /// Notes that derived arguments no longer fit the state that they are
  /// computed from, if `argument` is of it.
  void noteChange(size_t argument);
  /// Computes derived arguments where that is due.
  void derive();
  /// Fails with MPT_ERROR_ARGUMENT on a value that the step must not see.
  void checkValues(const Tensor &tensor, const void *data) const;
  /// All arguments are set and hold values that the launches may see; of those
  /// that `plan` does not read, hyperparameters may be missing.
  void checkReady(const GradientPlan *plan = nullptr) const;
  std::optional<int64_t> rngStep() const;
  void setRngStep(int64_t step);
  void runLaunch(size_t index);
  void gatherGradients();
  void run(const BoundLaunch &launch);
  void scatterAdd(const BoundLaunch &launch);
  void observe(const BoundLaunch &launch, int64_t index);
  void refuseDuringStep(const char *what) const;

  Manifest description;
  std::unique_ptr<KernelLibrary> kernels;
  Gemm gemm = nullptr;
  Memory arena, state;           // `state`: arguments and constants
  std::vector<char *> addresses; // by buffer
  std::unordered_map<std::string, size_t> argumentByName, resultByName;
  std::vector<bool> isSet; // by argument
  std::vector<BoundLaunch> bound, boundInit;
  ThreadPool pool;

  mpt_observer observer = nullptr;
  void *observerUser = nullptr;
  ProductRunner productRunner;
  std::optional<GradientPlan> plannedGradient;
  /// Dense copies of gradients that lie with strides, by index.
  std::unordered_map<size_t, std::vector<float>> gathered;
  /// Derived arguments do not fit the state, or may not: the caller has a
  /// pointer by which it can change it.
  bool stale = true, exposed = false;
  bool profiling = false;
  bool stepping = false;
  bool damaged = false;      // a step failed halfway
  bool hasGradients = false; // the last run was runGradient, and it succeeded
  int64_t steps = 0;
};

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_PACKAGE_H
