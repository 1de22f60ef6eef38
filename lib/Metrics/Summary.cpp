//===- Summary.cpp - mean, spread and interval over batches ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The percentile bootstrap: Efron and Tibshirani, "An Introduction to the
// Bootstrap" (1993), chapter 13. Draws are the same for all metrics of a file.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include "ProfileData.h"
#include "mpt/Numerics/Philox.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mpt::metrics {

static constexpr uint32_t kResamples = 1000, kLeastResamples = 100;
/// Pairs of batches that all resamples together may look at.
static constexpr size_t kMostPairs = 20'000'000;

/// Calls body(choice) for every resample of `n` batches.
template <typename Body>
static void forResamples(size_t n, uint32_t resamples, const Body &body) {
  std::vector<size_t> choice(n);
  uint32_t count = static_cast<uint32_t>(n);
  for (uint32_t r = 0; r < resamples; ++r) {
    for (uint32_t i = 0; i < count; i += 4) {
      num::Words4<uint32_t> words = num::philox(i / 4, r, count, 0u, 0u, 0u);
      uint32_t word[4] = {words.x, words.y, words.z, words.w};
      for (uint32_t j = 0; j < 4 && i + j < count; ++j)
        choice[i + j] = num::mulhi(word[j], count);
    }
    body(choice);
  }
}

/// Arithmetic mean.
static double meanOf(const std::vector<double> &values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         double(values.size());
}

/// n - 1 in the denominator.
static double deviationOf(const std::vector<double> &values, double mean) {
  double squares = 0;
  for (double value : values)
    squares += (value - mean) * (value - mean);
  return std::sqrt(squares / double(values.size() - 1));
}

Summary summarize(const std::vector<double> &all) {
  std::vector<double> values;
  for (double value : all)
    if (value == value)
      values.push_back(value);
  if (values.empty())
    return {};
  double mean = meanOf(values);
  if (values.size() == 1)
    return {mean, 0, mean, mean};
  std::vector<double> means;
  means.reserve(kResamples);
  forResamples(values.size(), kResamples,
               [&](const std::vector<size_t> &choice) {
                 double sum = 0;
                 for (size_t index : choice)
                   sum += values[index];
                 means.push_back(sum / double(choice.size()));
               });
  double low = quantile(means.data(), means.size(), 0.025);
  return {mean, deviationOf(values, mean), low,
          quantile(means.data(), means.size(), 0.975)};
}

Summary bootstrapStatistic(
    size_t batches,
    const std::function<double(const std::vector<size_t> &choice)> &statistic) {
  if (batches < 2)
    return {};
  std::vector<size_t> all(batches);
  std::iota(all.begin(), all.end(), size_t(0));
  double value = statistic(all);
  if (!std::isfinite(value))
    return {};
  std::vector<double> drawn;
  uint32_t resamples = static_cast<uint32_t>(std::clamp<size_t>(
      kMostPairs / (batches * batches), kLeastResamples, kResamples));
  forResamples(batches, resamples, [&](const std::vector<size_t> &choice) {
    if (double d = statistic(choice); std::isfinite(d))
      drawn.push_back(d);
  });
  // Two batches make one pair: no draw differs from it.
  if (batches < 3 || drawn.size() < 2)
    return {value, kNoValue, kNoValue, kNoValue};
  double low = quantile(drawn.data(), drawn.size(), 0.025);
  double high = quantile(drawn.data(), drawn.size(), 0.975);
  return {value, deviationOf(drawn, meanOf(drawn)), low, high};
}

} // namespace mpt::metrics
