//===- HostApi.cpp - CUDA's host functions, simulated ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Errors, streams, graphs, copies and launches. Work runs when it is queued; a
// capturing stream records it with its arguments, as a CUDA graph does.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

using namespace mpt::sim;

struct CUgraph_st {
  std::vector<Work> work;
};

struct CUgraphExec_st {
  std::vector<Work> work;
};

struct CUstream_st {
  /// Set while the stream is being captured.
  std::unique_ptr<CUgraph_st> capture;
  /// A call that capture forbids was made.
  bool invalidated = false;
};

struct CUevent_st {
  std::chrono::steady_clock::time_point time;
  bool recorded = false;
};

namespace {

struct Host {
  cudaError_t last = cudaSuccess;
  /// The code that `detail` explains; `text` is what GetErrorString returned.
  cudaError_t detailCode = cudaSuccess;
  std::string detail, text, report, productName;
  std::vector<CUstream_st *> capturing;
  std::map<const void *, size_t> dynamicShared;
  void (*hook)(const char *, uint64_t, int) = nullptr;
  uint64_t ordinal = 0;
};

Host &host() {
  static Host instance;
  return instance;
}

struct ErrorText {
  cudaError_t code;
  const char *name, *text;
};
constexpr ErrorText errorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
     "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure",
     "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
};

const ErrorText &errorText(cudaError_t code) {
  for (const ErrorText &one : errorTexts)
    if (one.code == code)
      return one;
  static constexpr ErrorText unknown = {
      cudaErrorInvalidValue, "cudaErrorUnknown", "unrecognized error code"};
  return unknown;
}

/// Synchronising calls end every capture that is under way, as CUDA's do.
cudaError_t checkNoCapture(const char *call) {
  if (host().capturing.empty())
    return cudaSuccess;
  for (CUstream_st *stream : host().capturing)
    stream->invalidated = true;
  return error(cudaErrorStreamCaptureUnsupported,
               std::string(call) + " while a stream is being captured");
}

/// What is wrong with the pointers of a copy, empty if nothing.
std::string checkCopy(void *to, const void *from, size_t bytes,
                      cudaMemcpyKind kind) {
  bool toDevice = isDevicePointer(to), fromDevice = isDevicePointer(from);
  if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice
          ? !toDevice
          : toDevice && kind != cudaMemcpyDefault)
    return std::string("destination is ") + (toDevice ? "" : "not ") +
           "device memory";
  if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice
          ? !fromDevice
          : fromDevice && kind != cudaMemcpyDefault)
    return std::string("source is ") + (fromDevice ? "" : "not ") +
           "device memory";
  std::string wrong;
  if (toDevice)
    wrong = checkDeviceRange(to, bytes);
  if (wrong.empty() && fromDevice)
    wrong = checkDeviceRange(from, bytes);
  return wrong;
}

/// What is wrong with the shape of a launch, empty if nothing.
cudaError_t checkLaunch(const Launch &launch) {
  if (deviceState())
    return error(deviceState(), "an earlier launch faulted");
  if (refusesLaunch(launch.name))
    return error(cudaErrorLaunchOutOfResources, "planned by mpt_sim_fail");
  auto text = [](dim3 d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" +
           std::to_string(d.z);
  };
  uint64_t threads = uint64_t(launch.block.x) * launch.block.y * launch.block.z;
  if (threads == 0 || threads > 1024 || launch.block.z > 64)
    return error(cudaErrorInvalidConfiguration,
                 "block of " + text(launch.block) +
                     " threads, expected 1 to 1024 and z at most 64");
  if (launch.grid.x == 0 || launch.grid.x > INT32_MAX || launch.grid.y == 0 ||
      launch.grid.y > 65535 || launch.grid.z == 0 || launch.grid.z > 65535)
    return error(cudaErrorInvalidConfiguration,
                 "grid of " + text(launch.grid) +
                     " blocks, expected 1 to 2147483647 x 65535 x 65535");
  auto attribute = host().dynamicShared.find(launch.kernel);
  size_t limit =
      attribute == host().dynamicShared.end() ? 48 * 1024 : attribute->second;
  if (launch.sharedBytes > limit)
    return error(cudaErrorInvalidValue,
                 std::to_string(launch.sharedBytes) +
                     " bytes of dynamic shared memory, expected at most " +
                     std::to_string(limit) +
                     " (cudaFuncSetAttribute raises it to 232448)");
  for (const PointerArgument &one : launch.pointers) {
    if (!one.pointer)
      continue;
    std::string wrong = checkDeviceRange(one.pointer, 0);
    if (!wrong.empty())
      return error(
          cudaErrorInvalidValue,
          "pointer argument " + std::to_string(one.index) +
              " is no live device memory: " +
              describeAddress(reinterpret_cast<uintptr_t>(one.pointer)));
  }
  return cudaSuccess;
}

cudaError_t runKernel(const Launch &launch) {
  // As on a GPU, the launch itself succeeds.
  if (faults(launch.name))
    return cudaSuccess;
  callHook(launch.name, 0);
  std::string wrong = runLaunch(launch);
  if (!wrong.empty())
    return fault(cudaErrorLaunchFailure,
                 "kernel '" + launch.name + "', " + wrong);
  callHook(launch.name, 1);
  return cudaSuccess;
}

} // namespace

//===----------------------------------------------------------------------===//
// Errors and reports
//===----------------------------------------------------------------------===//

cudaError_t mpt::sim::error(cudaError_t code, std::string detail) {
  host().last = host().detailCode = code;
  host().detail = std::move(detail);
  return code;
}

cudaError_t mpt::sim::fault(cudaError_t code, std::string detail) {
  std::fprintf(stderr, "cuda simulation: %s\n", detail.c_str());
  host().report = detail;
  return error(code, std::move(detail));
}

const std::string &mpt::sim::report() { return host().report; }
void mpt::sim::clearReport() { host().report.clear(); }

const char *cudaGetErrorName(cudaError_t code) { return errorText(code).name; }

const char *cudaGetErrorString(cudaError_t code) {
  host().text = errorText(code).text;
  if (code != cudaSuccess && code == host().detailCode)
    host().text += ": " + host().detail;
  return host().text.c_str();
}

cudaError_t cudaGetLastError() {
  cudaError_t code = host().last;
  host().last = cudaSuccess;
  return code;
}

cudaError_t cudaPeekAtLastError() { return host().last; }

//===----------------------------------------------------------------------===//
// Queue, hooks and launches
//===----------------------------------------------------------------------===//

cudaError_t mpt::sim::enqueue(cudaStream_t stream, Work work) {
  if (deviceState())
    return deviceState();
  if (!stream || !stream->capture)
    return work();
  stream->capture->work.push_back(std::move(work));
  return cudaSuccess;
}

void mpt::sim::callHook(const std::string &name, int after) {
  if (!host().hook)
    return;
  host().hook(name.c_str(), host().ordinal, after);
  if (after)
    ++host().ordinal;
}

void mpt::sim::nameNextProduct(const char *name) { host().productName = name; }

std::string mpt::sim::takeProductName() {
  std::string name = "cublasLtMatmul";
  if (!host().productName.empty())
    name.swap(host().productName);
  host().productName.clear();
  return name;
}

void mpt::sim::submit(Launch launch, cudaStream_t stream) {
  if (checkLaunch(launch) == cudaSuccess)
    enqueue(stream, [launch = std::move(launch)] { return runKernel(launch); });
}

cudaError_t cudaFuncSetAttribute(const void *kernel,
                                 cudaFuncAttribute attribute, int value) {
  constexpr int limit = 227 * 1024;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      value > limit)
    return error(cudaErrorInvalidValue,
                 "dynamic shared memory of " + std::to_string(value) +
                     " bytes, expected at most " + std::to_string(limit));
  host().dynamicShared[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  if (cudaError_t code = checkNoCapture("cudaMalloc"))
    return code;
  *pointer = nullptr;
  if (bytes == 0)
    return cudaSuccess;
  std::string wrong = bytes > freeMemory() ? "no memory is left" : "";
  if (wrong.empty())
    wrong = allocate(pointer, bytes);
  return wrong.empty() ? cudaSuccess : error(cudaErrorMemoryAllocation, wrong);
}

cudaError_t cudaFree(void *pointer) {
  if (cudaError_t code = checkNoCapture("cudaFree"))
    return code;
  std::string wrong = pointer ? release(pointer) : "";
  return wrong.empty() ? cudaSuccess : fault(cudaErrorInvalidValue, wrong);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
  *pointer = std::malloc(bytes);
  return *pointer || !bytes ? cudaSuccess
                            : error(cudaErrorMemoryAllocation, "host memory");
}

cudaError_t cudaFreeHost(void *pointer) {
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  std::string wrong = bytes ? checkCopy(to, from, bytes, kind) : "";
  if (!wrong.empty())
    return error(cudaErrorInvalidValue, "cudaMemcpy: " + wrong);
  return enqueue(stream, [=] {
    if (bytes)
      std::memcpy(to, from, bytes);
    if (checker().written && isDevicePointer(to))
      checker().written(reinterpret_cast<uintptr_t>(to), bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes,
                       cudaMemcpyKind kind) {
  if (cudaError_t code = checkNoCapture("cudaMemcpy"))
    return code;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes,
                            cudaStream_t stream) {
  std::string wrong = bytes ? checkDeviceRange(to, bytes) : "";
  if (!wrong.empty())
    return error(cudaErrorInvalidValue, "cudaMemset: " + wrong);
  return enqueue(stream, [=] {
    std::memset(to, value, bytes);
    if (checker().written)
      checker().written(reinterpret_cast<uintptr_t>(to), bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
  if (cudaError_t code = checkNoCapture("cudaMemset"))
    return code;
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

//===----------------------------------------------------------------------===//
// Device, streams, events
//===----------------------------------------------------------------------===//

cudaError_t cudaDeviceSynchronize() {
  cudaError_t code = checkNoCapture("cudaDeviceSynchronize");
  return code ? code : deviceState();
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  return cudaStreamCreate(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  auto &capturing = host().capturing;
  capturing.erase(std::remove(capturing.begin(), capturing.end(), stream),
                  capturing.end());
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!stream || stream->capture)
    if (cudaError_t code = checkNoCapture("cudaStreamSynchronize"))
      return code;
  return deviceState();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->capture)
    return error(cudaErrorIllegalState,
                 !stream ? "the default stream cannot be captured"
                         : "the stream is being captured already");
  stream->capture = std::make_unique<CUgraph_st>();
  stream->invalidated = false;
  host().capturing.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = nullptr;
  if (!stream || !stream->capture)
    return error(cudaErrorIllegalState, "the stream is not being captured");
  auto &capturing = host().capturing;
  capturing.erase(std::remove(capturing.begin(), capturing.end(), stream),
                  capturing.end());
  std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
  if (stream->invalidated)
    return error(cudaErrorStreamCaptureUnsupported,
                 "a call that capture forbids was made");
  *graph = captured.release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                  cudaStreamCaptureStatus *status) {
  *status = !stream || !stream->capture ? cudaStreamCaptureStatusNone
            : stream->invalidated       ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return enqueue(stream, [=] {
    event->time = std::chrono::steady_clock::now();
    event->recorded = true;
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return checkNoCapture("cudaEventSynchronize");
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start,
                                 cudaEvent_t end) {
  if (!start->recorded || !end->recorded)
    return error(cudaErrorInvalidResourceHandle,
                 "cudaEventElapsedTime of an event that was not recorded");
  std::chrono::duration<float, std::milli> passed = end->time - start->time;
  *milliseconds = passed.count();
  return cudaSuccess;
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long) {
  if (!graph)
    return error(cudaErrorInvalidValue, "cudaGraphInstantiate of no graph");
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (!exec)
    return error(cudaErrorInvalidValue, "cudaGraphLaunch of no graph");
  if (deviceState())
    return deviceState();
  if (refusesGraph())
    return error(cudaErrorMemoryAllocation, "planned by mpt_sim_fail");
  for (const Work &work : exec->work) {
    cudaError_t code = enqueue(stream, work);
    // What a fault leaves undone shows up with the next call that waits.
    if (deviceState())
      return cudaSuccess;
    if (code)
      return code;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

//===----------------------------------------------------------------------===//
// C interface
//===----------------------------------------------------------------------===//

const char *mpt_sim_report() { return report().c_str(); }

int mpt_sim_set_order(const char *order) {
  return parseOrder(order, options()) ? 0 : 1;
}

void mpt_sim_set_hook(void (*hook)(const char *, uint64_t, int)) {
  host().hook = hook;
  host().ordinal = 0;
}

void mpt_sim_mark_written(const void *pointer, size_t bytes) {
  if (checker().written)
    checker().written(reinterpret_cast<uintptr_t>(pointer), bytes);
}
