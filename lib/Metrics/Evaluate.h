//===- Evaluate.h - from products to metrics --------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Backward errors, SQNR, cosine and the effect on the loss of a rounded product
// against the exact one.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_EVALUATE_H
#define MPT_LIB_METRICS_EVALUATE_H

#include "mpt/Metrics/Metrics.h"

namespace mpt::metrics {

/// The quantile q of values[0, n), linear between order statistics (as
/// numpy.quantile); reorders them. NaN if n is 0.
double quantile(double *values, size_t n, double q);

/// What all candidates of a product are compared with. Sizes are multiples of
/// 8; padding has bound 0.
struct Reference {
  std::vector<double> products;
  std::vector<double> bounds;  // after prepare(): their inverses, 0: left out
  std::vector<float> gradient; // empty: none
  size_t included = 0;
  double signal = 0; // sum of squared products
  /// Elements of the whole result over those of the sample.
  double population = 1;
  bool isWhole = false; // the sample is everything

  /// Leaves out the elements whose bound is not positive and finite.
  void prepare();
};

/// All metrics but flushed, saturated and the sketch. `rounded` is laid out as
/// the products; `errors` is scratch.
CandidateMetrics evaluate(const Reference &reference, const float *rounded,
                          std::vector<double> &errors);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_EVALUATE_H
