//===- TensorMap.h - What a tensor copy needs to know -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Tensor maps for the copy engine (TMA): a tensor in device memory and the box
// that one copy moves. A map is made on the host and given to a kernel as a
// `const __grid_constant__ mpt::TensorMap` parameter. Rules are checked here,
// as the driver says no more than "invalid value".
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_TENSORMAP_H
#define MPT_CUDA_TENSORMAP_H

#include "mpt/CUDA/Port.h"
#include "mpt/Numerics/Formats.h"

#include <string>

#if defined(__CUDACC__)
#include <cuda.h>
#include <cudaTypedefs.h>
#else
#include "mpt/CUDASim/Hopper.h"
#endif

namespace mpt {

#if defined(__CUDACC__)
using TensorMap = CUtensorMap;
#else
using TensorMap = sim::TensorMap;
#endif

/// How a tile lies in shared memory: bits 4-6 of an address are XORed with bits
/// 7-9, as far as a span of so many bytes allows. The value is the span.
enum class Swizzle : unsigned {
  None = 0,
  Span32 = 32,
  Span64 = 64,
  Span128 = 128
};

/// A tensor of up to five dimensions, the contiguous one first, and a box.
struct TensorMapDesc {
  num::Format format = num::Format::E4M3;
  unsigned rank = 2;
  const void *base = nullptr;
  /// Elements along each dimension, and of the box.
  uint64_t size[5] = {};
  unsigned box[5] = {};
  /// Bytes from one element to the next along dimensions 1, 2, ...
  uint64_t strideBytes[4] = {};
  Swizzle swizzle = Swizzle::None;
};

/// Why the copy engine cannot take `desc`, empty if it can (CUDA driver API,
/// cuTensorMapEncodeTiled).
inline std::string checkTensorMap(const TensorMapDesc &desc) {
  auto number = [](uint64_t n) { return std::to_string(n); };
  uint64_t bytes = static_cast<uint64_t>(num::formatBytes(desc.format));
  if (desc.rank < 1 || desc.rank > 5)
    return "tensor map of rank " + number(desc.rank) + ", expected 1 to 5";
  if (!desc.base || reinterpret_cast<uintptr_t>(desc.base) % 16)
    return "tensor map of a tensor that is not aligned to 16 bytes";
  for (unsigned d = 0; d < desc.rank; ++d) {
    if (desc.size[d] < 1 || desc.size[d] >> 32)
      return "tensor map with size " + number(desc.size[d]) + " of dimension " +
             number(d) + ", expected 1 to 2^32 - 1";
    if (desc.box[d] < 1 || desc.box[d] > 256)
      return "tensor map with a box of " + number(desc.box[d]) +
             " elements along dimension " + number(d) + ", expected 1 to 256";
    if (d && (desc.strideBytes[d - 1] % 16 || desc.strideBytes[d - 1] >> 40))
      return "tensor map with a stride of " + number(desc.strideBytes[d - 1]) +
             " bytes, expected a multiple of 16 below 2^40";
  }
  uint64_t inner = desc.box[0] * bytes;
  uint64_t span = static_cast<unsigned>(desc.swizzle);
  if (inner % 16 || (span && inner > span))
    return "tensor map with a box of " + number(inner) +
           " contiguous bytes, expected a multiple of 16" +
           (span ? " up to the swizzle's span of " + number(span) : "");
  return "";
}

#if defined(__CUDACC__)

namespace detail {

/// The driver's function, found without linking to libcuda; null after an
/// error, which is then in `error`.
inline PFN_cuTensorMapEncodeTiled_v12000 tensorMapEncoder(std::string &error) {
  void *function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  cudaError_t code = cudaGetDriverEntryPointByVersion(
      "cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (code != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    error = std::string("the driver has no cuTensorMapEncodeTiled (CUDA 12 "
                        "or newer is needed): ") +
            cudaGetErrorString(code);
    return nullptr;
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

} // namespace detail

/// Fills `map`; returns why it cannot, empty on success.
inline std::string encodeTensorMap(TensorMap &map, const TensorMapDesc &desc) {
  std::string error = checkTensorMap(desc);
  if (!error.empty())
    return error;
  auto encode = detail::tensorMapEncoder(error);
  if (!encode)
    return error;
  CUtensorMapDataType type =
      desc.format == num::Format::F32    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
      : desc.format == num::Format::BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  CUtensorMapSwizzle swizzle =
      desc.swizzle == Swizzle::Span128  ? CU_TENSOR_MAP_SWIZZLE_128B
      : desc.swizzle == Swizzle::Span64 ? CU_TENSOR_MAP_SWIZZLE_64B
      : desc.swizzle == Swizzle::Span32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                        : CU_TENSOR_MAP_SWIZZLE_NONE;
  cuuint64_t size[5], stride[4];
  cuuint32_t box[5], step[5];
  for (unsigned d = 0; d < desc.rank; ++d) {
    size[d] = desc.size[d];
    box[d] = desc.box[d];
    step[d] = 1;
    if (d)
      stride[d - 1] = desc.strideBytes[d - 1];
  }
  CUresult code = encode(&map, type, desc.rank, const_cast<void *>(desc.base),
                         size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                         swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return code == CUDA_SUCCESS ? ""
                              : "cuTensorMapEncodeTiled: CUDA driver error " +
                                    std::to_string(static_cast<int>(code));
}

#else

inline std::string encodeTensorMap(TensorMap &map, const TensorMapDesc &desc) {
  std::string error = checkTensorMap(desc);
  if (!error.empty())
    return error;
  map = {};
  map.magic = TensorMap::validMagic;
  map.rank = desc.rank;
  map.base = reinterpret_cast<uintptr_t>(desc.base);
  map.elementBytes = static_cast<uint16_t>(num::formatBytes(desc.format));
  map.swizzleSpan = static_cast<unsigned>(desc.swizzle);
  for (unsigned d = 0; d < desc.rank; ++d) {
    map.size[d] = static_cast<uint32_t>(desc.size[d]);
    map.box[d] = static_cast<uint16_t>(desc.box[d]);
    if (d)
      map.strideBytes[d - 1] = desc.strideBytes[d - 1];
  }
  return "";
}

#endif

/// A row-major matrix [rows, columns] of which a copy moves `boxRows` rows of
/// `boxColumns` elements. `stride` is in elements.
inline TensorMapDesc matrixMap(num::Format format, const void *base,
                               uint64_t rows, uint64_t columns, uint64_t stride,
                               unsigned boxRows, unsigned boxColumns,
                               Swizzle swizzle) {
  TensorMapDesc desc;
  desc.format = format;
  desc.base = base;
  desc.size[0] = columns;
  desc.size[1] = rows;
  desc.box[0] = boxColumns;
  desc.box[1] = boxRows;
  desc.strideBytes[0] =
      stride * static_cast<uint64_t>(num::formatBytes(format));
  desc.swizzle = swizzle;
  return desc;
}

} // namespace mpt

#endif // MPT_CUDA_TENSORMAP_H
