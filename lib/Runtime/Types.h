//===- Types.h - dtypes, kinds and shapes of the runtime --------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The tables that map dtypes and argument kinds to the names used in manifests
// and in safetensors files, and shape arithmetic that notices overflow.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_TYPES_H
#define MPT_LIB_RUNTIME_TYPES_H

#include "Failure.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpt::rt {

struct DTypeInfo {
  mpt_dtype dtype;
  const char *name;        // in manifests, as MLIR spells the type
  const char *safetensors; // in safetensors headers
  int64_t bytes;
};

/// The row of `dtype`; every value of the enumeration has one.
const DTypeInfo &dtypeInfo(mpt_dtype dtype);
std::optional<mpt_dtype> dtypeFromName(std::string_view name);
std::optional<mpt_dtype> dtypeFromSafetensors(std::string_view name);
bool isValidDType(int value);

const char *kindName(mpt_kind kind);
std::optional<mpt_kind> kindFromName(std::string_view name);
/// Whether the kind belongs to a checkpoint.
bool isState(mpt_kind kind);

using Shape = std::vector<int64_t>;

/// "8x128", or "scalar".
std::string toString(const Shape &shape);
/// Bytes of a dense tensor; nothing on a negative extent or on overflow.
std::optional<int64_t> denseBytes(const Shape &shape, mpt_dtype dtype);

/// FNV-1a 64 as 16 hex digits.
std::string fnv1a64(const void *data, size_t bytes);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_TYPES_H
