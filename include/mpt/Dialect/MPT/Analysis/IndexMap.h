//===- IndexMap.h - index arithmetic of fused kernels ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Which element of a tensor belongs to a point of a kernel's iteration domain.
// Both are row-major linear indices; a map takes the digits of one to the
// digits of the other, so a reshape is the identity, and transposes, slices
// and broadcasts only move, shift or drop digits.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_INDEXMAP_H
#define MPT_DIALECT_MPT_ANALYSIS_INDEXMAP_H

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace mpt {

/// ((n / div) % mod) * stride
struct IndexTerm {
  int64_t div, mod, stride;

  friend bool operator==(const IndexTerm &a, const IndexTerm &b) {
    return a.div == b.div && a.mod == b.mod && a.stride == b.stride;
  }
};

/// Element offset for row r and column c of the domain:
/// offset + sum over rowTerms ((r / div) % mod) * stride + c * columnStride
/// + sum over columnTerms ((c / div) % mod) * stride. There are column terms
/// only where a row is no single run (heads that were merged), and then no
/// columnStride.
struct AccessMap {
  int64_t offset = 0;
  llvm::SmallVector<IndexTerm, 2> rowTerms;
  int64_t columnStride = 0;
  llvm::SmallVector<IndexTerm, 2> columnTerms;

  bool dependsOnColumn() const {
    return columnStride != 0 || !columnTerms.empty();
  }
};

/// offset + sum over terms ((n / div) % mod) * stride, n in the domain. Terms
/// are in canonical form: ascending div, none trivial, none mergeable.
class IndexMap {
public:
  /// n -> n for a domain of `size` points.
  static IndexMap identity(int64_t size);
  /// n -> n / columns: the row of a point.
  static IndexMap rowOf(int64_t rows, int64_t columns);

  int64_t getOffset() const { return offset; }
  llvm::ArrayRef<IndexTerm> getTerms() const { return terms; }

  /// The index's digits along each dim of `shape`, or nullopt where a dim's
  /// digit is not a sum of terms (a reshape across a slice, say).
  std::optional<llvm::SmallVector<IndexMap, 4>>
  splitDims(llvm::ArrayRef<int64_t> shape) const;
  /// The row-major index under `shape` of the digits `dims`.
  static IndexMap joinDims(llvm::ArrayRef<IndexMap> dims,
                           llvm::ArrayRef<int64_t> shape);

  /// The index into an operand of shape `from` that is broadcast to `to`.
  std::optional<IndexMap> throughBroadcast(llvm::ArrayRef<int64_t> from,
                                           llvm::ArrayRef<int64_t> to) const;
  /// The index into the source of a view, for this index into its result.
  std::optional<IndexMap> throughView(ViewOpInterface view) const;

  /// This row index (a function of n / columns) times `columns`, plus the
  /// column of n; nullopt if the map depends on the column.
  std::optional<IndexMap> alongRow(int64_t columns) const;

  /// The map back, if this one only rearranges the digits of n < `size`.
  std::optional<IndexMap> inverse(int64_t size) const;

  /// In terms of row and column; nullopt if a term belongs to both.
  std::optional<AccessMap> getAccess(int64_t columns) const;

  void print(llvm::raw_ostream &os) const;
  friend bool operator==(const IndexMap &a, const IndexMap &b) {
    return a.offset == b.offset && a.terms == b.terms;
  }

private:
  void canonicalize();
  void addScaled(const IndexMap &other, int64_t factor);

  int64_t offset = 0;
  llvm::SmallVector<IndexTerm, 4> terms;
};

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_INDEXMAP_H
