//===- PolicyKind.h - names of the assignment policies ----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The policies by name, for pass options and the decision record. What each of
// them does is in Policy.h.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_POLICYKIND_H
#define MPT_PRECISION_POLICYKIND_H

namespace mpt {
namespace precision {

enum class PolicyKind { Threshold, Budget, Uniform, BF16, FP32 };

/// The target that decisions are made for if none is named: the machine that
/// packages are measured on.
inline constexpr const char *kDefaultTarget = "h200";

/// The policy's name on the command line.
constexpr const char *nameOf(PolicyKind policy) {
  switch (policy) {
  case PolicyKind::Threshold:
    return "threshold";
  case PolicyKind::Budget:
    return "budget";
  case PolicyKind::Uniform:
    return "uniform";
  case PolicyKind::BF16:
    return "bf16";
  case PolicyKind::FP32:
    return "fp32";
  }
  return "";
}

/// Who decides about what is kept for the backward pass.
enum class KeptPolicy { F32, BF16, Auto };

constexpr const char *nameOf(KeptPolicy policy) {
  switch (policy) {
  case KeptPolicy::F32:
    return "f32";
  case KeptPolicy::BF16:
    return "bf16";
  case KeptPolicy::Auto:
    return "auto";
  }
  return "";
}

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_POLICYKIND_H
