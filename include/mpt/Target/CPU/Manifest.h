//===- Manifest.h - the manifest of a CPU package -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Prints a step plan as the manifest.json of docs/package.md.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TARGET_CPU_MANIFEST_H
#define MPT_TARGET_CPU_MANIFEST_H

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"
#include "llvm/Support/raw_ostream.h"

namespace mpt {

/// What the manifest says besides the plan.
struct ManifestInfo {
  std::string engine;
  std::string graphHash;
  std::string kernelsHash;
  std::vector<std::string> cpuFeatures;
};

/// Writes the plan as JSON. Fails, naming the argument or launch, where the
/// plan holds what a CPU package cannot express.
mlir::LogicalResult writeManifest(const StepPlan &plan,
                                  const ManifestInfo &info,
                                  llvm::raw_ostream &os);

} // namespace mpt

#endif // MPT_TARGET_CPU_MANIFEST_H
