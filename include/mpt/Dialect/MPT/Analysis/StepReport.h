//===- StepReport.h - what a step launches and moves ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Launches and bytes of a step plan, by layer: what fusion is judged by. Shared
// by --mpt-fusion-report and by manifests.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_STEPREPORT_H
#define MPT_DIALECT_MPT_ANALYSIS_STEPREPORT_H

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

namespace mpt {

/// Bytes in memory that a launch reads and writes: every operand once and
/// whole, of a table that is gathered from only the rows that are taken.
struct Traffic {
  int64_t read = 0, written = 0;
};
Traffic getTraffic(const StepPlan::Launch &launch);

/// Kernels that one entry of the launch list is.
int64_t countKernels(const StepPlan::Launch &launch);

/// What a launch is for.
enum class LaunchClass {
  Product,    ///< products, and attention, which is made of them
  Kernel,     ///< over rows, in the forward or the backward pass
  Small,      ///< over one row: a scale, an amax of the rows' amaxes
  StandAlone, ///< a pass over a tensor only to cast, transpose or find an amax
  Optimizer,  ///< gradient norms, updates of parameters, scales and histories
  Memory      ///< scatters, copies and fills
};
llvm::StringRef stringify(LaunchClass which);
LaunchClass classify(const StepPlan::Launch &launch);

/// The layer that a name belongs to: the first number between words, and the
/// word before it ("layer.0" in "bert.encoder.layer.0.output"), or "".
llvm::StringRef getLayerName(llvm::StringRef name);

/// The ops of a kernel in order, equal ones counted: "add dropout sum mul*2".
std::string describeKernel(mlir::func::FuncOp kernel);

/// Launches and bytes of one layer, or of what belongs to none ("").
struct LayerTraffic {
  static constexpr unsigned kClasses = 6;
  std::string name;
  int64_t launches[kClasses] = {}, bytes[kClasses] = {};
};
/// In the order in which the layers appear; what belongs to none is the last.
std::vector<LayerTraffic> getLayerTraffic(const StepPlan &plan);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_STEPREPORT_H
