//===- FusionPlan.h - which ops share a kernel ----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The fusion plan as data: units in execution order, each one kernel or one op
// that stays, with the rules that make a plan valid.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_FUSIONPLAN_H
#define MPT_DIALECT_MPT_ANALYSIS_FUSIONPLAN_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/Analysis/Storage.h"

namespace mpt {

/// Rows and columns that a kernel runs over.
struct Domain {
  int64_t rows = 1, columns = 1;
  bool operator==(const Domain &other) const {
    return rows == other.rows && columns == other.columns;
  }
};

/// An op that costs nothing and is copied into every kernel that reads it
/// (splat f32 constants, iota).
bool isFreeLeaf(mlir::Operation *op);

/// The domain in which an op runs as part of a kernel; nullopt for ops that are
/// no part of kernels.
std::optional<Domain> getDomain(mlir::Operation *op);

struct FusionPlan {
  struct Unit {
    bool isKernel = false;
    /// Program order.
    llvm::SmallVector<mlir::Operation *> ops;
  };
  llvm::SmallVector<Unit> units;

  /// Greedy: an op joins the kernels of its operands where rows and columns
  /// agree and no cycle between units arises.
  static mlir::FailureOr<FusionPlan> build(mlir::func::FuncOp step);
  /// Every op in exactly one unit, operands before uses.
  mlir::LogicalResult verify() const;
};

/// Copies an op whose only large operand is in memory anyway (a bias added to a
/// product's result) to each of its users, so that its result need not be
/// written.
mlir::LogicalResult rematerialiseCheapOps(mlir::func::FuncOp step);

/// Makes a contiguous copy where a product, a scatter or a result reads a view
/// that is no single strided layout.
mlir::LogicalResult copyAwkwardViews(mlir::func::FuncOp step);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_FUSIONPLAN_H
