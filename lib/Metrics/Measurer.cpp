//===- Measurer.cpp - error of one product under pairs of formats ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The sample is computed a block of the contraction at a time, for a few batch
// elements together: both operands' panels are rounded to every format that a
// candidate asks for, then the products are added to: product and bound in f64,
// one f32 product a candidate.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include "Sample.h"
#include "SampledOperand.h"
#include "Tiles.h"

#include "Failure.h"
#include "mpt/Metrics/Sketch.h"

#include <algorithm>

namespace mpt::metrics {

/// Rows and columns that are rounded together, of several batch elements.
static constexpr int64_t kVectorsTogether = 256;

struct Measurer::Impl {
  Impl(Sampling sampling, int threads) : sampling(sampling), pool(threads) {}

  void open(const Request &request);
  void gatherGradient(const mpt_matrix_view &gradient);
  void multiplyAll();
  void multiplyPanels(int64_t first, int64_t begin, int64_t end, bool add,
                      int64_t length);
  ProductMetrics evaluateAll(const Request &request);
  std::vector<float> sketchOf(const Request &request, const float *rounded);

  Sampling sampling;
  rt::ThreadPool pool;

  // Of the product at hand; memory is kept from one to the next. Results are
  // [batch element][row][column], padded to whole tiles.
  mpt_product_view product{};
  Sample sample;
  int64_t rows = 0, stride = 0; // padded
  SampledOperand lhs{true}, rhs{false};
  std::vector<std::pair<size_t, size_t>> pairs; // formats, by candidate
  Reference reference;
  std::vector<std::vector<float>> results; // by candidate
};

void Measurer::Impl::open(const Request &request) {
  product = request.product;
  lhs.open(lhsView(product), request.lhs, pool);
  rhs.open(rhsView(product), request.rhs, pool);
  pairs.clear();
  for (const Candidate &c : request.candidates)
    pairs.emplace_back(lhs.addFormat(c.lhs), rhs.addFormat(c.rhs));
  sample = drawSample(product, sampling, request.draw);
  lhs.prepare(sample.elements, sample.rows, request.lhsHistory, request.draw,
              sampling.seed, pool);
  rhs.prepare(sample.elements, sample.columns, request.rhsHistory, request.draw,
              sampling.seed, pool);
  rows = lhs.panels() * kTileRows;
  stride = rhs.panels() * kTileColumns;
  size_t size = sample.elements.size() * size_t(rows * stride);
  reference.products.resize(size);
  reference.bounds.resize(size);
  reference.gradient.clear();
  double population = double(product.m) * double(product.n) *
                      double(product.batch[0]) * double(product.batch[1]);
  reference.isWhole = double(sample.size()) == population;
  reference.population = population / double(sample.size());
  results.resize(std::max(results.size(), pairs.size()));
  for (size_t c = 0; c < pairs.size(); ++c)
    results[c].resize(size);
}

/// The gradient's sampled elements, laid out as the results.
void Measurer::Impl::gatherGradient(const mpt_matrix_view &gradient) {
  reference.gradient.assign(reference.products.size(), 0.0f);
  OperandView view{gradient.data,
                   product.m,
                   gradient.rows,
                   product.n,
                   gradient.columns,
                   {product.batch[0], product.batch[1]},
                   {gradient.batch[0], gradient.batch[1]}};
  int64_t each = sample.rowCount();
  pool.forEach(int64_t(sample.elements.size()) * each, 1, 4,
               [&](int64_t begin, int64_t end) {
                 for (int64_t unit = begin; unit < end; ++unit) {
                   size_t e = size_t(unit / each), i = size_t(unit % each);
                   const float *from = view.element(sample.elements[e]) +
                                       sample.rows[e][i] * view.stride;
                   float *to = reference.gradient.data() +
                               (int64_t(e) * rows + int64_t(i)) * stride;
                   for (int64_t column : sample.columns[e])
                     *to++ = from[column * view.kStride];
                 }
               });
}

void Measurer::Impl::multiplyAll() {
  int64_t elements = int64_t(sample.elements.size());
  int64_t together = std::max<int64_t>(
      1, kVectorsTogether / std::max(sample.rowCount(), sample.columnCount()));
  together = std::min(together, elements);
  lhs.reserve(together);
  rhs.reserve(together);
  for (int64_t first = 0; first < elements; first += together) {
    int64_t count = std::min(together, elements - first);
    for (int64_t from = 0; from < product.k; from += kBlock) {
      int64_t length = std::min(kBlock, product.k - from);
      int64_t lhsPanels = count * lhs.panels();
      int64_t allPanels = lhsPanels + count * rhs.panels();
      pool.forEach(allPanels, 1, 4, [&](int64_t begin, int64_t end) {
        if (begin < lhsPanels)
          lhs.fill(first, begin, std::min(end, lhsPanels), from, length);
        if (end > lhsPanels)
          rhs.fill(first, std::max<int64_t>(begin - lhsPanels, 0),
                   end - lhsPanels, from, length);
      });
      pool.forEach(lhsPanels, 1, 4, [&](int64_t begin, int64_t end) {
        multiplyPanels(first, begin, end, from != 0, length);
      });
    }
  }
}

/// Lhs panels [begin, end), counted over the batch elements from `first` on,
/// with all rhs panels of their batch element.
void Measurer::Impl::multiplyPanels(int64_t first, int64_t begin, int64_t end,
                                    bool add, int64_t length) {
  while (begin < end) {
    int64_t element = begin / lhs.panels(), panel = begin % lhs.panels();
    int64_t count = std::min(end - begin, lhs.panels() - panel);
    int64_t l = begin * length * kTileRows;
    int64_t r = element * rhs.panels() * length * kTileColumns;
    int64_t at = ((first + element) * rows + panel * kTileRows) * stride;
    multiplyWithBound(length, count, rhs.panels(), lhs.wide.data() + l,
                      lhs.magnitudes.data() + l, rhs.wide.data() + r,
                      rhs.magnitudes.data() + r, add,
                      reference.products.data() + at,
                      reference.bounds.data() + at, stride);
    for (size_t c = 0; c < pairs.size(); ++c)
      multiply(length, count, rhs.panels(),
               lhs.rounded[pairs[c].first].data() + l,
               rhs.rounded[pairs[c].second].data() + r, add,
               results[c].data() + at, stride);
    begin += count;
  }
}

/// Sketch of rounded - exact, or of the exact product if `rounded` is null, in
/// the order of the sample.
std::vector<float> Measurer::Impl::sketchOf(const Request &request,
                                            const float *rounded) {
  std::vector<float> values;
  values.reserve(size_t(sample.size()));
  for (size_t e = 0; e < sample.elements.size(); ++e)
    for (int64_t i = 0; i < sample.rowCount(); ++i) {
      size_t at = size_t((int64_t(e) * rows + i) * stride);
      for (size_t end = at + size_t(sample.columnCount()); at < end; ++at) {
        bool included = reference.bounds[at] > 0;
        double y = reference.products[at];
        double value = !included ? 0 : rounded ? double(rounded[at]) - y : y;
        values.push_back(float(value));
      }
    }
  return sketch(values.data(), values.size(), request.sketch, sampling.seed);
}

ProductMetrics Measurer::Impl::evaluateAll(const Request &request) {
  ProductMetrics result;
  result.lhs = lhs.statistics;
  result.rhs = rhs.statistics;
  result.candidates.resize(pairs.size());
  reference.prepare();
  result.excluded = 1.0 - double(reference.included) / double(sample.size());
  if (request.sketch != 0)
    result.result = sketchOf(request, nullptr);
  pool.forEach(int64_t(pairs.size()), 1, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> errors;
    for (size_t c = size_t(begin); c < size_t(end); ++c) {
      CandidateMetrics &metrics = result.candidates[c];
      metrics = evaluate(reference, results[c].data(), errors);
      if (request.sketch != 0)
        metrics.error = sketchOf(request, results[c].data());
      const Losses losses[2] = {lhs.losses(pairs[c].first),
                                rhs.losses(pairs[c].second)};
      for (int side = 0; side < 2; ++side) {
        metrics.flushed[side] = losses[side].flushed;
        metrics.saturated[side] = losses[side].saturated;
      }
    }
  });
  return result;
}

Measurer::Measurer(Sampling sampling, int threads)
    : impl(std::make_unique<Impl>(sampling, threads)) {}
Measurer::~Measurer() = default;

ProductMetrics Measurer::measure(const Request &request) {
  checkView(request.product);
  for (int64_t stride : {request.gradient.rows, request.gradient.columns,
                         request.gradient.batch[0], request.gradient.batch[1]})
    if (request.gradient.data && stride < 0)
      rt::fail(MPT_ERROR_ARGUMENT, "product: the gradient has stride ", stride,
               ", expected at least 0");
  impl->open(request);
  if (request.gradient.data)
    impl->gatherGradient(request.gradient);
  impl->multiplyAll();
  return impl->evaluateAll(request);
}

OperandStatistics Measurer::scan(const mpt_product_view &product,
                                 GradientSide operand) {
  checkView(product);
  if (operand == GradientSide::None)
    rt::fail(MPT_ERROR_ARGUMENT, "scan: no operand, expected lhs or rhs");
  return scanOperand(operand == GradientSide::Lhs ? lhsView(product)
                                                  : rhsView(product),
                     impl->pool);
}

} // namespace mpt::metrics
