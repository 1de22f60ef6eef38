//===- Summary.cpp - mean, spread and interval over batches ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The percentile bootstrap: Efron and Tibshirani, "An Introduction to the
// Bootstrap" (1993), chapter 13. Draws are the same for all metrics of a file.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include "mpt/Metrics/Profiler.h"
#include "mpt/Numerics/Philox.h"

#include <cmath>
#include <limits>

namespace mpt::metrics {

static constexpr int kResamples = 1000;

/// The 2.5 and 97.5 percentiles of the means of resamples.
static std::pair<double, double> bootstrap(const std::vector<double> &values) {
  uint32_t n = static_cast<uint32_t>(values.size());
  double means[kResamples];
  for (uint32_t r = 0; r < kResamples; ++r) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i += 4) {
      num::Words4<uint32_t> words = num::philox(i / 4, r, n, 0u, 0u, 0u);
      uint32_t word[4] = {words.x, words.y, words.z, words.w};
      for (uint32_t j = 0; j < 4 && i + j < n; ++j)
        sum += values[num::mulhi(word[j], n)];
    }
    means[r] = sum / n;
  }
  double low = quantile(means, kResamples, 0.025);
  return {low, quantile(means, kResamples, 0.975)};
}

Summary summarize(const std::vector<double> &all) {
  std::vector<double> values;
  for (double value : all)
    if (value == value)
      values.push_back(value);
  if (values.empty()) {
    double none = std::numeric_limits<double>::quiet_NaN();
    return {none, none, none, none};
  }
  double sum = 0, squares = 0, n = double(values.size());
  for (double value : values)
    sum += value;
  double mean = sum / n;
  if (values.size() == 1)
    return {mean, 0, mean, mean};
  for (double value : values)
    squares += (value - mean) * (value - mean);
  auto [low, high] = bootstrap(values);
  return {mean, std::sqrt(squares / (n - 1)), low, high};
}

} // namespace mpt::metrics
