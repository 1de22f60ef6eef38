//===- Evaluate.cpp - from products to metrics ----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One vectorised pass makes the sums and the backward errors. Their quantiles
// are exact: a histogram on the high bits of the errors finds the few elements
// among which an order statistic is.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"

#include "Clones.h"
#include "Vectors.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mpt::metrics {

static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
static constexpr double kInfinite = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------===//

namespace {

struct Sums {
  double noise, other, inner, largest, lossMse, lossShift;
};

/// Sums over the elements with an inverse bound, and the backward error of each
/// element; -1 of those left out. (Declared first: clang takes a vector width
/// on a redeclaration only.)
void sumErrors(const double *products, const double *inverses,
               const float *rounded, const float *gradient, size_t n,
               double *errors, Sums &sums);

MPT_WIDE_CLONES void sumErrors(const double *__restrict products,
                               const double *__restrict inverses,
                               const float *__restrict rounded,
                               const float *__restrict gradient, size_t n,
                               double *__restrict errors, Sums &sums) {
  Doubles zero{}, noise{}, other{}, inner{}, largest{}, mse{}, shift{};
  Doubles infinite = kInfinite - zero;
  for (size_t i = 0; i < n; i += kLanes) {
    Doubles y = load<Doubles>(products + i);
    Doubles inverse = load<Doubles>(inverses + i);
    DoubleMask included = inverse > zero;
    Doubles z = included ? widenLanes(rounded + i) : zero;
    Doubles e = z - y;
    noise += e * e;
    other += z * z;
    inner += y * z;
    // Not -e: the magnitude of -0 must be 0, since negative errors do not
    // count.
    Doubles error = (e > zero ? e : zero - e) * inverse;
    // NaN has no order; it is as bad as can be.
    error = error == error ? error : infinite;
    largest = error > largest ? error : largest;
    store(errors + i, included ? error : zero - 1.0);
    if (gradient) {
      Doubles effect = included ? widenLanes(gradient + i) * e : zero;
      mse += effect * effect;
      shift += effect;
    }
  }
  double most = 0;
  for (int l = 0; l < kLanes; ++l)
    most = std::max(most, largest[l]);
  sums = {sumLanes(noise), sumLanes(other), sumLanes(inner), most,
          sumLanes(mse),   sumLanes(shift)};
}

} // namespace

void Reference::prepare() {
  included = 0;
  double lanes[kLanes] = {};
  for (size_t i = 0; i < products.size(); ++i) {
    double bound = bounds[i];
    bool isIn = bound > 0 && bound <= std::numeric_limits<double>::max();
    bounds[i] = isIn ? 1 / bound : 0.0;
    if (!isIn)
      products[i] = 0.0;
    included += isIn;
    lanes[i % kLanes] += products[i] * products[i];
  }
  signal = 0;
  for (double lane : lanes)
    signal += lane;
}

//===----------------------------------------------------------------------===//
// Quantiles
//===----------------------------------------------------------------------===//

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

namespace {

/// Order statistics of errors: negative ones do not count.
class OrderStatistics {
public:
  OrderStatistics(const double *errors, size_t n)
      : errors(errors), n(n), counts(kBuckets + 1, 0) {
    for (size_t i = 0; i < n; ++i)
      ++counts[bucketOf(errors[i])];
    counts[kBuckets] = 0;
  }

  /// As the function above, of `included` elements, at least one.
  double quantile(size_t included, double q) {
    double position = q * double(included - 1);
    size_t index = static_cast<size_t>(position);
    double fraction = position - double(index);
    double low = at(index);
    if (index + 1 == included || fraction == 0)
      return low;
    double high = at(index + 1);
    return low + fraction * (high - low);
  }

private:
  /// Sign, exponent and six bits of the mantissa of a float.
  static constexpr int kShift = 17;
  static constexpr uint32_t kBuckets = 0x80000000u >> kShift;

  static uint32_t bucketOf(double error) {
    float narrow = static_cast<float>(error);
    uint32_t bits;
    __builtin_memcpy(&bits, &narrow, sizeof bits);
    return std::min(bits >> kShift, kBuckets);
  }

  /// The element that `index` smaller ones precede.
  double at(size_t index) {
    uint32_t bucket = 0;
    for (; index >= counts[bucket]; ++bucket)
      index -= counts[bucket];
    if (bucket != gathered) {
      gathered = bucket;
      members.clear();
      members.reserve(counts[bucket]);
      for (size_t i = 0; i < n; ++i)
        if (bucketOf(errors[i]) == bucket)
          members.push_back(errors[i]);
    }
    auto place = members.begin() + std::ptrdiff_t(index);
    std::nth_element(members.begin(), place, members.end());
    return *place;
  }

  const double *errors;
  size_t n;
  std::vector<uint32_t> counts;
  std::vector<double> members; // of bucket `gathered`
  uint32_t gathered = ~uint32_t(0);
};

} // namespace

CandidateMetrics evaluate(const Reference &reference, const float *rounded,
                          std::vector<double> &errors) {
  CandidateMetrics metrics{};
  size_t n = reference.products.size();
  errors.resize(n);
  bool hasGradient = !reference.gradient.empty();
  Sums sums;
  sumErrors(reference.products.data(), reference.bounds.data(), rounded,
            hasGradient ? reference.gradient.data() : nullptr, n, errors.data(),
            sums);
  metrics.beMedian = metrics.beP99 = metrics.beMax = kNone;
  metrics.sqnrDb = metrics.cosine = metrics.relVar = kNone;
  metrics.lossMse = metrics.lossShift = kNone;
  if (reference.included != 0) {
    OrderStatistics order(errors.data(), n);
    metrics.beMedian = order.quantile(reference.included, 0.5);
    metrics.beP99 = order.quantile(reference.included, 0.99);
    metrics.beMax = sums.largest;
  }
  // A result that is not finite has no signal in it.
  double noise = sums.noise == sums.noise ? sums.noise : kInfinite;
  double signal = reference.signal;
  if (signal > 0) {
    metrics.relVar = noise / signal;
    if (noise > 0)
      metrics.sqnrDb = 10 * std::log10(signal / noise);
    if (sums.other > 0)
      metrics.cosine = sums.inner / (std::sqrt(signal) * std::sqrt(sums.other));
  }
  if (hasGradient) {
    metrics.lossMse = reference.population * sums.lossMse;
    if (reference.isWhole)
      metrics.lossShift = sums.lossShift;
  }
  return metrics;
}

} // namespace mpt::metrics
