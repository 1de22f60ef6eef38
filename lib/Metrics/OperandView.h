//===- OperandView.h - walking an operand of any strides --------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// An operand as a product sees it (vectors of length k), and as memory: blocks
// of lines that cover each of its elements once.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_OPERANDVIEW_H
#define MPT_LIB_METRICS_OPERANDVIEW_H

#include "mpt/Metrics/Metrics.h"

#include "ThreadPool.h"

namespace mpt::metrics {

/// `count` vectors of length `k` for each of batch[0] x batch[1] elements: the
/// rows of a lhs, the columns of a rhs. Strides in elements.
struct OperandView {
  const float *data;
  int64_t count, stride;
  int64_t k, kStride;
  int64_t batch[2], batchStride[2];

  const float *element(int64_t b) const {
    return data + b / batch[1] * batchStride[0] + b % batch[1] * batchStride[1];
  }
};

OperandView lhsView(const mpt_product_view &product);
OperandView rhsView(const mpt_product_view &product);

/// Throws rt::Failure on sizes below 1, negative strides and missing data.
void checkView(const mpt_product_view &product);

/// Cuts an operand into blocks of at most kElements elements: some lines, or a
/// segment of one. Dimensions that are broadcast (stride 0) are walked once.
class Blocks {
public:
  static constexpr int64_t kElements = 4096;

  explicit Blocks(const OperandView &view);

  /// Lines [outer, outer + lines) of a batch element, elements [inner, inner +
  /// length) of each.
  struct Block {
    int64_t batch, outer, lines, inner, length;
    size_t elements() const { return size_t(lines * length); }
  };

  int64_t size() const { return batches() * lineGroups * segments; }
  Block at(int64_t index) const;
  /// The block's elements line by line: in place, or copied to `copy` (of
  /// kElements) where they do not lie together.
  const float *dense(const Block &block, float *copy) const;

  int64_t batches() const { return batch[0] * batch[1]; }
  int64_t outerExtent() const { return extents[0]; }
  int64_t innerExtent() const { return extents[1]; }
  /// Whether lines run along the contraction.
  bool innerIsK() const { return alongK; }

private:
  const float *data;
  int64_t batch[2], batchStride[2];
  int64_t extents[2], strides[2]; // of outer and inner
  bool alongK;
  int64_t linesPerBlock, lineGroups, segments;
};

/// Statistics of every element, on the pool's threads.
OperandStatistics scanOperand(const OperandView &view, rt::ThreadPool &pool);

/// Shares of the finite nonzero elements that a format at a scale turns to zero
/// and that exceed its maximum by more than rounding; 0 if there are none.
struct Losses {
  double flushed = 0, saturated = 0;
};
struct LossRequest {
  num::Format format;
  float scale;
};

/// Of every element, for formats that round to nearest, in one pass.
std::vector<Losses> countLosses(const OperandView &view,
                                const OperandStatistics &statistics,
                                const std::vector<LossRequest> &requests,
                                rt::ThreadPool &pool);

/// The largest magnitude, as bits, that does not exceed the format's maximum by
/// more than rounding to nearest takes away.
uint32_t lastUnsaturated(num::Format format);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_OPERANDVIEW_H
