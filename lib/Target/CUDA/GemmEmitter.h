//===- GemmEmitter.h - products of our own kernels ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Instances of include/mpt/CUDA/Gemm.h for the products of a step, shared by
// those with the same formats, tile and epilogue, and what loads and launches
// them. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_GEMMEMITTER_H
#define MPT_LIB_TARGET_CUDA_GEMMEMITTER_H

#include "Names.h"
#include "SourceWriter.h"
#include "mpt/Dialect/MPT/Analysis/Epilogue.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"

namespace mpt {
namespace cuda {

/// Whether the launch is a product of our kernels (`mpt.implementation`).
bool isOwnProduct(const StepPlan::Launch &launch);

/// The kernel's function: its name in the source and in the cubin.
std::string getOwnKernelName(const StepPlan::Launch &launch);

class GemmEmitter {
public:
  GemmEmitter(const StepPlan &plan, const DeviceMemory &memory)
      : plan(plan), memory(memory) {}

  /// Refuses, by name, a product that no own kernel takes.
  mlir::LogicalResult build();
  bool empty() const { return instances.empty(); }
  /// Kernels, with C linkage: ends the unnamed namespace and begins another.
  void emitKernels(SourceWriter &w) const;
  /// The products' tables, and `void loadOwn()` which fills them.
  void emitLoad(SourceWriter &w) const;
  void emitLaunch(const StepPlan::Launch &launch, SourceWriter &w) const;

private:
  /// One kernel, and the launches that share it.
  struct Instance {
    std::string name;
    llvm::SmallVector<const StepPlan::Launch *> launches;
    /// Of a fused product.
    std::optional<KernelModel> epilogue;
  };
  mlir::LogicalResult addEpilogue(Instance &instance);
  void emitKernel(const Instance &instance, SourceWriter &w) const;
  void emitLoadOf(const Instance &instance, size_t index,
                  SourceWriter &w) const;
  std::string epilogueOf(const Instance &instance) const;
  std::string at(mlir::Type element, StepPlan::Access access) const;

  const StepPlan &plan;
  const DeviceMemory &memory;
  std::vector<Instance> instances;
  /// Where a launch stands: its instance, and which of its products it is.
  llvm::DenseMap<const StepPlan::Launch *, std::pair<size_t, size_t>> places;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_GEMMEMITTER_H
