//===- Package.h - CUDA packages and the pipeline that leads there --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// From a training step to a directory of CUDA sources (docs/cuda.md).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TARGET_CUDA_PACKAGE_H
#define MPT_TARGET_CUDA_PACKAGE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "mpt/Precision/PolicyKind.h"

namespace mpt {

struct CUDAPackageOptions {
  /// Safetensors file with the parameters' initial values; empty: none.
  std::string weights;
  /// Where to say, once the package is written, what its memory holds.
  llvm::raw_ostream *report = nullptr;
};

/// Who multiplies (`--mpt-choose-products`), and whether products take in the
/// kernel behind them (`--mpt-fuse-epilogues`).
struct CUDAPipelineOptions : mlir::PassPipelineOptions<CUDAPipelineOptions> {
  Option<bool> fuseAttention{
      *this, "fuse-attention",
      llvm::cl::desc("attention in BF16 in one kernel that stores no scores"),
      llvm::cl::init(true)};
  Option<ProductEngine> products{
      *this, "products", llvm::cl::desc("who multiplies"),
      llvm::cl::init(ProductEngine::Auto),
      llvm::cl::values(
          clEnumValN(ProductEngine::Own, "own", "our kernels"),
          clEnumValN(ProductEngine::CublasLt, "cublaslt", "cuBLASLt"),
          clEnumValN(ProductEngine::Auto, "auto", "the faster one"))};
  Option<std::string> target{*this, "target",
                             llvm::cl::desc("machine that runs the step"),
                             llvm::cl::init(precision::kDefaultTarget)};
  Option<std::string> tuning{
      *this, "tuning", llvm::cl::desc("measured times of products (JSON)"),
      llvm::cl::init("")};
  Option<bool> epilogues{*this, "epilogues",
                         llvm::cl::desc("own products take in kernels"),
                         llvm::cl::init(true)};
  Option<bool> carryCasts{
      *this, "carry-casts",
      llvm::cl::desc("keep low copies of parameters between steps "
                     "(mpt-carry-casts)")};
};

/// From a step (with or without casts) to kernels, products, attention,
/// scatters and views: what every CUDA package goes through, in order.
void buildCUDAPipeline(mlir::OpPassManager &manager,
                       const CUDAPipelineOptions &options);
/// Registers `--mpt-cuda-pipeline`.
void registerCUDAPipeline();

/// Writes step.cu, manifest.json and init.safetensors for the lowered module's
/// `@step` into `directory`, which is replaced as a whole once everything is
/// written. Refuses, by name, products that the target cannot run.
mlir::LogicalResult writeCUDAPackage(mlir::ModuleOp module,
                                     const CUDAPackageOptions &options,
                                     llvm::StringRef directory);

/// Writes DIR/kernels.cu: every kernel function of `module`, and for each an
/// exported `int name(void *const *args)` that launches it.
mlir::LogicalResult writeCUDAKernels(mlir::ModuleOp module,
                                     llvm::StringRef directory);

} // namespace mpt

#endif // MPT_TARGET_CUDA_PACKAGE_H
