//===- ProfileData.h - what a profile has gathered --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The numbers of a profile as plain data, on their way from the profiler to the
// metrics file: one value per batch for each metric, so that its mean comes
// with its spread, and what is only known once a point has ended.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_PROFILEDATA_H
#define MPT_LIB_METRICS_PROFILEDATA_H

#include "StepModel.h"
#include "mpt/Metrics/Sketch.h"

#include <functional>
#include <limits>

namespace mpt::metrics {

constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

/// Mean over batches, its standard deviation (n - 1), and the bootstrap 95 %
/// interval of the mean. Batches without a value (NaN) are left out; all are
/// NaN if none has one.
struct Summary {
  double mean = kNoValue, std = kNoValue, low = kNoValue, high = kNoValue;
};
Summary summarize(const std::vector<double> &values);

/// A number that takes all pairs of batches together: `statistic` of 0, 1, ...,
/// and the standard deviation and 95 % interval of what it is of batches drawn
/// with replacement. Draws without a value are left out; two batches have no
/// interval, fewer no value.
Summary bootstrapStatistic(
    size_t batches,
    const std::function<double(const std::vector<size_t> &choice)> &statistic);

/// Metrics with one value per batch. `persistent` has none: it comes last and
/// from all batches.
enum Column {
  BeMedian,
  BeP99,
  BeMax,
  RelVar,
  Cosine,
  LossMse,
  LossShift,
  FlushedLhs,
  FlushedRhs,
  SaturatedLhs,
  SaturatedRhs,
  NumColumns
};

struct TensorPoint {
  std::vector<double> amax, mean, variance, kurtosis; // by batch
  /// As a scale sees it, by batch: infinite where an element is not finite.
  std::vector<float> scaleAmax;
  double minNonzero = 0; // 0: all zero so far
  uint64_t elements = 0, zeros = 0, nonfinite = 0;
  std::array<uint64_t, 255> exponents{};
  std::vector<Spread> rows, columns; // by batch

  void add(const OperandStatistics &batch);
};

struct CandidatePoint {
  std::vector<double> values[NumColumns]; // by batch
  Summary persistent;                     // of a wgrad product

  void add(const CandidateMetrics &batch);
};

struct ProductPoint {
  std::vector<double> excluded;
  std::vector<CandidatePoint> candidates;
  /// |mean gradient|^2 over the gradient's noise, of what the product's error
  /// reaches; NaN where there is none.
  double signal = kNoValue;
};

struct ProbePoint {
  Summary relVar, noiseRatio, persistent, lossChange;
};

/// One candidate in a group of products.
struct ProbeModel {
  std::optional<Role> role; // none: all products
  std::optional<int> layer; // none: all layers
  std::string candidate;    // as asked for
  Candidate formats;        // rhs: the gradient's
  /// By index of a product; null: it runs as it is.
  std::vector<std::optional<Candidate>> candidates;
  size_t products = 0; // how many it changes
};

/// A point of training at which batches were measured. `tensors`, `products`
/// and `probes` are parallel to the profile's.
struct PointData {
  int64_t step = 0;
  size_t batches = 0;
  std::vector<double> loss;
  double gradientSignal = kNoValue, gradientNoise = kNoValue;
  std::vector<TensorPoint> tensors;
  std::vector<ProductPoint> products;
  std::vector<ProbePoint> probes;
};

struct ProfileData {
  std::string graphHash, engine;
  Sampling sampling;
  size_t sketch = 0; // coordinates, as asked for; 0: by the profiler
  std::vector<std::vector<Candidate>> candidates; // by product
  std::vector<ProbeModel> probes;
  std::vector<PointData> points;
};

/// metrics.json (docs/metrics.md) as text.
std::string metricsText(const StepModel &model, const ProfileData &data,
                        bool complete);
/// Writes beside `path`, then renames. Throws rt::Failure.
void writeMetricsFile(const std::string &path, const std::string &text);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_PROFILEDATA_H
