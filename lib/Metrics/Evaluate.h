//===- Evaluate.h - from products to metrics --------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Backward errors, SQNR and cosine of a rounded product against the exact one.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_EVALUATE_H
#define MPT_LIB_METRICS_EVALUATE_H

#include "mpt/Metrics/Metrics.h"

namespace mpt::metrics {

/// The quantile q of values[0, n), linear between order statistics (as
/// numpy.quantile); reorders them. NaN if n is 0.
double quantile(double *values, size_t n, double q);

struct Evaluation {
  std::vector<double> errors; // scratch, as large as the sample
  size_t included = 0;        // elements whose bound is positive and finite
  CandidateMetrics metrics;   // all but flushed and saturated

  /// Padding has bound 0, so it is left out with what has no error to speak of.
  void run(const double *products, const double *bounds, const float *rounded,
           size_t n);
};

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_EVALUATE_H
