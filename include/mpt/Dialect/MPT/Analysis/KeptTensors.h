//===- KeptTensors.h - what the backward pass reads again -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Tensors that the forward pass computes and that stay in memory until the
// backward pass has read them: the largest part of a step's memory.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_KEPTTENSORS_H
#define MPT_DIALECT_MPT_ANALYSIS_KEPTTENSORS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mpt {

/// The value that `value` holds all elements of, through views: what a cast
/// goes behind. The amax is the same on both sides of such a view.
mlir::Value getCastSource(mlir::Value value);

struct KeptTensor {
  /// What a cast goes behind; it has a defining op.
  mlir::Value value;
  /// Operands of the backward pass that are the value or a view of it. Those of
  /// products are not among them: products have formats of their own.
  llvm::SmallVector<mlir::OpOperand *> reads;
  /// A product makes it, which writes it to memory in f32.
  bool isProduct = false;
  /// Why it stays in f32 whatever was measured, or "".
  llvm::StringRef heldHigh;
};

/// The tensors that `step` keeps, in program order. The forward pass is what
/// the result `loss` depends on. Rows' statistics (last axis 1), arguments and
/// constants are left out. Empty if there is no loss.
llvm::SmallVector<KeptTensor> findKeptTensors(mlir::func::FuncOp step);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_KEPTTENSORS_H
