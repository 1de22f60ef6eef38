//===- Epilogue.h - kernels that a product can take in --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Which kernel functions may run on a product's result while it is in
// registers: what `--mpt-fuse-epilogues` asks, and what emission builds on.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_EPILOGUE_H
#define MPT_DIALECT_MPT_ANALYSIS_EPILOGUE_H

#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include <string>

namespace mpt {

struct Epilogue {
  KernelModel model;
  /// Why it is none, in words that follow "the kernel"; empty if it is one. The
  /// model is then over the product's rows and columns.
  std::string problem;
};

/// `kernel` behind a product [m, n] that is its argument `position`. Each
/// element of D is needed at its own place only, and nothing needs a whole row
/// but the largest magnitude of it, which may be found in any order.
Epilogue getEpilogue(mlir::func::FuncOp kernel, unsigned position, int64_t m,
                     int64_t n);

/// Bytes of shared memory that a warpgroup needs for each column of a tile (64
/// rows): for FP8 codes and the values of column sums.
int64_t getEpilogueStaging(const KernelModel &model,
                           const KernelResult &result);
int64_t getEpilogueStaging(const KernelModel &model);

/// The kernel function of a fused product.
mlir::func::FuncOp getEpilogueFunction(FusedMatmulOp op);

/// The results of a fused product (ordinals of the kernel's) that hold maxima
/// over a row's tiles: zero before the product begins.
llvm::SmallVector<unsigned> getZeroedResults(const KernelModel &model);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_EPILOGUE_H
