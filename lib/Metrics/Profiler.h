//===- Profiler.h - metrics of a whole step, over batches -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Collects what Measurer says of every product, batch by batch and point by
// point, and writes it as metrics.json. One value per batch is kept for each
// metric, so that its mean comes with its spread.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_METRICS_PROFILER_H
#define MPT_METRICS_PROFILER_H

#include "mpt/Metrics/Metrics.h"

#include <map>

namespace mpt::metrics {

struct ProfilerOptions {
  Sampling sampling;
  int threads = 1;
  bool stopOnNonfinite = false;
  std::vector<Candidate> candidates; // empty: by role
};

/// One operand over the batches of a point.
struct OperandSeries {
  std::vector<double> amax;
  double minNonzero = 0; // 0: all zero so far
  uint64_t elements = 0, zeros = 0, nonfinite = 0;
  std::array<uint64_t, 255> exponents{};

  void add(const OperandStatistics &batch);
};

/// One candidate over the batches of a point: one value per batch.
struct CandidateSeries {
  std::vector<double> beMedian, beP99, beMax, sqnrDb, cosine;
  std::vector<double> flushed[2], saturated[2];

  void add(const CandidateMetrics &batch);
};

struct PointSeries {
  size_t batches = 0;
  OperandSeries lhs, rhs;
  std::vector<double> excluded;
  std::vector<CandidateSeries> candidates;
};

struct ProductSeries {
  std::string name, role;
  int64_t m = 0, n = 0, k = 0, batch = 1;
  std::vector<Candidate> candidates;
  std::vector<PointSeries> points; // as Profiler's
};

/// A point of training at which batches were measured.
struct Point {
  int64_t step = 0;
  size_t batches = 0;
};

class Profiler {
public:
  Profiler(ProfilerOptions options, std::string graphHash, std::string engine);

  void beginPoint(int64_t step);
  /// Measures one product of the current batch. Throws rt::Failure.
  void observe(const mpt_product_view &product);
  void endBatch();
  void discardBatch() { pending.clear(); }

  /// metrics.json as text.
  std::string text(bool complete) const;
  void write(const std::string &path, bool complete) const;
  /// The entry of the first product.
  std::string productText() const;

private:
  struct Pending {
    ProductSeries *series;
    ProductMetrics metrics;
  };
  ProductSeries &seriesOf(const mpt_product_view &product);

  ProfilerOptions options;
  std::string graphHash, engine;
  Measurer measurer;
  std::vector<Point> points;
  std::map<int64_t, ProductSeries> products; // by launch: in the step's order
  std::vector<Pending> pending;              // of the batch that is running
};

/// Mean over batches, its standard deviation (n - 1), and the bootstrap 95 %
/// interval of the mean. Batches without a value (NaN) are left out; all are
/// NaN if none has one.
struct Summary {
  double mean, std, low, high;
};
Summary summarize(const std::vector<double> &values);

} // namespace mpt::metrics

#endif // MPT_METRICS_PROFILER_H
