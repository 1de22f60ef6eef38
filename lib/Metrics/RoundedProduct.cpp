//===- RoundedProduct.cpp - a product with rounded operands ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Operands are rounded into copies that keep the order of the original's
// memory, a strip of vectors or one vector at a time, so that nothing is
// transposed.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/RoundedProduct.h"

#include "Rounding.h"
#include "Scales.h"

#include <algorithm>

namespace mpt::metrics {

namespace {

constexpr int64_t kRun = 128;   // of the contraction, of a strip
constexpr int64_t kStrip = 64;  // vectors side by side
constexpr int64_t kLine = 4096; // of a vector

/// Batch elements of a part: one, or all.
struct Elements {
  int64_t first;
  bool all;
};

/// One operand, its scales, and its copy.
class RoundedOperand {
public:
  RoundedOperand(bool isLhs, const OperandView &view,
                 const OperandFormat &format, const Draw &draw,
                 const std::vector<float> &history, rt::ThreadPool &pool)
      : isLhs(isLhs), view(view), format(format), pool(pool),
        stream(roundingStream(format, isLhs, draw, 0)),
        sideBySide(view.stride == 1 && view.kStride != 1),
        isStochastic(format.rounding == Rounding::Stochastic) {
    checkFormat(format);
    isCopied = format.storage != num::Format::F32 ||
               (view.stride != 1 && view.kStride != 1);
    for (int d = 0; d < 2; ++d) {
      bool shared = view.batchStride[d] == 0;
      groupBatch[d] = shared ? 1 : view.batch[d];
      copyBatch[d] = shared && !isStochastic ? 1 : view.batch[d];
    }
    findScales(history);
  }

  /// Elements of the copy of vectors [0, count).
  int64_t copySize(Elements elements, int64_t count) const {
    if (!isCopied)
      return 0;
    return count * view.k *
           (elements.all ? copyBatch[0] * copyBatch[1] : int64_t(1));
  }

  /// The rounded vectors [first, first + count) as an operand of a product.
  mpt_matrix_view round(Elements elements, int64_t first, int64_t count,
                        std::vector<float> &copy) const;

private:
  void findScales(const std::vector<float> &history);
  float scaleAt(int64_t element, int64_t vector, int64_t p) const;
  mpt_matrix_view matrix(const float *data, int64_t stride, int64_t kStride,
                         int64_t batch0, int64_t batch1) const;
  void roundStrip(int64_t element, int64_t first, int64_t count, float *out,
                  int64_t outStride) const;
  void roundOne(int64_t element, int64_t vector, float *out) const;

  bool isLhs;
  OperandView view;
  OperandFormat format;
  rt::ThreadPool &pool;
  num::Stream<uint32_t> stream;
  bool sideBySide; // vectors lie side by side in memory
  bool isStochastic, isCopied;
  int64_t groupBatch[2], copyBatch[2];
  float scale = 1;  // of the whole operand
  GroupAmax groups; // of the other granularities
};

void RoundedOperand::findScales(const std::vector<float> &history) {
  OperandView once = view;
  for (int d = 0; d < 2; ++d)
    once.batch[d] = groupBatch[d];
  switch (format.scale) {
  case Granularity::None:
    return;
  case Granularity::PerTensor: {
    uint32_t amax = 0;
    if (format.recipe != Recipe::Fixed)
      for (float vector : groupAmax(once, 1, view.k, pool).values)
        amax = num::amaxBits(amax, vector);
    scale = tensorScale(format, num::asFloat(amax), history);
    return;
  }
  case Granularity::PerVector:
    groups = groupAmax(once, 1, view.k, pool);
    return;
  case Granularity::Block128:
    groups = groupAmax(once, kBlock128, kBlock128, pool);
    return;
  case Granularity::Mx:
    groups = groupAmax(once, 1, kMxGroup, pool);
    return;
  }
}

float RoundedOperand::scaleAt(int64_t element, int64_t vector,
                              int64_t p) const {
  if (groups.values.empty())
    return scale;
  int64_t b0 = groupBatch[0] == 1 ? 0 : element / view.batch[1];
  int64_t b1 = groupBatch[1] == 1 ? 0 : element % view.batch[1];
  return scaleOf(format, groups.at(b0 * groupBatch[1] + b1, vector, p));
}

mpt_matrix_view RoundedOperand::matrix(const float *data, int64_t stride,
                                       int64_t kStride, int64_t batch0,
                                       int64_t batch1) const {
  if (isLhs)
    return {data, stride, kStride, {batch0, batch1}};
  return {data, kStride, stride, {batch0, batch1}};
}

mpt_matrix_view RoundedOperand::round(Elements elements, int64_t first,
                                      int64_t count,
                                      std::vector<float> &copy) const {
  if (!isCopied)
    return matrix(view.element(elements.first) + first * view.stride,
                  view.stride, view.kStride, view.batchStride[0],
                  view.batchStride[1]);
  size_t size = size_t(copySize(elements, count));
  if (copy.size() < size)
    copy.resize(size);
  int64_t copies = elements.all ? copyBatch[0] * copyBatch[1] : 1;
  int64_t perUnit = sideBySide ? kStrip : 1;
  int64_t units = (count + perUnit - 1) / perUnit;
  pool.forEach(copies * units, 1, 8, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      int64_t index = unit / units, at = unit % units * perUnit;
      int64_t element = elements.all ? index / copyBatch[1] * view.batch[1] +
                                           index % copyBatch[1]
                                     : elements.first;
      float *out = copy.data() + index * count * view.k;
      if (sideBySide)
        roundStrip(element, first + at, std::min(kStrip, count - at), out + at,
                   count);
      else
        roundOne(element, first + at, out + at * view.k);
    }
  });
  int64_t each = count * view.k;
  int64_t batch1 = copyBatch[1] == 1 ? 0 : each;
  int64_t batch0 = copyBatch[0] == 1 ? 0 : each * copyBatch[1];
  return sideBySide ? matrix(copy.data(), 1, count, batch0, batch1)
                    : matrix(copy.data(), view.k, 1, batch0, batch1);
}

/// `count` vectors side by side, to out[p * outStride + i].
void RoundedOperand::roundStrip(int64_t element, int64_t first, int64_t count,
                                float *out, int64_t outStride) const {
  constexpr int width = kMostWidth;
  uint32_t words[kRun * width];
  float padded[2][kRun * width];
  int64_t run = format.scale == Granularity::Mx ? kMxGroup : kRun;
  const float *data = view.element(element) + first;
  for (int64_t p = 0; p < view.k; p += run) {
    int64_t lines = std::min(run, view.k - p);
    for (int64_t i = 0; i < count; i += width) {
      int64_t used = std::min<int64_t>(width, count - i);
      float scales[width];
      uint64_t bases[width];
      for (int64_t lane = 0; lane < width; ++lane) {
        int64_t vector = first + i + std::min(lane, used - 1);
        scales[lane] = scaleAt(element, vector, p);
        bases[lane] = uint64_t((element * view.count + vector) * view.k + p);
      }
      if (isStochastic)
        drawPanel(stream, bases, lines, width, words);
      const uint32_t *random = isStochastic ? words : nullptr;
      const float *from = data + p * view.kStride + i;
      float *to = out + p * outStride + i;
      if (used == width) {
        roundPanel(format.storage, from, view.kStride, lines, width, scales,
                   random, to, outStride);
        continue;
      }
      for (int64_t line = 0; line < lines; ++line)
        for (int64_t lane = 0; lane < width; ++lane)
          padded[0][line * width + lane] =
              lane < used ? from[line * view.kStride + lane] : 0.0f;
      roundPanel(format.storage, padded[0], width, lines, width, scales, random,
                 padded[1], width);
      for (int64_t line = 0; line < lines; ++line)
        std::copy_n(padded[1] + line * width, used, to + line * outStride);
    }
  }
}

/// One vector, to out[p].
void RoundedOperand::roundOne(int64_t element, int64_t vector,
                              float *out) const {
  uint32_t words[kLine];
  float gathered[kLine];
  int64_t run = format.scale == Granularity::Mx         ? kMxGroup
                : format.scale == Granularity::Block128 ? kBlock128
                                                        : kLine;
  const float *data = view.element(element) + vector * view.stride;
  uint64_t base = uint64_t((element * view.count + vector) * view.k);
  for (int64_t p = 0; p < view.k; p += run) {
    int64_t n = std::min(run, view.k - p);
    const float *from = data + p * view.kStride;
    if (view.kStride != 1) {
      for (int64_t i = 0; i < n; ++i)
        gathered[i] = from[i * view.kStride];
      from = gathered;
    }
    if (isStochastic)
      drawVector(stream, base + uint64_t(p), size_t(n), words);
    roundVector(format.storage, from, size_t(n), scaleAt(element, vector, p),
                isStochastic ? words : nullptr, out + p);
  }
}

} // namespace

struct RoundedProduct::Impl {
  Impl(int threads, size_t workspace)
      : pool(threads), most(int64_t(workspace / sizeof(float))) {}

  /// Multiplies rows [row, row + m) with columns [column, column + n).
  static void multiplyPart(const mpt_product_view &product, Elements elements,
                           int64_t row, int64_t m, mpt_matrix_view lhs,
                           int64_t column, int64_t n, mpt_matrix_view rhs,
                           const Multiply &multiply) {
    mpt_product_view part = product;
    int64_t b0 = elements.first / product.batch[1];
    int64_t b1 = elements.first % product.batch[1];
    part.m = m;
    part.n = n;
    part.lhs = lhs;
    part.rhs = rhs;
    part.result.data +=
        row * product.result.rows + column * product.result.columns +
        b0 * product.result.batch[0] + b1 * product.result.batch[1];
    if (!elements.all)
      part.batch[0] = part.batch[1] = 1;
    multiply(part);
  }

  void runParts(const mpt_product_view &product, Elements elements,
                const RoundedOperand &lhs, const RoundedOperand &rhs,
                const Multiply &multiply);

  rt::ThreadPool pool;
  int64_t most; // elements of the copies
  std::vector<float> lhsCopy, rhsCopy;
};

/// Of one batch element, in as few parts as the workspace allows.
void RoundedProduct::Impl::runParts(const mpt_product_view &product,
                                    Elements elements,
                                    const RoundedOperand &lhs,
                                    const RoundedOperand &rhs,
                                    const Multiply &multiply) {
  int64_t lhsSize = lhs.copySize(elements, product.m);
  int64_t rhsSize = rhs.copySize(elements, product.n);
  auto share = [&](int64_t size, int64_t other, int64_t vectors) {
    if (size == 0)
      return vectors;
    int64_t room = std::max(most - other, most / 2) / (size / vectors);
    return std::clamp<int64_t>(room / kMostWidth * kMostWidth,
                               std::min<int64_t>(kMostWidth, vectors), vectors);
  };
  int64_t m = share(lhsSize, rhsSize, product.m);
  int64_t n = share(rhsSize, m == product.m ? lhsSize : most / 2, product.n);
  mpt_matrix_view left{}, right{};
  for (int64_t column = 0; column < product.n; column += n) {
    int64_t columns = std::min(n, product.n - column);
    right = rhs.round(elements, column, columns, rhsCopy);
    for (int64_t row = 0; row < product.m; row += m) {
      int64_t rows = std::min(m, product.m - row);
      if (column == 0 || m < product.m)
        left = lhs.round(elements, row, rows, lhsCopy);
      multiplyPart(product, elements, row, rows, left, column, columns, right,
                   multiply);
    }
  }
}

RoundedProduct::RoundedProduct(int threads, size_t workspace)
    : impl(std::make_unique<Impl>(threads, workspace)) {}
RoundedProduct::~RoundedProduct() = default;

void RoundedProduct::run(const mpt_product_view &product,
                         const Candidate &candidate, Draw draw,
                         const std::vector<float> &lhsHistory,
                         const std::vector<float> &rhsHistory,
                         const Multiply &multiply) {
  checkView(product);
  RoundedOperand lhs(true, lhsView(product), candidate.lhs, draw, lhsHistory,
                     impl->pool);
  RoundedOperand rhs(false, rhsView(product), candidate.rhs, draw, rhsHistory,
                     impl->pool);
  Elements all{0, true};
  if (lhs.copySize(all, product.m) + rhs.copySize(all, product.n) <=
      impl->most) {
    mpt_matrix_view left = lhs.round(all, 0, product.m, impl->lhsCopy);
    mpt_matrix_view right = rhs.round(all, 0, product.n, impl->rhsCopy);
    Impl::multiplyPart(product, all, 0, product.m, left, 0, product.n, right,
                       multiply);
    return;
  }
  for (int64_t e = 0; e < product.batch[0] * product.batch[1]; ++e)
    impl->runParts(product, {e, false}, lhs, rhs, multiply);
}

} // namespace mpt::metrics
