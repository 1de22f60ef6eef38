//===- Port.h - One source for nvcc and the simulator -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What an emitted .cu file includes instead of the CUDA headers. Under nvcc it
// is a thin layer over the CUDA runtime; under any other compiler it brings in
// the simulator, which runs the same kernels on the CPU. The few things whose
// spelling differs between the two are macros here; nothing else may differ.
//
// Rules for emitted sources (the simulator refuses or misreads the rest):
//   * kernels start only through mpt::launch, never k<<<...>>>;
//   * shared memory only through MPT_SHARED and MPT_SHARED_DYN;
//   * bf16 is held as uint16_t, FP8 and INT8 codes as uint8_t: conversions and
//     transcendental functions come from include/mpt/Numerics, not from CUDA;
//   * choose by __CUDACC__, never by __CUDA_ARCH__.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_PORT_H
#define MPT_CUDA_PORT_H

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#if defined(__CUDACC__)

#include <cuda_runtime.h>

/// Place of call, for the simulator's reports: a trailing parameter of a device
/// helper that synchronises, and the argument that passes it on.
#define MPT_SITE_PARAM
#define MPT_SITE_ARG
/// `T name[n]` in shared memory; `n` is a constant, T trivially constructible.
#define MPT_SHARED(T, name, n) __shared__ T name[n]
/// `T *name`: the launch's dynamic shared memory, 128-byte aligned.
#define MPT_SHARED_DYN(T, name)                                                \
  extern __shared__ __align__(128) unsigned char mptDynamicShared[];           \
  T *const name = reinterpret_cast<T *>(mptDynamicShared)
/// Defined inside the simulator only; the code of both sides is the same.
#define MPT_SIM_INTERNAL

#else

#include "mpt/CUDASim/CudaSim.h"

#endif

#include "mpt/Numerics/Math.h"

/// The few symbols that a package offers; all else is hidden
/// (-fvisibility=hidden).
#define MPT_EXPORT extern "C" __attribute__((visibility("default")))

namespace mpt {

//===----------------------------------------------------------------------===//
// Errors: the first one of the calling thread stays until it is taken
//===----------------------------------------------------------------------===//

/// The first error since the last takeError(), empty if none.
inline std::string &firstError() {
  static thread_local std::string error;
  return error;
}

inline bool failed() { return !firstError().empty(); }

/// Records an error unless one is recorded already.
inline void fail(std::string message) {
  if (firstError().empty())
    firstError() = std::move(message);
}

/// Returns the recorded error and forgets it.
inline std::string takeError() {
  std::string error;
  error.swap(firstError());
  return error;
}

/// "<CUDA's name>: <CUDA's text>".
inline std::string errorText(cudaError_t code) {
  return std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code);
}

/// Records a CUDA error as "<what>: <CUDA's name>: <CUDA's text>". Returns true
/// on success.
inline bool check(cudaError_t code, const char *what) {
  if (code == cudaSuccess)
    return true;
  fail(std::string(what) + ": " + errorText(code));
  return false;
}

//===----------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------===//

/// True if every launch is to be waited for, so that a fault that happens while
/// a kernel runs is reported with that kernel's name (MPT_CUDA_SYNC=1).
inline bool synchronousLaunches() {
  static const bool value = [] {
    const char *text = std::getenv("MPT_CUDA_SYNC");
    return text && *text && *text != '0';
  }();
  return value;
}

/// Number of blocks of `per` items that cover `count` items.
constexpr unsigned blocksFor(int64_t count, int64_t per) {
  return static_cast<unsigned>((count + per - 1) / per);
}

/// The kernel's own name, for messages; empty where it cannot be told.
inline std::string kernelText(const void *kernel) {
#if defined(__CUDACC__)
  const char *name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess || !name)
    return "";
  return std::string(", kernel ") + name;
#else
  return sim::kernelText(kernel);
#endif
}

/// Called before (after = 0) and behind every kernel and product that is
/// queued, on the host, for checks and measurements; a step with a hook is not
/// launched as a graph. Null to begin with.
using LaunchHook = void (*)(const char *name, void *stream, int after);
inline LaunchHook &launchHook() {
  static LaunchHook hook = nullptr;
  return hook;
}
inline void callLaunchHook(const char *name, cudaStream_t stream, int after) {
  if (launchHook() && !failed())
    launchHook()(name, stream, after);
}

/// Starts `kernel` with `args` converted to its parameter types. Does nothing
/// once an error is recorded. A refused launch is recorded under `name`; a
/// fault of the running kernel comes with the next synchronising call that is
/// checked (in the simulator at once).
template <typename... Params, typename... Args>
MPT_SIM_INTERNAL void launch(const char *name, void (*kernel)(Params...),
                             dim3 grid, dim3 block, size_t sharedBytes,
                             cudaStream_t stream, Args... args) {
  static_assert(sizeof...(Params) == sizeof...(Args),
                "launch needs one argument per kernel parameter");
  if (failed())
    return;
  // More than 48 KiB has to be asked for, kernel by kernel.
  if (sharedBytes > 48 * 1024 &&
      !check(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(sharedBytes)),
             name))
    return;
  callLaunchHook(name, stream, 0);
#if defined(__CUDACC__)
  kernel<<<grid, block, sharedBytes, stream>>>(static_cast<Params>(args)...);
#else
  sim::launchKernel(name, kernel, grid, block, sharedBytes, stream,
                    static_cast<Params>(args)...);
#endif
  cudaError_t code = cudaGetLastError();
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  if (code == cudaSuccess && synchronousLaunches())
    code = cudaStreamIsCapturing(stream, &capture);
  if (code == cudaSuccess && synchronousLaunches() &&
      capture == cudaStreamCaptureStatusNone)
    code = cudaStreamSynchronize(stream);
  if (code != cudaSuccess)
    fail(std::string(name) + ": " + errorText(code) +
         kernelText(reinterpret_cast<const void *>(kernel)));
  callLaunchHook(name, stream, 1);
}

/// Tells the simulator that `bytes` at `pointer` (inside a cudaMalloc'ed arena)
/// are one buffer with a name; its checker then reports accesses that leave the
/// buffers a kernel was given. Nothing under nvcc.
inline void nameBuffer(const void *pointer, size_t bytes, const char *name) {
#if !defined(__CUDACC__)
  sim::nameBuffer(pointer, bytes, name);
#else
  (void)pointer, (void)bytes, (void)name;
#endif
}

//===----------------------------------------------------------------------===//
// Device helpers
//===----------------------------------------------------------------------===//

/// Lane of the calling thread in its warp, for blocks that are one-dimensional.
MPT_SIM_INTERNAL __device__ inline int laneId() { return threadIdx.x & 31; }

/// Warp of the calling thread in its block.
MPT_SIM_INTERNAL __device__ inline int warpId() { return threadIdx.x >> 5; }

/// Warp of the calling thread in the grid: the row, where a warp owns a row.
MPT_SIM_INTERNAL __device__ inline int64_t gridWarpId() {
  return static_cast<int64_t>(blockIdx.x) * (blockDim.x >> 5) + warpId();
}

/// Index of the calling thread in the grid: the element, where a thread owns
/// one.
MPT_SIM_INTERNAL __device__ inline int64_t gridThreadId() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/// Number of threads in the grid: the step of a grid-stride loop.
MPT_SIM_INTERNAL __device__ inline int64_t gridThreads() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/// Sum over the warp in every lane. The tree +16, +8, +4, +2, +1 is part of the
/// definition of a row reduction: the CPU back end has the same bits.
MPT_SIM_INTERNAL __device__ inline float warpSum(float v MPT_SITE_PARAM) {
  for (int distance = 16; distance > 0; distance /= 2)
    v = v + __shfl_xor_sync(0xffffffffu, v, distance, 32 MPT_SITE_ARG);
  return v;
}

/// Maximum over the warp in every lane, NaN if any lane has NaN: lane 0 has the
/// tree's result, the others get it from there (signs of zeros may differ).
MPT_SIM_INTERNAL __device__ inline float warpMax(float v MPT_SITE_PARAM) {
  for (int distance = 16; distance > 0; distance /= 2)
    v = num::maxOf(v,
                   __shfl_xor_sync(0xffffffffu, v, distance, 32 MPT_SITE_ARG));
  return __shfl_sync(0xffffffffu, v, 0, 32 MPT_SITE_ARG);
}

/// *address = max(*address, |v|), in any order with the same result: numbers
/// without a sign order like their bits, and NaN lies above infinity.
/// *address must hold a number without a sign (0 to begin with).
MPT_SIM_INTERNAL __device__ inline void atomicAmax(float *address,
                                                   float v MPT_SITE_PARAM) {
  atomicMax(reinterpret_cast<unsigned *>(address),
            num::bits(v) & 0x7fffffffu MPT_SITE_ARG);
}

} // namespace mpt

#endif // MPT_CUDA_PORT_H
