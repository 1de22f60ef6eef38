//===- Kept.h - formats of what the backward pass reads again ---*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The decision in which format each tensor is kept from the forward pass for
// the backward pass: bytes against the error that rounding adds to gradients.
// docs/precision.md has the argument.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_KEPT_H
#define MPT_PRECISION_KEPT_H

#include "mpt/Precision/CostModel.h"
#include "mpt/Precision/PolicyKind.h"
#include <map>

namespace mpt {
namespace precision {

/// What was measured of one tensor in one format.
struct KeptCandidate {
  FormatAttr format;
  /// |g' - g|^2 / |g|^2 over all gradients of the step, with this tensor alone
  /// in the format: mean over batches, and the width of its 95 % interval, the
  /// upper end of which is mean + spread / 2.
  double noiseRatio = 0, spread = 0;

  double getUpper() const { return noiseRatio + spread / 2; }
};

/// A file of `mpt.kept` (docs/precision.md).
struct KeptProfile {
  std::string source, graphHash;
  std::map<std::string, std::vector<KeptCandidate>> tensors;
};

/// Parses a profile; `source` stands for the file in messages. Fails, naming
/// the place, on another format or version, on tensors and formats that are
/// there twice, and on numbers that are negative or not finite.
llvm::Expected<KeptProfile> parseKeptProfile(mlir::MLIRContext *context,
                                             llvm::StringRef text,
                                             llvm::StringRef source);
llvm::Expected<KeptProfile> readKeptProfile(mlir::MLIRContext *context,
                                            llvm::StringRef path);

/// A tensor that the step keeps.
struct KeptItem {
  std::string name;
  int64_t elements = 0;
  /// It is in memory in f32 whatever is kept: a product's result.
  bool isProduct = false;
  /// Why it stays in f32, or "".
  std::string heldHigh;
};

struct KeptProblem {
  mlir::MLIRContext *context = nullptr;
  KeptPolicy policy = KeptPolicy::F32;
  /// Largest sum of noise ratios, of the policy `auto`.
  double limit = 0;
  std::string graphHash;
  /// In program order, with unique names.
  std::vector<KeptItem> items;
  std::optional<KeptProfile> profile;
};

struct KeptDecision {
  FormatAttr format;
  /// Bytes of memory that are not held from forward to backward.
  double savedBytes = 0;
  /// Predicted microseconds of memory traffic that are saved; negative where
  /// rounding costs more than it saves.
  double savedUs = 0;
  /// Upper end of the measured noise ratio; nullopt if it was not measured.
  std::optional<double> noiseRatio;
  std::string reason;
};

struct KeptOutcome {
  /// One per item.
  std::vector<KeptDecision> decisions;
  /// Bytes held in f32, and as decided.
  double f32Bytes = 0, bytes = 0;
  /// The sum of the measured ratios.
  double noiseRatio = 0;
};

/// Decides. Fails where the policy `auto` lacks a profile, or has one of
/// another graph or without one of the tensors.
llvm::Expected<KeptOutcome> decideKept(const KeptProblem &problem,
                                       const CostModel &cost);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_KEPT_H
