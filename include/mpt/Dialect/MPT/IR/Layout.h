//===- Layout.h - strided layouts of tensor values ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Shape, strides and offset (in elements) of a tensor value inside the buffer
// that holds it: what lets reshapes, transposes and slices cost nothing.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_LAYOUT_H
#define MPT_DIALECT_MPT_IR_LAYOUT_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>
#include <optional>

namespace mpt {

/// Element (i0, i1, ...) lies at offset + sum(i_d * strides[d]).
struct Layout {
  llvm::SmallVector<int64_t, 4> shape;
  llvm::SmallVector<int64_t, 4> strides;
  int64_t offset = 0;

  /// Row-major layout of `shape`.
  static Layout contiguous(llvm::ArrayRef<int64_t> shape);

  int64_t getNumElements() const;
  bool isContiguous() const;

  /// The layout under a new shape with the same row-major order of elements, if
  /// strides can express it.
  std::optional<Layout> reshape(llvm::ArrayRef<int64_t> newShape) const;
  /// Result dim i is dim permutation[i].
  Layout transpose(llvm::ArrayRef<int64_t> permutation) const;
  /// NumPy broadcasting (right aligned); stretched dims get stride 0.
  Layout broadcast(llvm::ArrayRef<int64_t> newShape) const;
  Layout slice(llvm::ArrayRef<int64_t> offsets,
               llvm::ArrayRef<int64_t> sizes) const;
};

} // namespace mpt

#endif // MPT_DIALECT_MPT_IR_LAYOUT_H
