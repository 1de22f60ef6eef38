//===- OwnProducts.h - which products our own kernels take ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What include/mpt/CUDA/Gemm.h can multiply, and with which tile: one place for
// the pass that chooses between our kernels and cuBLASLt, and for emission.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_OWNPRODUCTS_H
#define MPT_DIALECT_MPT_ANALYSIS_OWNPRODUCTS_H

#include "mpt/Dialect/MPT/Analysis/Storage.h"
#include <string>

namespace mpt {

/// Who multiplies on CUDA: our kernels wherever there is one, cuBLASLt, or for
/// each product the one that is measured or predicted to be faster.
enum class ProductEngine { Own, CublasLt, Auto };

/// Values of `mpt.implementation`.
inline constexpr llvm::StringLiteral kOwn = "own";
inline constexpr llvm::StringLiteral kCublasLt = "cublaslt";

/// Rows of a block's tile, and its columns where there is an epilogue.
inline constexpr int64_t kOwnTileRows = 128, kFusedTileColumns = 128;
/// Multiprocessors of an H100 or H200 (SXM), among which tiles are dealt.
inline constexpr int64_t kOwnUnits = 132;

/// One instance of the kernel.
struct OwnProduct {
  int64_t tileColumns = kFusedTileColumns;
  /// The sum of each 128 k is added to a second f32 accumulator.
  bool promote = false;
  /// BF16 operands held as [k, m] and [k, n].
  bool turnedLhs = false, turnedRhs = false;
};

/// The inverse scale of an operand of a stored product, if it has one.
mlir::Value getInverseScale(mlir::Operation *op, bool ofRhs);

/// Why our kernels cannot take the product, in words that follow its name;
/// empty if they can.
std::string whyNotOwn(ProductOpInterface op, const ProductViews &views);

/// The same for cuBLASLt on sm_90.
std::string whyNotCublasLt(ProductOpInterface op, const ProductViews &views);

/// The instance for a product that our kernels take: the tile with the least
/// work in the longest chain of tiles. An epilogue takes tiles of 128 columns.
OwnProduct getOwnProduct(ProductOpInterface op, const ProductViews &views);

/// Stages of the kernel's ring that fit into shared memory beside an epilogue's
/// `staging` bytes for each column of a warpgroup; it needs two.
int64_t getStages(const OwnProduct &own, int64_t staging);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_OWNPRODUCTS_H
