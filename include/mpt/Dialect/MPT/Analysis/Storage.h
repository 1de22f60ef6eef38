//===- Storage.h - where tensor values live -------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Which SSA values own a buffer, and how views and products see it: shared by
// fusion (what a kernel takes as arguments) and by the step plan (buffers).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_STORAGE_H
#define MPT_DIALECT_MPT_ANALYSIS_STORAGE_H

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace mpt {

/// A value seen through views: element i of the value is element
/// layout(i) of the root's row-major buffer.
struct StorageView {
  mlir::Value root;
  Layout layout;
};

/// The transpose that alone reads a product's result, if there is one: the
/// product then writes through it and the transposed value owns the buffer.
TransposeOp getWriteThrough(mlir::Value productResult);

/// Follows views from `value` to the value that owns the buffer; nullopt if the
/// chain is not one strided layout (a copy is needed).
std::optional<StorageView> getStorageView(mlir::Value value);

/// How a product reads or writes one operand: element (b0, b1, i, j) lies at
/// offset + b0*batch[0] + b1*batch[1] + i*rows + j*columns, in elements of
/// root.
struct ProductView {
  mlir::Value root;
  int64_t offset = 0, rows = 0, columns = 0;
  int64_t batch[2] = {0, 0};
};
/// The strides of a whole product.
struct ProductViews {
  int64_t m, n, k, batch[2];
  ProductView lhs, rhs, result;
};
/// Strides of a product's operands and result; nullopt if one of them has no
/// strided form that a BLAS call takes. `problem` then names the operand
/// (0 lhs, 1 rhs).
std::optional<ProductViews> getProductViews(ProductOpInterface op,
                                            unsigned &problem);

/// How a kernel of attention reads [batch, sequence, heads, head size]: element
/// (b, r, h, i) lies at offset + b * batch + r * rows + h * head size + i, in
/// elements of root.
struct HeadsView {
  mlir::Value root;
  int64_t offset = 0, rows = 0, batch = 0;
};
/// The strides of heads that lie side by side, in rows that begin at multiples
/// of 8 elements (16 bytes of BF16: what the copy engine takes); nullopt if
/// they do not.
std::optional<HeadsView> getHeadsView(const StorageView &view);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_STORAGE_H
