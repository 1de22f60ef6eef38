//===- Step.h - The host side of an emitted step ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What every package's host plan does alike: one allocation, values in and out
// by name, checks before anything runs, and the launch list as one CUDA graph.
// The emitted file brings the tables and the launch list. Functions return
// false once mpt::firstError() says why.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_STEP_H
#define MPT_CUDA_STEP_H

#include "mpt/CUDA/Machine.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace mpt {

enum class Kind {
  Parameter,
  OptimizerState,
  ScaleState,
  Derived,
  Input,
  Label,
  Rng,
  Hyper,
  Result
};

enum class Type { F32, BF16, E4M3, E5M2, I8, I32, I64, I1 };

/// An argument or a result.
struct Tensor {
  const char *name;
  Kind kind;
  Type type;
  /// Bytes from the start of device memory, and elements.
  size_t offset;
  int64_t count;
  /// Integers must be in [low, high) or `ignored`, if low < high.
  int64_t low, high;
  bool hasIgnored;
  int64_t ignored;

  size_t bytes() const {
    static constexpr size_t sizes[] = {4, 2, 1, 1, 1, 4, 8, 1};
    return sizes[static_cast<int>(type)] * static_cast<size_t>(count);
  }
  /// What is kept between steps, and in checkpoints.
  bool isState() const { return kind <= Kind::ScaleState; }
};

/// Bytes that are written once, when the step is opened.
struct Constant {
  size_t offset, bytes;
  const void *data;
};

/// A part of device memory, for the simulator's reports.
struct NamedBuffer {
  size_t offset, bytes;
  const char *name;
};

class Step {
public:
  /// Allocates, uploads constants and zeros everything else; `load` prepares
  /// the products, `enqueue` queues one step (it is captured once).
  bool open(size_t bytes, std::vector<Tensor> table,
            const std::vector<Constant> &constants,
            const std::vector<NamedBuffer> &buffers, void (*load)(),
            void (*enqueueStep)(cudaStream_t)) {
    close();
    tensors = std::move(table);
    isSet.assign(tensors.size(), false);
    enqueue = enqueueStep;
    steps = finished = 0;
    std::string wrong = checkMachine(bytes);
    if (wrong.empty() &&
        cudaMalloc(reinterpret_cast<void **>(&base), bytes) != cudaSuccess)
      wrong = "the package " + shortOfMemory(bytes) + " in one piece";
    if (!wrong.empty()) {
      fail(wrong);
      return abandon();
    }
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    if (failed())
      return abandon();
    check(cudaMemset(base, 0, bytes), "device memory");
    for (const Constant &one : constants)
      check(cudaMemcpy(base + one.offset, one.data, one.bytes,
                       cudaMemcpyHostToDevice),
            "constant");
    for (const NamedBuffer &one : buffers)
      nameBuffer(base + one.offset, one.bytes, one.name);
    for (size_t i = 0; i < tensors.size(); ++i)
      isSet[i] = tensors[i].kind == Kind::OptimizerState ||
                 tensors[i].kind == Kind::Result ||
                 tensors[i].kind == Kind::Rng;
    load();
    if (failed() || !capture())
      return abandon();
    return true;
  }

  void close() {
    if (graph)
      cudaGraphExecDestroy(graph);
    if (stream)
      cudaStreamDestroy(stream);
    if (base)
      cudaFree(base);
    graph = nullptr, stream = nullptr, base = nullptr;
    tensors.clear();
    lost.clear();
  }

  /// Copies a whole argument to the device, after checking its values.
  bool set(const char *name, const void *data, size_t bytes) {
    Tensor *tensor = find(name);
    if (!tensor || !checkBytes(*tensor, bytes) || !checkValues(*tensor, data))
      return false;
    isSet[static_cast<size_t>(tensor - tensors.data())] = true;
    return queued(cudaMemcpyAsync(base + tensor->offset, data, bytes,
                                  cudaMemcpyHostToDevice, stream),
                  name);
  }

  /// Copies an argument or a result to the host, after all that is queued.
  bool get(const char *name, void *data, size_t bytes) {
    Tensor *tensor = find(name);
    return tensor && checkBytes(*tensor, bytes) &&
           queued(cudaMemcpyAsync(data, base + tensor->offset, bytes,
                                  cudaMemcpyDeviceToHost, stream),
                  name) &&
           synchronize();
  }

  /// Queues one step. Nothing is allocated, nothing is waited for. If it could
  /// not be queued, the state is that of the step before; a fault of the GPU
  /// shows up with a later call, and from then on nothing works but close().
  bool run() {
    if (!isUsable())
      return false;
    std::string missing;
    for (size_t i = 0; i < tensors.size(); ++i)
      if (!isSet[i])
        missing += (missing.empty() ? "'" : ", '") +
                   std::string(tensors[i].name) + "'";
    if (!missing.empty()) {
      fail("not set before the step: " + missing);
      return false;
    }
    for (const Tensor &tensor : tensors)
      if (tensor.kind == Kind::Rng && !std::strcmp(tensor.name, "rng.step") &&
          !queued(cudaMemcpyAsync(base + tensor.offset, &steps, sizeof(steps),
                                  cudaMemcpyHostToDevice, stream),
                  "rng.step"))
        return false;
    if (graph && !launchHook()) {
      if (!queued(cudaGraphLaunch(graph, stream), "launch of the graph"))
        return false;
    } else {
      enqueue(stream);
      // Those in front of it have run: no step's state.
      if (failed())
        return lose(takeError());
    }
    ++steps;
    return true;
  }

  bool synchronize() {
    if (!isUsable())
      return false;
    cudaError_t code = cudaStreamSynchronize(stream);
    if (code != cudaSuccess)
      return lose(errorText(code));
    finished = steps;
    return true;
  }

  char *memory() const { return base; }
  int64_t &stepNumber() { return steps; }

private:
  bool abandon() {
    close();
    cudaGetLastError(); // told already, and not the next open's
    return false;
  }

  bool isUsable() {
    if (base && lost.empty())
      return true;
    fail(base ? lost : std::string("the step is not open"));
    return false;
  }

  /// Ends all use after a fault: what device memory holds is no step's result.
  /// The error stays, for every call until close(). Returns false.
  bool lose(const std::string &why) {
    std::string where = "step " + std::to_string(finished + 1);
    if (steps > finished + 1)
      where = "a step from " + std::to_string(finished + 1) + " to " +
              std::to_string(steps);
    lost = where + " failed: " + why +
           "; its state is lost: start a new process and load the last "
           "checkpoint";
    if (!synchronousLaunches())
      lost += " (with MPT_CUDA_SYNC=1 the launch is named)";
    steps = finished;
    fail(lost);
    return false;
  }

  /// Whether a call that only queues has succeeded. If it was refused and the
  /// GPU is well, nothing is lost.
  bool queued(cudaError_t code, const char *what) {
    if (code == cudaSuccess)
      return true;
    std::string why = std::string(what) + ": " + errorText(code);
    cudaGetLastError();
    cudaError_t fault = cudaStreamSynchronize(stream);
    if (fault != cudaSuccess)
      return lose(errorText(fault));
    finished = steps;
    fail(why + "; the state is that of step " + std::to_string(steps));
    return false;
  }

  /// MPT_CUDA_GRAPH=0 launches one by one, MPT_CUDA_SYNC=1 waits for each: to
  /// see which one fails.
  bool capture() {
    const char *text = std::getenv("MPT_CUDA_GRAPH");
    if ((text && !std::strcmp(text, "0")) || synchronousLaunches())
      return true;
    cudaGraph_t captured = nullptr;
    if (!check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
               "capture"))
      return false;
    enqueue(stream);
    check(cudaStreamEndCapture(stream, &captured), "capture");
    if (failed())
      return false;
    check(cudaGraphInstantiate(&graph, captured, 0), "graph");
    check(cudaGraphDestroy(captured), "graph");
    return !failed();
  }

  Tensor *find(const char *name) {
    if (!isUsable())
      return nullptr;
    for (Tensor &tensor : tensors)
      if (!std::strcmp(tensor.name, name))
        return &tensor;
    fail("there is no argument or result '" + std::string(name) + "'");
    return nullptr;
  }

  static bool checkBytes(const Tensor &tensor, size_t bytes) {
    if (bytes == tensor.bytes())
      return true;
    fail("'" + std::string(tensor.name) + "' has " +
         std::to_string(tensor.bytes()) + " bytes, given " +
         std::to_string(bytes));
    return false;
  }

  /// Ids in range, before any gather; no NaN or infinity in a batch.
  static bool checkValues(const Tensor &tensor, const void *data) {
    bool isBatch = tensor.kind == Kind::Input || tensor.kind == Kind::Label;
    for (int64_t i = 0; isBatch && i < tensor.count; ++i) {
      std::string found;
      if (tensor.type == Type::F32) {
        float x = static_cast<const float *>(data)[i];
        if (!std::isfinite(x))
          found = "a value that is not finite";
      } else if (tensor.low < tensor.high) {
        int64_t x =
            tensor.type == Type::I64   ? static_cast<const int64_t *>(data)[i]
            : tensor.type == Type::I32 ? static_cast<const int32_t *>(data)[i]
                                       : tensor.low;
        bool ignored = tensor.hasIgnored && x == tensor.ignored;
        if (!ignored && (x < tensor.low || x >= tensor.high))
          found = std::to_string(x) + ", expected at least " +
                  std::to_string(tensor.low) + " and below " +
                  std::to_string(tensor.high);
      }
      if (!found.empty()) {
        fail("'" + std::string(tensor.name) + "' has at element " +
             std::to_string(i) + " " + found);
        return false;
      }
    }
    return true;
  }

  char *base = nullptr;
  cudaStream_t stream = nullptr;
  cudaGraphExec_t graph = nullptr;
  void (*enqueue)(cudaStream_t) = nullptr;
  /// Taken, and known to have ended well.
  int64_t steps = 0, finished = 0;
  /// Why nothing works any more.
  std::string lost;
  std::vector<Tensor> tensors;
  std::vector<bool> isSet;
};

} // namespace mpt

/// Sets mpt::launchHook(); null ends it.
extern "C" __attribute__((visibility("default"), used)) inline void
mpt_cuda_set_hook(mpt::LaunchHook hook) {
  mpt::launchHook() = hook;
}

#endif // MPT_CUDA_STEP_H
