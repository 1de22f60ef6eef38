//===- ManifestWriter.h - what the manifests of all targets share ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Arguments, results, types and hashes as docs/package.md writes them; targets
// derive their writers from it and add buffers and launches.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TARGET_PACKAGE_MANIFESTWRITER_H
#define MPT_TARGET_PACKAGE_MANIFESTWRITER_H

#include "mlir/Pass/PassOptions.h"
#include "mpt/Dialect/MPT/Analysis/StepPlan.h"
#include "llvm/Support/JSON.h"

namespace mpt {

/// FNV-1a 64 as 16 hex digits, the hash of docs/package.md.
std::string hashText(llvm::StringRef bytes);

/// The name of an element type in manifests.
llvm::StringRef getDtypeName(mlir::Type type);

/// What the pipelines of all targets can be asked for.
struct StepPipelineOptions : mlir::PassPipelineOptions<StepPipelineOptions> {
  Option<bool> carryCasts{*this, "carry-casts",
                          llvm::cl::desc("keep low copies of parameters "
                                         "between steps (mpt-carry-casts)")};
};

/// Writes the parts of a step plan that no target changes.
struct ManifestWriter {
  const StepPlan &plan;
  llvm::json::OStream json;

  ManifestWriter(const StepPlan &plan, llvm::raw_ostream &os)
      : plan(plan), json(os, 1) {}

  /// dtype and shape, as attributes of the open object.
  void typed(mlir::RankedTensorType type);
  /// buffer and offset, as values of the open array.
  void accessValues(StepPlan::Access access);
  /// The two batch strides or sizes.
  void batch(const int64_t (&values)[2]);
  /// The arrays `arguments` and `results`.
  void signature();
  /// The array `traffic`: launches and bytes of each layer (StepReport).
  void traffic();
  /// The array `gradients`: for each parameter that the step trains, where its
  /// gradient lies after the backward pass, with strides in elements unless it
  /// is dense. A constant gradient, which no launch stores, is not in it.
  void gradients();
  /// The object `memory`: bytes by what they are for (MemoryReport).
  void memoryReport();

private:
  void argument(const StepPlan::Argument &argument);
  void scaleStateInit(const StepPlan::Argument &argument);
  void gradientsOfUpdates(mlir::func::CallOp call,
                          llvm::ArrayRef<StepPlan::Access> accesses);
  void gradient(llvm::StringRef parameter, StepPlan::Access access,
                const Layout &layout);
};

} // namespace mpt

#endif // MPT_TARGET_PACKAGE_MANIFESTWRITER_H
