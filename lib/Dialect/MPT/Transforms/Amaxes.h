//===- Amaxes.h - largest magnitudes of tensors, once each ------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Builds the reductions that scales come from, each where it is first needed.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_DIALECT_MPT_TRANSFORMS_AMAXES_H
#define MPT_LIB_DIALECT_MPT_TRANSFORMS_AMAXES_H

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/ADT/MapVector.h"

namespace mpt {

/// max |x| of the values of a step. Infinite if an element is, NaN if one is.
class Amaxes {
public:
  /// Builds at `builder`'s insertion point, which the caller moves.
  explicit Amaxes(mlir::OpBuilder &builder) : builder(builder) {}

  /// Over what shares a scale, of a shape that broadcasts to x: [] per tensor,
  /// [..., M, 1] per row, [..., 1, N] per column, [1, ..., 1, N] per column
  /// `overBatch`, the columns of all of the batch.
  mlir::Value get(mlir::Value x, Granularity granularity, bool overBatch);
  /// Over all of x ([]), from the above where there is one.
  mlir::Value getWhole(mlir::Value x);
  /// All that `getWhole` was asked for, in order.
  llvm::SmallVector<mlir::Value> getAllWhole() const;

private:
  mlir::Value perColumn(mlir::Value x, bool overBatch);
  mlir::Value reduce(mlir::Value x, llvm::ArrayRef<int64_t> axes);
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<int64_t> shape);

  mlir::OpBuilder &builder;
  /// The name of what is being built.
  std::string name;
  /// By value and granularity, or this for columns of all of the batch.
  static constexpr int kWholeColumns = -1;
  llvm::DenseMap<std::pair<mlir::Value, int>, mlir::Value> known;
  llvm::MapVector<mlir::Value, mlir::Value> whole;
};

} // namespace mpt

#endif // MPT_LIB_DIALECT_MPT_TRANSFORMS_AMAXES_H
