//===- Package.h - CPU packages and the pipeline that leads there ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// From a training step to a package directory (docs/package.md).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TARGET_CPU_PACKAGE_H
#define MPT_TARGET_CPU_PACKAGE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

namespace mpt {

struct CPUPackageOptions {
  /// "blas" or "reference".
  std::string engine = "blas";
  /// "host" or a name that LLVM knows.
  std::string cpu = "host";
  /// Safetensors file with the parameters' initial values; empty: none.
  std::string weights;
  /// Where to say, once the package is written, what its memory holds.
  llvm::raw_ostream *report = nullptr;
};

/// From a step (with or without casts) to kernels, products, scatters and
/// views: what every CPU package goes through, in order.
void buildCPUPipeline(mlir::OpPassManager &manager, bool carryCasts = false);
/// Registers `--mpt-cpu-pipeline`.
void registerCPUPipeline();

/// Writes the package of the lowered module's `@step` into `directory`, which
/// is replaced as a whole once everything is written.
mlir::LogicalResult writeCPUPackage(mlir::ModuleOp module,
                                    const CPUPackageOptions &options,
                                    llvm::StringRef directory);

} // namespace mpt

#endif // MPT_TARGET_CPU_PACKAGE_H
