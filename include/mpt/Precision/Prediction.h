//===- Prediction.h - predicted time of an assignment -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the cost model says about the products of a step together: work that
// several of them need counts once.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_PREDICTION_H
#define MPT_PRECISION_PREDICTION_H

#include "mpt/Precision/Policy.h"

namespace mpt {
namespace precision {

/// The work that `product` needs under `formats`, of both operands; each name
/// once.
std::vector<Work> workOf(const CostModel &cost, const Product &product,
                         const FormatPair &formats);

/// Microseconds of all products, and of the work for all of them, with the
/// bytes that this moves.
struct Prediction {
  double products = 0, work = 0, workBytes = 0;

  double getTotal() const { return products + work; }
};

/// Predicts `problem` with one pair of formats per product, which the target
/// runs.
Prediction predict(const Problem &problem, llvm::ArrayRef<FormatPair> formats);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_PREDICTION_H
