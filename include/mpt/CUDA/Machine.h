//===- Machine.h - What a package asks of the machine -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Asked before anything is allocated, so that a missing or old driver, another
// GPU and one that is too full are told apart, with what was found and what was
// expected; CUDA's own errors name neither.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_MACHINE_H
#define MPT_CUDA_MACHINE_H

#include "mpt/CUDA/Port.h"

#include <cstdio>

namespace mpt {

/// Code for sm_90a runs on this compute capability and on no other.
constexpr int requiredMajor = 9, requiredMinor = 0;

/// A CUDA version as the runtime encodes it: 12080 is "12.8".
inline std::string cudaVersionText(int version) {
  return std::to_string(version / 1000) + "." +
         std::to_string(version % 1000 / 10);
}

/// "1.50 GiB (1610612736 bytes)".
inline std::string memoryText(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GiB",
                static_cast<double>(bytes) / (1 << 30));
  return text + (" (" + std::to_string(bytes) + " bytes)");
}

/// Why `bytes` cannot be had: what is free now.
inline std::string shortOfMemory(size_t bytes) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return "needs " + memoryText(bytes) + " of device memory, of " +
         memoryText(total) + " are free " + memoryText(free) +
         "; what helps is a smaller batch, or other programs leaving the GPU";
}

/// Why this machine cannot run a package that needs `bytes` of device memory;
/// empty if it can.
inline std::string checkMachine(size_t bytes) {
  int driver = 0, runtime = 0, count = 0, device = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0)
    return "this machine has no NVIDIA driver (libcuda.so.1): the package "
           "needs one for CUDA " +
           cudaVersionText(runtime) + " or newer";
  // Within a major version older drivers run newer runtimes.
  if (driver / 1000 < runtime / 1000)
    return "the NVIDIA driver is too old: it is for CUDA " +
           cudaVersionText(driver) + ", the package needs one for CUDA " +
           cudaVersionText(runtime) + " or newer";
  cudaError_t code = cudaGetDeviceCount(&count);
  cudaDeviceProp properties;
  if (code == cudaSuccess && count > 0)
    code = cudaGetDevice(&device);
  if (code == cudaSuccess && count > 0)
    code = cudaGetDeviceProperties(&properties, device);
  if (code != cudaSuccess || count == 0)
    return "no GPU can be used: " + errorText(code);
  std::string gpu = "GPU " + std::to_string(device) + " (" +
                    static_cast<const char *>(properties.name) + ")";
  if (properties.major != requiredMajor || properties.minor != requiredMinor)
    return "the package is for sm_90a, compute capability " +
           std::to_string(requiredMajor) + "." + std::to_string(requiredMinor) +
           " alone; " + gpu + " has " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor);
  size_t free = 0, total = 0;
  code = cudaMemGetInfo(&free, &total);
  if (code != cudaSuccess)
    return gpu + ": " + errorText(code);
  return bytes <= free ? "" : gpu + ": the package " + shortOfMemory(bytes);
}

} // namespace mpt

#endif // MPT_CUDA_MACHINE_H
