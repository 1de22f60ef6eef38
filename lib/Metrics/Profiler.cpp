//===- Profiler.cpp - metrics of a whole step, over batches ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A batch's values wait in `pending` until its step has ended, so that a step
// that fails or is interrupted leaves no half of a batch behind.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/Profiler.h"

#include "Failure.h"
#include "mpt/Numerics/Philox.h"

namespace mpt::metrics {

void OperandSeries::add(const OperandStatistics &batch) {
  amax.push_back(batch.amax);
  double least = batch.minNonzero;
  if (least != 0 && (minNonzero == 0 || least < minNonzero))
    minNonzero = least;
  elements += batch.elements;
  zeros += batch.zeros;
  nonfinite += batch.nonfinite();
  for (size_t e = 0; e < exponents.size(); ++e)
    exponents[e] += batch.exponents[e];
}

void CandidateSeries::add(const CandidateMetrics &batch) {
  beMedian.push_back(batch.beMedian);
  beP99.push_back(batch.beP99);
  beMax.push_back(batch.beMax);
  sqnrDb.push_back(batch.sqnrDb);
  cosine.push_back(batch.cosine);
  for (int side = 0; side < 2; ++side) {
    flushed[side].push_back(batch.flushed[side]);
    saturated[side].push_back(batch.saturated[side]);
  }
}

Profiler::Profiler(ProfilerOptions options, std::string graphHash,
                   std::string engine)
    : options(std::move(options)), graphHash(std::move(graphHash)),
      engine(std::move(engine)),
      measurer(this->options.sampling, this->options.threads) {}

void Profiler::beginPoint(int64_t step) {
  if (step < 0 || (!points.empty() && step <= points.back().step))
    rt::fail(MPT_ERROR_ARGUMENT, "profile: point at step ", step,
             ", expected one after step ",
             points.empty() ? -1 : points.back().step);
  discardBatch();
  points.push_back({step, 0});
  for (auto &[launch, series] : products)
    series.points.resize(points.size());
}

ProductSeries &Profiler::seriesOf(const mpt_product_view &p) {
  auto [it, isNew] = products.try_emplace(p.launch);
  ProductSeries &series = it->second;
  if (isNew) {
    series.name = p.name ? p.name : "";
    series.role = p.role ? p.role : "";
    series.m = p.m;
    series.n = p.n;
    series.k = p.k;
    series.batch = p.batch[0] * p.batch[1];
    series.candidates =
        options.candidates.empty()
            ? defaultCandidates(series.role == "fprop" ? GradientSide::None
                                                       : GradientSide::Rhs)
            : options.candidates;
    series.points.resize(points.size());
  }
  return series;
}

static void refuseOperand(const mpt_product_view &p, const char *side,
                          const OperandStatistics &s, const Point &point) {
  if (s.nonfinite() == 0)
    return;
  rt::fail(MPT_ERROR_STATE, "product '", p.name, "' (", p.role, "): ", side,
           " has ", s.nans, " NaN and ", s.infinities, " infinite of ",
           s.elements, " elements, at step ",
           point.step + int64_t(point.batches));
}

void Profiler::observe(const mpt_product_view &product) {
  if (points.empty())
    rt::fail(MPT_ERROR_STATE, "profile: no point has begun");
  ProductSeries &series = seriesOf(product);
  if (!pending.empty() && pending.front().series == &series)
    rt::fail(MPT_ERROR_STATE, "profile: the batch before has not been ended");
  const Point &point = points.back();
  Draw draw{num::nameId(series.role, num::nameId(series.name)),
            static_cast<uint32_t>(point.step),
            static_cast<uint32_t>(point.batches)};
  Request request;
  request.product = product;
  request.draw = draw;
  request.candidates = series.candidates;
  ProductMetrics metrics = measurer.measure(request);
  if (options.stopOnNonfinite) {
    refuseOperand(product, "lhs", metrics.lhs, point);
    refuseOperand(product, "rhs", metrics.rhs, point);
  }
  pending.push_back({&series, std::move(metrics)});
}

void Profiler::endBatch() {
  if (points.empty() || pending.empty())
    rt::fail(MPT_ERROR_STATE, "profile: no product was seen in this batch");
  for (const Pending &p : pending) {
    PointSeries &point = p.series->points.back();
    ++point.batches;
    point.lhs.add(p.metrics.lhs);
    point.rhs.add(p.metrics.rhs);
    point.excluded.push_back(p.metrics.excluded);
    point.candidates.resize(p.series->candidates.size());
    for (size_t c = 0; c < point.candidates.size(); ++c)
      point.candidates[c].add(p.metrics.candidates[c]);
  }
  pending.clear();
  ++points.back().batches;
}

} // namespace mpt::metrics
