//===- Profiler.cpp - metrics of a whole step, over batches ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A batch's values wait in `pending` until it has ended, so that one that fails
// or is interrupted leaves no half of a batch behind. Sketches wait for the end
// of their point, where they become inner products.
//
//===----------------------------------------------------------------------===//

#include "Profiler.h"

#include "Failure.h"
#include "mpt/Numerics/Philox.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace mpt::metrics {

namespace {

/// Floats that all gradients' sketches of a point may take together. Most and
/// least coordinates of one; most of a product's errors in all batches.
constexpr size_t kGradientFloats = size_t(1) << 24;
constexpr size_t kMostCoordinates = size_t(1) << 15, kLeastCoordinates = 512;

constexpr uint64_t kSketchSeed = 0x6d70745f736b6574; // any number

mpt_matrix_view viewOf(const rt::Package &package, const rt::Matrix &m) {
  const char *base = package.address({m.buffer, 0});
  return {reinterpret_cast<const float *>(base) + m.offset,
          m.rows,
          m.columns,
          {m.batch[0], m.batch[1]}};
}

rt::Product productOf(const mpt_product_view &view) {
  auto operand = [](auto &to, const mpt_matrix_view &from, auto *data) {
    to.data = data;
    to.rows = from.rows;
    to.columns = from.columns;
    std::copy_n(from.batch, 2, to.batch);
  };
  rt::Product product;
  product.m = view.m;
  product.n = view.n;
  product.k = view.k;
  std::copy_n(view.batch, 2, product.batch);
  operand(product.lhs, view.lhs, view.lhs.data);
  operand(product.rhs, view.rhs, view.rhs.data);
  operand(product.result, view.result, const_cast<float *>(view.result.data));
  return product;
}

double squaredNorm(const std::vector<float> &values) {
  double sum = 0;
  for (float value : values)
    sum += double(value) * value;
  return sum;
}

Gram gramOf(const PointSketches::Batches &batches) {
  std::vector<const std::vector<float> *> vectors;
  for (const std::vector<float> &batch : batches)
    vectors.push_back(&batch);
  return Gram(vectors);
}

/// part / whole; no value where the whole is nothing (one batch has no noise,
/// and leaves no more than rounding).
double ratioOf(double part, double whole) {
  return whole > 0 ? part / whole : kNoValue;
}

} // namespace

//===----------------------------------------------------------------------===//
// Series
//===----------------------------------------------------------------------===//

void TensorPoint::add(const OperandStatistics &batch) {
  amax.push_back(batch.amax);
  scaleAmax.push_back(batch.scaleAmax());
  mean.push_back(batch.mean);
  variance.push_back(batch.variance);
  kurtosis.push_back(batch.kurtosis);
  rows.push_back(batch.along);
  columns.push_back(batch.across);
  double least = batch.minNonzero;
  if (least != 0 && (minNonzero == 0 || least < minNonzero))
    minNonzero = least;
  elements += batch.elements;
  zeros += batch.zeros;
  nonfinite += batch.nonfinite();
  for (size_t e = 0; e < exponents.size(); ++e)
    exponents[e] += batch.exponents[e];
}

void CandidatePoint::add(const CandidateMetrics &batch) {
  const double all[NumColumns] = {
      batch.beMedian,   batch.beP99,        batch.beMax,       batch.relVar,
      batch.cosine,     batch.lossMse,      batch.lossShift,   batch.flushed[0],
      batch.flushed[1], batch.saturated[0], batch.saturated[1]};
  for (int column = 0; column < NumColumns; ++column)
    values[column].push_back(all[column]);
}

//===----------------------------------------------------------------------===//
// Profiler
//===----------------------------------------------------------------------===//

Profiler::Profiler(rt::Package &package, ProfilerOptions given)
    : package(package), options(std::move(given)),
      model(package.manifest(), package.gradientPlan().runs),
      measurer(options.sampling, options.threads), rounder(options.threads) {
  const rt::Manifest &manifest = package.manifest();
  data.graphHash = manifest.graphHash;
  data.engine = rt::engineName(manifest.engine);
  data.sampling = options.sampling;
  std::vector<size_t> launches;
  for (const ProductModel &product : model.products()) {
    data.candidates.push_back(
        options.candidates.empty()
            ? defaultCandidates(product.gradientSide)
            : parseCandidates(options.candidates, product.gradientSide));
    if (product.role == Role::Dgrad)
      launches.push_back(product.launch);
  }
  std::vector<std::vector<size_t>> found =
      rt::gradientsReachedFrom(manifest, launches);
  reached.resize(model.products().size());
  for (size_t i = 0, next = 0; i < reached.size(); ++i)
    if (model.products()[i].role == Role::Dgrad)
      reached[i] = std::move(found[next++]);
  if (!options.probes.empty())
    data.probes = parseProbes(options.probes, model);
  chooseSketches();
}

/// Sizes of sketches: what memory allows, the same for gradients with probes
/// and without, since their difference is taken.
void Profiler::chooseSketches() {
  data.sketch = options.sketch;
  if (options.sketch != 0) {
    gradientSketch = errorSketch = options.sketch;
    return;
  }
  size_t vectors = package.manifest().gradients.size() *
                   (data.probes.size() + 1) * options.batches;
  gradientSketch = std::clamp(kGradientFloats / std::max<size_t>(vectors, 1),
                              kLeastCoordinates, kMostCoordinates);
  errorSketch = std::clamp(kMostCoordinates / options.batches,
                           kLeastCoordinates, kMostCoordinates);
}

void Profiler::beginPoint(int64_t step) {
  if (isOpen)
    rt::fail(MPT_ERROR_STATE, "profile: the point before has not ended");
  int64_t last = data.points.empty() ? -1 : data.points.back().step;
  if (step <= last)
    rt::fail(MPT_ERROR_STATE, "profile: point at step ", step,
             ", expected one after step ", last);
  discardBatch();
  data.points.emplace_back();
  point().step = step;
  point().tensors.resize(model.tensors().size());
  point().products.resize(model.products().size());
  parameters.assign(model.tensors().size(), std::nullopt);
  sketches = {};
  isOpen = true;
}

void Profiler::discardBatch() { pending = {}; }

double Profiler::loss() const {
  float value;
  std::memcpy(&value, package.data(package.result("loss")), sizeof value);
  return value;
}

std::vector<std::vector<float>> Profiler::sketchGradients() const {
  const rt::Manifest &manifest = package.manifest();
  std::vector<std::vector<float>> result;
  for (size_t i = 0; i < manifest.gradients.size(); ++i) {
    const rt::Tensor &parameter =
        manifest.arguments[manifest.gradients[i].parameter];
    result.push_back(sketch(package.gradient(i), size_t(parameter.bytes) / 4,
                            gradientSketch, kSketchSeed));
  }
  return result;
}

void Profiler::measure(int64_t rngStep) {
  if (!isOpen)
    rt::fail(MPT_ERROR_STATE, "profile: no point has begun");
  if (point().batches == options.batches)
    rt::fail(MPT_ERROR_STATE, "profile: more than ", options.batches,
             " batches at a point");
  discardBatch();
  pending.tensors = parameters;
  failure = nullptr;
  auto observer = [](const mpt_product_view *seen, void *user) {
    auto *self = static_cast<Profiler *>(user);
    try {
      self->observe(*seen);
      return 0;
    } catch (...) {
      self->failure = std::current_exception();
      return 1;
    }
  };
  package.setObserver(observer, this);
  try {
    package.runGradient(rngStep);
  } catch (...) {
    package.setObserver(nullptr, nullptr);
    discardBatch();
    if (failure)
      std::rethrow_exception(failure);
    throw;
  }
  package.setObserver(nullptr, nullptr);
  pending.loss = loss();
  pending.gradients = sketchGradients();
  pending.isMeasured = true;
}

void Profiler::observe(const mpt_product_view &seen) {
  for (size_t index : model.measuredAfter(static_cast<size_t>(seen.launch)))
    measureProduct(index);
}

mpt_product_view Profiler::viewOf(const ProductModel &product) const {
  const rt::Launch &launch = package.manifest().launches[product.launch];
  mpt_product_view view = {};
  view.name = launch.name.c_str();
  view.role = launch.role.c_str();
  view.launch = static_cast<int64_t>(product.launch);
  view.m = launch.m;
  view.n = launch.n;
  view.k = launch.k;
  std::copy_n(launch.batch, 2, view.batch);
  view.lhs = metrics::viewOf(package, launch.lhs);
  view.rhs = metrics::viewOf(package, launch.rhs);
  view.result = metrics::viewOf(package, launch.product);
  return view;
}

/// A wgrad product looks at the same elements in all batches of a point, since
/// its error is followed from batch to batch.
Draw Profiler::drawOf(const ProductModel &product) const {
  uint32_t batch = static_cast<uint32_t>(data.points.back().batches);
  Draw draw;
  draw.product = num::nameId(roleName(product.role), num::nameId(product.name));
  draw.step = static_cast<uint32_t>(data.points.back().step);
  draw.batch = product.role == Role::Wgrad ? 0 : batch;
  draw.round = batch;
  return draw;
}

const std::vector<float> &Profiler::amaxHistory(size_t tensor) const {
  return data.points.back().tensors[tensor].scaleAmax;
}

void Profiler::refuse(const TensorModel &tensor,
                      const OperandStatistics &s) const {
  if (s.nonfinite() == 0)
    return;
  const PointData &point = data.points.back();
  rt::fail(MPT_ERROR_STATE, "tensor '", tensor.name, "' has ", s.nans,
           " NaN and ", s.infinities, " infinite of ", s.elements,
           " elements, in batch ", point.batches, " of the point at step ",
           point.step);
}

const OperandStatistics &Profiler::scan(size_t index) {
  std::optional<OperandStatistics> &statistics = pending.tensors[index];
  if (!statistics) {
    const TensorModel &tensor = model.tensors()[index];
    mpt_product_view view = {};
    view.m = tensor.rows;
    view.k = tensor.columns;
    view.n = 1;
    std::copy_n(tensor.batch, 2, view.batch);
    view.lhs = view.rhs = metrics::viewOf(package, tensor.matrix);
    statistics = measurer.scan(view, GradientSide::Lhs);
    if (options.stopOnNonfinite)
      refuse(tensor, *statistics);
  }
  return *statistics;
}

void Profiler::measureProduct(size_t index) {
  const ProductModel &product = model.products()[index];
  Request request;
  request.product = viewOf(product);
  request.draw = drawOf(product);
  request.candidates = data.candidates[index];
  request.lhs = &scan(product.lhs);
  request.rhs = &scan(product.rhs);
  if (product.gradient) {
    scan(*product.gradient);
    request.gradient = metrics::viewOf(package, product.gradientMatrix);
  }
  request.lhsHistory = amaxHistory(product.lhs);
  request.rhsHistory = amaxHistory(product.rhs);
  if (product.role == Role::Wgrad)
    request.sketch = errorSketch;
  pending.products[index] = measurer.measure(request);
}

void Profiler::probe(size_t index, int64_t rngStep) {
  if (!pending.isMeasured)
    rt::fail(MPT_ERROR_STATE, "profile: a probe needs a batch that has been "
                              "measured");
  if (index >= data.probes.size())
    rt::fail(MPT_ERROR_ARGUMENT, "profile: probe ", index, ", expected below ",
             data.probes.size());
  const ProbeModel &probe = data.probes[index];
  std::map<size_t, size_t> products; // by launch
  for (size_t i = 0; i < probe.candidates.size(); ++i)
    if (probe.candidates[i])
      products[model.products()[i].launch] = i;

  auto multiply = [&](const mpt_product_view &view) {
    package.runProduct(productOf(view));
  };
  package.setProductRunner([&](const rt::BoundLaunch &launch, size_t at) {
    auto it = products.find(at);
    if (it == products.end())
      return package.runProduct(launch.product);
    const ProductModel &product = model.products()[it->second];
    rounder.run(viewOf(product), *probe.candidates[it->second], drawOf(product),
                amaxHistory(product.lhs), amaxHistory(product.rhs), multiply);
  });
  try {
    package.runGradient(rngStep);
  } catch (...) {
    package.setProductRunner(nullptr);
    throw;
  }
  package.setProductRunner(nullptr);

  Pending::Probe found;
  found.lossChange = loss() - pending.loss;
  std::vector<std::vector<float>> gradients = sketchGradients();
  double signal = 0;
  for (size_t g = 0; g < gradients.size(); ++g) {
    for (size_t i = 0; i < gradients[g].size(); ++i)
      found.errors.push_back(gradients[g][i] - pending.gradients[g][i]);
    signal += squaredNorm(pending.gradients[g]);
  }
  found.relVar = ratioOf(squaredNorm(found.errors), signal);
  pending.probes[index] = std::move(found);
}

void Profiler::endBatch() {
  if (!pending.isMeasured || pending.probes.size() != data.probes.size())
    rt::fail(MPT_ERROR_STATE, "profile: the batch has not been measured");
  PointData &p = point();
  for (size_t t = 0; t < pending.tensors.size(); ++t) {
    if (!pending.tensors[t])
      continue;
    p.tensors[t].add(*pending.tensors[t]);
    if (model.tensors()[t].isParameter)
      parameters[t] = pending.tensors[t];
  }
  for (auto &[index, metrics] : pending.products) {
    ProductPoint &product = p.products[index];
    product.excluded.push_back(metrics.excluded);
    product.candidates.resize(metrics.candidates.size());
    for (size_t c = 0; c < metrics.candidates.size(); ++c)
      product.candidates[c].add(metrics.candidates[c]);
    if (model.products()[index].role != Role::Wgrad)
      continue;
    PointSketches::Product &kept = sketches.products[index];
    kept.result.push_back(std::move(metrics.result));
    kept.errors.resize(metrics.candidates.size());
    for (size_t c = 0; c < metrics.candidates.size(); ++c)
      kept.errors[c].push_back(std::move(metrics.candidates[c].error));
  }
  sketches.gradients.resize(pending.gradients.size());
  for (size_t g = 0; g < pending.gradients.size(); ++g)
    sketches.gradients[g].push_back(std::move(pending.gradients[g]));
  sketches.probes.resize(data.probes.size());
  for (auto &[index, found] : pending.probes) {
    sketches.probes[index].errors.push_back(std::move(found.errors));
    sketches.probes[index].relVar.push_back(found.relVar);
    sketches.probes[index].lossChange.push_back(found.lossChange);
  }
  p.loss.push_back(pending.loss);
  ++p.batches;
  discardBatch();
}

//===----------------------------------------------------------------------===//
// The end of a point
//===----------------------------------------------------------------------===//

namespace {

/// Error that persists over batches, of the squared norm of the mean gradient.
Summary persistentOf(const Gram &errors, const Gram &gradient) {
  return bootstrapStatistic(errors.size(),
                            [&](const std::vector<size_t> &choice) {
                              return errors.resample(choice).persistent() /
                                     gradient.resample(choice).squaredMean();
                            });
}

/// Squared distances of the batches' vectors from their mean, over `noise`.
std::vector<double> distancesOf(const Gram &gram, double noise) {
  std::vector<double> distances;
  for (size_t b = 0; b < gram.size(); ++b) {
    double withMean = 0;
    for (size_t other = 0; other < gram.size(); ++other)
      withMean += gram.at(b, other) / double(gram.size());
    double distance = gram.at(b, b) - 2 * withMean + gram.squaredMean();
    distances.push_back(ratioOf(distance, noise));
  }
  return distances;
}

/// The Gram matrix of vectors put end to end.
Gram gramOfAll(const std::vector<PointSketches::Batches> &parts,
               size_t batches) {
  PointSketches::Batches joined(batches);
  for (const PointSketches::Batches &part : parts)
    for (size_t b = 0; b < batches; ++b)
      joined[b].insert(joined[b].end(), part[b].begin(), part[b].end());
  return gramOf(joined);
}

} // namespace

void Profiler::endPoint() {
  if (!isOpen)
    return;
  isOpen = false;
  discardBatch();
  if (point().batches == 0) {
    data.points.pop_back();
    return;
  }
  summarizeGradients();
  for (auto &[index, kept] : sketches.products) {
    ProductPoint &product = point().products[index];
    Gram result = gramOf(kept.result);
    product.signal = ratioOf(result.squaredMean(), result.variance());
    for (size_t c = 0; c < kept.errors.size(); ++c)
      product.candidates[c].persistent =
          persistentOf(gramOf(kept.errors[c]), result);
  }
  summarizeProbes();
  sketches = {};
}

/// Signal and noise of the whole gradient, and of what a dgrad product reaches.
/// One batch has no noise, so that ratios have no value.
void Profiler::summarizeGradients() {
  std::vector<double> signal, noise; // by gradient
  for (const PointSketches::Batches &batches : sketches.gradients) {
    Gram gram = gramOf(batches);
    signal.push_back(gram.squaredMean());
    noise.push_back(gram.variance());
  }
  if (point().batches > 1) {
    point().gradientSignal = std::accumulate(signal.begin(), signal.end(), 0.0);
    point().gradientNoise = std::accumulate(noise.begin(), noise.end(), 0.0);
  }
  for (size_t i = 0; i < reached.size(); ++i) {
    double signals = 0, noises = 0;
    for (size_t g : reached[i]) {
      signals += signal[g];
      noises += noise[g];
    }
    point().products[i].signal = ratioOf(signals, noises);
  }
}

void Profiler::summarizeProbes() {
  if (sketches.probes.empty())
    return;
  Gram whole = gramOfAll(sketches.gradients, point().batches);
  for (const PointSketches::Probe &probe : sketches.probes) {
    Gram errors = gramOf(probe.errors);
    ProbePoint found;
    found.relVar = summarize(probe.relVar);
    found.lossChange = summarize(probe.lossChange);
    found.persistent = persistentOf(errors, whole);
    found.noiseRatio = summarize(distancesOf(errors, whole.variance()));
    point().probes.push_back(found);
  }
}

} // namespace mpt::metrics
