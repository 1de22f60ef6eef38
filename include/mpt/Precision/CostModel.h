//===- CostModel.h - predicted times on a target ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What a product takes in some formats, and what it takes to have its operands
// in them: casts, amaxes and transposed copies, which all products that read
// the tensor share. docs/cost-model.md has the formulas.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_COSTMODEL_H
#define MPT_PRECISION_COSTMODEL_H

#include "mpt/Precision/Target.h"
#include <map>
#include <tuple>

namespace mpt {
namespace precision {

/// `batch` products of [m, k] and [k, n].
struct ProductShape {
  int64_t m = 0, n = 0, k = 0, batch = 1;

  bool operator<(const ProductShape &o) const {
    return std::tie(m, n, k, batch) < std::tie(o.m, o.n, o.k, o.batch);
  }
  double getFlops() const { return 2.0 * m * n * k * batch; }
};

/// Measured times of products, which overrule predicted ones.
class TuningTable {
public:
  /// The measured time in microseconds, if there is one.
  std::optional<double> find(const ProductShape &shape,
                             const FormatPair &formats) const;

  std::map<std::tuple<ProductShape, Storage, Storage>, double> times;
};

/// Parses a table (docs/cost-model.md) that was measured on `target`; `source`
/// stands for the file in messages. Fails on one of another target, on a shape
/// that is there twice and on times of 0 or less.
llvm::Expected<TuningTable> parseTuningTable(llvm::StringRef text,
                                             llvm::StringRef source,
                                             const Target &target);
llvm::Expected<TuningTable> readTuningTable(llvm::StringRef path,
                                            const Target &target);

/// What a product takes, in microseconds, its launch included.
struct ProductTime {
  double us = 0;
  /// The two that it is the larger of, without launch; 0 if measured.
  double arithmetic = 0, memory = 0;
  bool measured = false;
};

/// A tensor as its casts see it.
struct Tensor {
  /// Stable over all products that read it.
  std::string name;
  int64_t elements = 0;
  /// A kernel of the step makes it; arguments have none.
  bool hasProducer = true;
};

/// Something that is done once for all products that need it.
struct Work {
  std::string name;
  double us = 0;
  double bytes = 0;
};

struct CostModel {
  Target target;
  TuningTable tuning;

  /// The time of a product; infinite in formats that `target` does not run.
  ProductTime timeOf(const ProductShape &shape,
                     const FormatPair &formats) const;

  /// What it takes to have a tensor in `format`: nothing for f32, else the
  /// cast, for recipes that need one the amax, and where `turned` (the product
  /// reads it other than contiguous along k, and its formats need that) the
  /// transposed copy. Equal names mean the same work.
  std::vector<Work> workOf(const Tensor &tensor, FormatAttr format,
                           bool turned) const;
};

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_COSTMODEL_H
