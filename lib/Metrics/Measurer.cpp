//===- Measurer.cpp - error of one product under pairs of formats ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The sample is cut into tasks, each some lhs panels of one batch element. A
// task takes k in blocks: it packs both operands, rounds them to every format
// that a candidate asks for, and adds to its tiles: product and bound in f64,
// one f32 product a candidate. Memory does not grow with k.
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include "OperandView.h"
#include "Tiles.h"

#include "Failure.h"
#include "mpt/Numerics/Philox.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <numeric>

namespace mpt::metrics {

namespace {

constexpr int64_t kBlock = 128;         // of k
constexpr int64_t kMostElements = 4096; // batch elements in a sample

/// Which elements of the result are computed.
struct Shape {
  int64_t rows, columns;        // of each batch element
  int64_t elements;             // batch elements, the first of a permutation
  int64_t lhsPanels, rhsPanels; // of each batch element

  int64_t tiles() const { return elements * lhsPanels * rhsPanels; }
  int64_t sampled() const { return elements * rows * columns; }
};

/// `wanted` of `size`, or all where that is 0.
int64_t part(int64_t wanted, int64_t size) {
  return wanted == 0 ? size : std::min(wanted, size);
}

Shape shapeOf(const mpt_product_view &p, const Sampling &sampling) {
  Shape shape;
  shape.elements = p.batch[0] * p.batch[1];
  shape.rows = part(sampling.rows, p.m);
  shape.columns = part(sampling.columns, p.n);
  if (shape.elements > 1 && sampling.rows != 0 && sampling.columns != 0) {
    // As many elements in all: a near-square part of each batch element.
    int64_t budget = sampling.rows * sampling.columns;
    shape.elements = std::min({shape.elements, kMostElements, budget});
    int64_t each = budget / shape.elements, side = 1;
    while ((side + 1) * (side + 1) <= each)
      ++side;
    shape.rows = std::min(side, p.m);
    shape.columns = std::min(each / shape.rows, p.n);
    shape.rows = std::min(each / shape.columns, p.m);
  }
  shape.lhsPanels = (shape.rows + kTileRows - 1) / kTileRows;
  shape.rhsPanels = (shape.columns + kTileColumns - 1) / kTileColumns;
  return shape;
}

/// Random numbers of one draw: Philox under the sampling's seed.
class Generator {
public:
  Generator(uint64_t seed, const Draw &draw)
      : stream{draw.product, draw.step, static_cast<uint32_t>(seed),
               static_cast<uint32_t>(seed >> 32)},
        group{draw.batch} {}

  /// A number below `bound`.
  int64_t below(int64_t bound) {
    uint64_t words[2];
    for (uint64_t &word : words)
      word = num::draw(index++, group, stream);
    uint64_t random = words[0] << 32 | words[1];
    return static_cast<int64_t>(
        (static_cast<unsigned __int128>(random) * uint64_t(bound)) >> 64);
  }

  /// `count` different numbers below `size`, ascending.
  std::vector<int64_t> choose(int64_t count, int64_t size) {
    std::vector<int64_t> all(static_cast<size_t>(size));
    std::iota(all.begin(), all.end(), int64_t(0));
    if (count < size) {
      for (int64_t i = 0; i < count; ++i)
        std::swap(all[i], all[i + below(size - i)]);
      all.resize(static_cast<size_t>(count));
      std::sort(all.begin(), all.end());
    }
    return all;
  }

private:
  num::Stream<uint32_t> stream;
  uint32_t group, index = 0;
};

/// One operand: its elements, statistics, and the formats that are asked of it.
struct Side {
  OperandView view;
  OperandStatistics statistics;
  std::vector<OperandFormat> formats;
  std::vector<float> scales;
  std::vector<Losses> losses;               // by format
  std::vector<std::vector<int64_t>> chosen; // by batch element of the sample

  size_t formatIndex(OperandFormat format) const {
    return static_cast<size_t>(
        std::find(formats.begin(), formats.end(), format) - formats.begin());
  }

  void measure(rt::ThreadPool &pool) {
    Chunks chunks(view);
    statistics = scanOperand(chunks, pool);
    for (OperandFormat format : formats) {
      float scale = format.isScaled()
                        ? num::computeScale(statistics.scaleAmax(),
                                            num::formatMax(format.storage))
                        : 1.0f;
      scales.push_back(scale);
      losses.push_back(
          countLosses(chunks, statistics, format.storage, scale, pool));
    }
  }
};

/// Packed panels of one block of k, of one operand.
struct Packed {
  std::vector<float> values;
  std::vector<std::vector<float>> rounded; // by format
  std::vector<double> wide, magnitudes;

  void resize(size_t size, size_t formats) {
    values.resize(size);
    wide.resize(size);
    magnitudes.resize(size);
    rounded.resize(formats);
    for (std::vector<float> &r : rounded)
      r.resize(size);
  }

  void fill(const Side &side, const float *data, const int64_t *index,
            int64_t count, int64_t first, int64_t k, int width) {
    const OperandView &v = side.view;
    packPanels(data + first * v.kStride, index, count, v.stride, k, v.kStride,
               width, values.data());
    size_t n = static_cast<size_t>((count + width - 1) / width * width * k);
    widen(values.data(), n, wide.data(), magnitudes.data());
    for (size_t f = 0; f < rounded.size(); ++f)
      roundTrip(side.formats[f].storage, values.data(), n, side.scales[f],
                rounded[f].data());
  }
};

struct Workspace {
  Packed lhs, rhs;
};

/// Lhs panels [first, first + count) of one batch element of the sample.
struct Task {
  int64_t element, first, count;
};

OperandView lhsView(const mpt_product_view &p) {
  return {p.lhs.data,
          p.m,
          p.lhs.rows,
          p.k,
          p.lhs.columns,
          {p.batch[0], p.batch[1]},
          {p.lhs.batch[0], p.lhs.batch[1]}};
}

OperandView rhsView(const mpt_product_view &p) {
  return {p.rhs.data,
          p.n,
          p.rhs.columns,
          p.k,
          p.rhs.rows,
          {p.batch[0], p.batch[1]},
          {p.rhs.batch[0], p.rhs.batch[1]}};
}

void checkView(const mpt_product_view &p) {
  auto positive = [](int64_t size, const char *what) {
    if (size < 1)
      rt::fail(MPT_ERROR_ARGUMENT, "product: ", what, " is ", size,
               ", expected at least 1");
  };
  positive(p.m, "m");
  positive(p.n, "n");
  positive(p.k, "k");
  positive(p.batch[0], "batch[0]");
  positive(p.batch[1], "batch[1]");
  for (const mpt_matrix_view *view : {&p.lhs, &p.rhs}) {
    const char *what = view == &p.lhs ? "lhs" : "rhs";
    if (!view->data)
      rt::fail(MPT_ERROR_ARGUMENT, "product: ", what, " has no data");
    for (int64_t stride :
         {view->rows, view->columns, view->batch[0], view->batch[1]})
      if (stride < 0)
        rt::fail(MPT_ERROR_ARGUMENT, "product: ", what, " has stride ", stride,
                 ", expected at least 0");
  }
}

} // namespace

struct Measurer::Impl {
  Impl(Sampling sampling, int threads) : sampling(sampling), pool(threads) {}

  void choose(const mpt_product_view &p, Draw draw);
  void prepare(const std::vector<Candidate> &candidates);
  void run(const Task &task, Workspace &w);
  void runTasks();
  ProductMetrics evaluate(const std::vector<Candidate> &candidates);

  Sampling sampling;
  rt::ThreadPool pool;

  // Of the product at hand; memory is kept from one to the next.
  Shape shape;
  std::vector<int64_t> elements; // batch elements of the sample
  Side lhs, rhs;
  std::vector<std::pair<size_t, size_t>> pairs; // formats, by candidate
  std::vector<double> products, bounds;
  std::vector<std::vector<float>> rounded; // tiles, by candidate
  std::vector<Workspace> workspaces;
  std::vector<Evaluation> evaluations;
};

void Measurer::Impl::choose(const mpt_product_view &p, Draw draw) {
  Generator generator(sampling.seed, draw);
  shape = shapeOf(p, sampling);
  elements = generator.choose(shape.elements, p.batch[0] * p.batch[1]);
  for (int64_t e = 0; e < shape.elements; ++e) {
    lhs.chosen.push_back(generator.choose(shape.rows, p.m));
    rhs.chosen.push_back(generator.choose(shape.columns, p.n));
  }
}

/// Formats of each operand and memory for tiles.
void Measurer::Impl::prepare(const std::vector<Candidate> &candidates) {
  auto indexIn = [](Side &side, OperandFormat format) {
    size_t index = side.formatIndex(format);
    if (index == side.formats.size())
      side.formats.push_back(format);
    return index;
  };
  pairs.clear();
  for (const Candidate &c : candidates)
    pairs.emplace_back(indexIn(lhs, c.lhs), indexIn(rhs, c.rhs));
  size_t size = static_cast<size_t>(shape.tiles()) * kTileElements;
  products.assign(size, 0.0);
  bounds.assign(size, 0.0);
  rounded.resize(std::max(rounded.size(), candidates.size()));
  for (size_t c = 0; c < candidates.size(); ++c)
    rounded[c].assign(size, 0.0f);
}

void Measurer::Impl::run(const Task &task, Workspace &w) {
  const std::vector<int64_t> &rows = lhs.chosen[task.element];
  const std::vector<int64_t> &columns = rhs.chosen[task.element];
  int64_t firstRow = task.first * kTileRows;
  int64_t rowCount = std::min(shape.rows - firstRow, task.count * kTileRows);
  const float *lhsData = lhs.view.element(elements[task.element]);
  const float *rhsData = rhs.view.element(elements[task.element]);
  // A task's tiles lie together: its panels, for each rhs panel.
  int64_t at = (task.element * shape.lhsPanels + task.first) * shape.rhsPanels *
               kTileElements;
  for (int64_t first = 0; first < lhs.view.k; first += kBlock) {
    int64_t k = std::min(kBlock, lhs.view.k - first);
    w.lhs.fill(lhs, lhsData, rows.data() + firstRow, rowCount, first, k,
               kTileRows);
    w.rhs.fill(rhs, rhsData, columns.data(), shape.columns, first, k,
               kTileColumns);
    multiplyWithBound(k, task.count, shape.rhsPanels, w.lhs.wide.data(),
                      w.lhs.magnitudes.data(), w.rhs.wide.data(),
                      w.rhs.magnitudes.data(), products.data() + at,
                      bounds.data() + at);
    for (size_t c = 0; c < pairs.size(); ++c)
      multiply(k, task.count, shape.rhsPanels,
               w.lhs.rounded[pairs[c].first].data(),
               w.rhs.rounded[pairs[c].second].data(), rounded[c].data() + at);
  }
}

void Measurer::Impl::runTasks() {
  int64_t perTask = shape.lhsPanels;
  if (shape.elements < pool.size())
    perTask = (shape.lhsPanels + pool.size() - 1) / pool.size();
  std::vector<Task> tasks;
  for (int64_t e = 0; e < shape.elements; ++e)
    for (int64_t i = 0; i < shape.lhsPanels; i += perTask)
      tasks.push_back({e, i, std::min(perTask, shape.lhsPanels - i)});

  workspaces.resize(static_cast<size_t>(pool.size()));
  std::vector<Workspace *> idle;
  int64_t block = std::min(kBlock, lhs.view.k);
  for (Workspace &w : workspaces) {
    w.lhs.resize(static_cast<size_t>(perTask * kTileRows * block),
                 lhs.formats.size());
    w.rhs.resize(static_cast<size_t>(shape.rhsPanels * kTileColumns * block),
                 rhs.formats.size());
    idle.push_back(&w);
  }
  std::mutex mutex;
  pool.forEach(static_cast<int64_t>(tasks.size()), 1, 4,
               [&](int64_t begin, int64_t end) {
                 std::unique_lock<std::mutex> lock(mutex);
                 Workspace *mine = idle.back();
                 idle.pop_back();
                 lock.unlock();
                 for (int64_t t = begin; t < end; ++t)
                   run(tasks[t], *mine);
                 lock.lock();
                 idle.push_back(mine);
               });
}

ProductMetrics
Measurer::Impl::evaluate(const std::vector<Candidate> &candidates) {
  ProductMetrics result;
  result.lhs = lhs.statistics;
  result.rhs = rhs.statistics;
  result.candidates.resize(candidates.size());
  size_t size = products.size(), sampled = size_t(shape.sampled());
  evaluations.resize(std::max(evaluations.size(), candidates.size()));
  for (Evaluation &evaluation : evaluations)
    evaluation.errors.resize(size);
  pool.forEach(static_cast<int64_t>(candidates.size()), 1, 4,
               [&](int64_t begin, int64_t end) {
                 for (int64_t c = begin; c < end; ++c)
                   evaluations[c].run(products.data(), bounds.data(),
                                      rounded[c].data(), size);
               });
  for (size_t c = 0; c < candidates.size(); ++c) {
    CandidateMetrics &metrics = result.candidates[c];
    metrics = evaluations[c].metrics;
    const Losses &l = lhs.losses[pairs[c].first];
    const Losses &r = rhs.losses[pairs[c].second];
    metrics.flushed[0] = l.flushed;
    metrics.flushed[1] = r.flushed;
    metrics.saturated[0] = l.saturated;
    metrics.saturated[1] = r.saturated;
    result.excluded = 1.0 - double(evaluations[c].included) / double(sampled);
  }
  return result;
}

Measurer::Measurer(Sampling sampling, int threads)
    : impl(std::make_unique<Impl>(sampling, threads)) {}
Measurer::~Measurer() = default;

ProductMetrics Measurer::measure(const mpt_product_view &product,
                                 const std::vector<Candidate> &candidates,
                                 Draw draw) {
  checkView(product);
  impl->lhs = Side();
  impl->rhs = Side();
  impl->lhs.view = lhsView(product);
  impl->rhs.view = rhsView(product);
  impl->choose(product, draw);
  impl->prepare(candidates);
  impl->lhs.measure(impl->pool);
  impl->rhs.measure(impl->pool);
  impl->runTasks();
  return impl->evaluate(candidates);
}

} // namespace mpt::metrics
