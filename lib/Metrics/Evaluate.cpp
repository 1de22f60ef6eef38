//===- Evaluate.cpp - from products to metrics ----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The formulas of docs/metrics.md, in f64.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mpt::metrics {

static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double quantile(double *values, size_t n, double q) {
  if (n == 0)
    return kNone;
  double position = q * double(n - 1);
  size_t index = static_cast<size_t>(position);
  double fraction = position - double(index);
  std::nth_element(values, values + index, values + n);
  double low = values[index];
  if (index + 1 == n || fraction == 0)
    return low;
  double high = *std::min_element(values + index + 1, values + n);
  return low + fraction * (high - low);
}

void Evaluation::run(const double *products, const double *bounds,
                     const float *rounded, size_t n) {
  double signal = 0, noise = 0, other = 0, inner = 0, largest = 0;
  included = 0;
  for (size_t i = 0; i < n; ++i) {
    double bound = bounds[i];
    if (!(bound > 0) || bound > std::numeric_limits<double>::max())
      continue;
    double y = products[i], z = rounded[i], e = y - z;
    signal += y * y;
    noise += e * e;
    other += z * z;
    inner += y * z;
    double error = std::fabs(e) / bound;
    if (error != error) // no order with NaN; it is as bad as can be
      error = std::numeric_limits<double>::infinity();
    largest = std::max(largest, error);
    errors[included++] = error;
  }
  metrics.beMedian = quantile(errors.data(), included, 0.5);
  metrics.beP99 = quantile(errors.data(), included, 0.99);
  metrics.beMax = included ? largest : kNone;
  metrics.sqnrDb =
      signal > 0 && noise > 0 ? 10 * std::log10(signal / noise) : kNone;
  metrics.cosine = signal > 0 && other > 0
                       ? inner / (std::sqrt(signal) * std::sqrt(other))
                       : kNone;
}

} // namespace mpt::metrics
