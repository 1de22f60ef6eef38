//===- Types.cpp - dtypes, kinds and shapes of the runtime ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One table per enumeration; each lookup is a walk over it.
//
//===----------------------------------------------------------------------===//

#include "Types.h"

#include <cstdio>

namespace mpt::rt {

static const DTypeInfo dtypes[] = {
    {MPT_F32, "f32", "F32", 4},
    {MPT_BF16, "bf16", "BF16", 2},
    {MPT_F8E4M3FN, "f8E4M3FN", "F8_E4M3", 1},
    {MPT_F8E5M2, "f8E5M2", "F8_E5M2", 1},
    {MPT_I8, "i8", "I8", 1},
    {MPT_I32, "i32", "I32", 4},
    {MPT_I64, "i64", "I64", 8},
    {MPT_I1, "i1", "BOOL", 1},
};

struct KindInfo {
  mpt_kind kind;
  const char *name;
};
static const KindInfo kinds[] = {
    {MPT_PARAMETER, "parameter"},
    {MPT_OPTIMIZER_STATE, "optimizer_state"},
    {MPT_SCALE_STATE, "scale_state"},
    {MPT_DERIVED, "derived"},
    {MPT_INPUT, "input"},
    {MPT_LABEL, "label"},
    {MPT_RNG, "rng"},
    {MPT_HYPER, "hyper"},
};

const DTypeInfo &dtypeInfo(mpt_dtype dtype) { return dtypes[dtype]; }

bool isValidDType(int value) {
  return value >= 0 && value < static_cast<int>(std::size(dtypes));
}

std::optional<mpt_dtype> dtypeFromName(std::string_view name) {
  for (const DTypeInfo &info : dtypes)
    if (name == info.name)
      return info.dtype;
  return std::nullopt;
}

std::optional<mpt_dtype> dtypeFromSafetensors(std::string_view name) {
  for (const DTypeInfo &info : dtypes)
    if (name == info.safetensors)
      return info.dtype;
  return std::nullopt;
}

const char *kindName(mpt_kind kind) {
  for (const KindInfo &info : kinds)
    if (kind == info.kind)
      return info.name;
  return "result";
}

std::optional<mpt_kind> kindFromName(std::string_view name) {
  for (const KindInfo &info : kinds)
    if (name == info.name)
      return info.kind;
  return std::nullopt;
}

bool isState(mpt_kind kind) {
  return kind == MPT_PARAMETER || kind == MPT_OPTIMIZER_STATE ||
         kind == MPT_SCALE_STATE;
}

std::string toString(const Shape &shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

std::optional<int64_t> denseBytes(const Shape &shape, mpt_dtype dtype) {
  int64_t bytes = dtypeInfo(dtype).bytes;
  for (int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes))
      return std::nullopt;
  return bytes;
}

std::string fnv1a64(const void *data, size_t bytes) {
  const auto *p = static_cast<const unsigned char *>(data);
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < bytes; ++i)
    hash = (hash ^ p[i]) * 0x100000001b3u;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(hash));
  return text;
}

} // namespace mpt::rt
