//===- MeasureC.cpp - C API to measure one product ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Options are checked, the product is measured by a Measurer of its own, and
// the metrics are written as JSON with all their digits.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/MeasureC.h"

#include "Boundary.h"
#include "Products.h"
#include "ThreadPool.h"
#include "mpt/Metrics/Metrics.h"
#include "mpt/Metrics/RoundedProduct.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

using namespace mpt;
using mpt::rt::fail;
using mpt::rt::guarded;
using mpt::rt::require;
using nlohmann::ordered_json;

namespace {

constexpr int64_t kMost = int64_t(1) << 40; // of other counts
constexpr int64_t kMostRows = 1 << 20; // of a sample; far more than is of use
constexpr int64_t kMostThreads = 1024;
constexpr int64_t kWorkspace = int64_t(64) << 20;

void check(int64_t value, const char *what, int64_t most) {
  if (value < 0 || value > most)
    fail(MPT_ERROR_ARGUMENT, "measure: ", what, " is ", value,
         ", expected 0 to ", most);
}

int threadsOf(const mpt_measure_options &options) {
  check(options.threads, "threads", kMostThreads);
  return options.threads ? options.threads : rt::availableCpus();
}

std::vector<float> historyOf(const float *values, int64_t count,
                             const char *what) {
  check(count, what, kMost);
  if (count != 0)
    require(values, what);
  return std::vector<float>(values, values + count);
}

metrics::GradientSide sideOf(const mpt_measure_options &options) {
  check(options.gradient_side, "gradient_side", MPT_GRADIENT_RHS);
  return static_cast<metrics::GradientSide>(options.gradient_side);
}

/// The options' candidates, draw and histories, for this product.
metrics::Request requestOf(const mpt_product_view &product,
                           const mpt_matrix_view *gradient,
                           const mpt_measure_options &options) {
  metrics::Request request;
  request.product = product;
  if (gradient) {
    require(gradient->data, "gradient");
    request.gradient = *gradient;
  }
  metrics::GradientSide side = sideOf(options);
  request.candidates = options.candidates
                           ? metrics::parseCandidates(options.candidates, side)
                           : metrics::defaultCandidates(side);
  request.draw = {options.product, options.step, options.batch, options.round};
  request.lhsHistory =
      historyOf(options.lhs_history, options.lhs_history_count, "lhs_history");
  request.rhsHistory =
      historyOf(options.rhs_history, options.rhs_history_count, "rhs_history");
  check(options.sketch, "sketch", kMost);
  request.sketch = static_cast<size_t>(options.sketch);
  return request;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

ordered_json spreadJson(const metrics::Spread &spread) {
  return {spread.min, spread.median, spread.max};
}

ordered_json exponentsJson(const metrics::OperandStatistics &statistics) {
  size_t begin = 0, end = statistics.exponents.size();
  while (end > 0 && statistics.exponents[end - 1] == 0)
    --end;
  while (begin < end && statistics.exponents[begin] == 0)
    ++begin;
  ordered_json counts = ordered_json::array();
  for (size_t e = begin; e < end; ++e)
    counts.push_back(statistics.exponents[e]);
  return {{"low", begin < end ? int64_t(begin) - 127 : 0}, {"counts", counts}};
}

ordered_json statisticsJson(const metrics::OperandStatistics &s) {
  return {{"elements", s.elements},
          {"zeros", s.zeros},
          {"nans", s.nans},
          {"infinities", s.infinities},
          {"amax", s.amax},
          {"min_nonzero", s.minNonzero},
          {"exponents", exponentsJson(s)},
          {"mean", s.mean},
          {"variance", s.variance},
          {"kurtosis", s.kurtosis},
          {"along", spreadJson(s.along)},
          {"across", spreadJson(s.across)}};
}

ordered_json candidateJson(const metrics::Candidate &candidate,
                           const metrics::CandidateMetrics &m, bool sketch) {
  ordered_json json = {{"lhs", metrics::formatText(candidate.lhs)},
                       {"rhs", metrics::formatText(candidate.rhs)},
                       {"be_median", m.beMedian},
                       {"be_p99", m.beP99},
                       {"be_max", m.beMax},
                       {"sqnr_db", m.sqnrDb},
                       {"cosine", m.cosine},
                       {"rel_var", m.relVar},
                       {"loss_mse", m.lossMse},
                       {"loss_shift", m.lossShift},
                       {"flushed", {m.flushed[0], m.flushed[1]}},
                       {"saturated", {m.saturated[0], m.saturated[1]}}};
  if (sketch)
    json["error"] = m.error;
  return json;
}

ordered_json productJson(const metrics::Request &request,
                         const metrics::ProductMetrics &m) {
  const mpt_product_view &p = request.product;
  ordered_json candidates = ordered_json::array();
  for (size_t c = 0; c < m.candidates.size(); ++c)
    candidates.push_back(candidateJson(request.candidates[c], m.candidates[c],
                                       request.sketch != 0));
  ordered_json json = {{"m", p.m},
                       {"n", p.n},
                       {"k", p.k},
                       {"batch", p.batch[0] * p.batch[1]},
                       {"lhs", statisticsJson(m.lhs)},
                       {"rhs", statisticsJson(m.rhs)},
                       {"excluded", m.excluded},
                       {"candidates", candidates}};
  if (request.sketch != 0)
    json["result"] = m.result;
  return json;
}

char *copyOf(const std::string &text) {
  auto *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (!copy)
    throw std::bad_alloc();
  return static_cast<char *>(std::memcpy(copy, text.c_str(), text.size() + 1));
}

/// A view of the C API as the runtime's products take it.
rt::Product productOf(const mpt_product_view &view) {
  auto operand = [](const mpt_matrix_view &v) {
    return rt::Operand<const float>{
        v.data, v.rows, v.columns, {v.batch[0], v.batch[1]}};
  };
  rt::Product product;
  product.m = view.m;
  product.n = view.n;
  product.k = view.k;
  product.batch[0] = view.batch[0];
  product.batch[1] = view.batch[1];
  product.lhs = operand(view.lhs);
  product.rhs = operand(view.rhs);
  product.result = {const_cast<float *>(view.result.data),
                    view.result.rows,
                    view.result.columns,
                    {view.result.batch[0], view.result.batch[1]}};
  return product;
}

} // namespace

mpt_status mpt_measure_product(const mpt_product_view *product,
                               const mpt_matrix_view *gradient,
                               const mpt_measure_options *options,
                               char **json) {
  return guarded([&] {
    require(product, "product");
    require(options, "options");
    require(json, "json");
    *json = nullptr;
    check(options->rows, "rows", kMostRows);
    check(options->columns, "columns", kMostRows);
    metrics::Request request = requestOf(*product, gradient, *options);
    metrics::Measurer measurer({options->rows, options->columns, options->seed},
                               threadsOf(*options));
    *json = copyOf(productJson(request, measurer.measure(request)).dump());
  });
}

void mpt_measure_free(char *json) { std::free(json); }

mpt_status mpt_rounded_product(const mpt_product_view *product,
                               const mpt_measure_options *options,
                               int64_t workspace) {
  return guarded([&] {
    require(product, "product");
    require(options, "options");
    require(product->result.data, "result");
    check(workspace, "workspace", kMost);
    metrics::Request request = requestOf(*product, nullptr, *options);
    if (request.candidates.size() != 1)
      fail(MPT_ERROR_ARGUMENT, "measure: ", request.candidates.size(),
           " candidates, expected 1");
    int threads = threadsOf(*options);
    rt::ThreadPool pool(threads);
    metrics::RoundedProduct rounded(threads,
                                    size_t(workspace ? workspace : kWorkspace));
    rounded.run(*product, request.candidates.front(), request.draw,
                request.lhsHistory, request.rhsHistory,
                [&](const mpt_product_view &part) {
                  rt::runProduct(productOf(part), rt::referenceGemm(), pool);
                });
  });
}
