//===- Types.h - CUDA's types, for the simulator ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Vector types, dim3, error codes and handles, with CUDA's names, layout and
// values.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDASIM_TYPES_H
#define MPT_CUDASIM_TYPES_H

#include <cstddef>
#include <cstdint>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1)
      : x(x), y(y), z(z) {}
};

#define MPT_SIM_VECTOR(T, name)                                                \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                           \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 {            \
    T x, y, z, w;                                                              \
  };                                                                           \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
MPT_SIM_VECTOR(float, float)
MPT_SIM_VECTOR(int, int)
MPT_SIM_VECTOR(unsigned, uint)
MPT_SIM_VECTOR(unsigned short, ushort)
MPT_SIM_VECTOR(unsigned char, uchar)
#undef MPT_SIM_VECTOR

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};

/// What is asked of a device; CUDA's has more.
struct cudaDeviceProp {
  char name[256];
  int major, minor;
  int multiProcessorCount;
};

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};

enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};

constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;

using cudaStream_t = struct CUstream_st *;
using cudaEvent_t = struct CUevent_st *;
using cudaGraph_t = struct CUgraph_st *;
using cudaGraphExec_t = struct CUgraphExec_st *;

#endif // MPT_CUDASIM_TYPES_H
