//===- OperandView.h - walking an operand of any strides --------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// An operand as a product sees it (vectors of length k), and as memory: the
// fewest lines that cover each of its elements once.
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

/// Cuts an operand into chunks of at most kChunk elements. Dimensions that are
/// broadcast (stride 0) are walked once.
class Chunks {
public:
  static constexpr int64_t kChunk = 4096;

  explicit Chunks(const OperandView &view);

  int64_t size() const { return lines * perLine; }

  /// Calls body(pointer, count) for chunks [begin, end), contiguous in memory;
  /// strided ones are copied first.
  template <typename Body>
  void visit(int64_t begin, int64_t end, const Body &body) const {
    float copy[kChunk];
    for (int64_t c = begin; c < end; ++c) {
      int64_t first = c % perLine * kChunk;
      int64_t n = length - first < kChunk ? length - first : kChunk;
      const float *from = line(c / perLine) + first * stride;
      if (stride != 1) {
        for (int64_t i = 0; i < n; ++i)
          copy[i] = from[i * stride];
        from = copy;
      }
      body(from, static_cast<size_t>(n));
    }
  }

private:
  const float *line(int64_t index) const;

  const float *data;
  int64_t length = 1, stride = 1; // of a line
  int64_t extents[3] = {1, 1, 1}, strides[3] = {0, 0, 0};
  int64_t lines = 1, perLine = 1;
};

/// Statistics of every element, on the pool's threads.
OperandStatistics scanOperand(const Chunks &chunks, rt::ThreadPool &pool);

/// Shares of the finite nonzero elements that `format` at `scale` turns to zero
/// and that exceed its maximum by more than rounding; 0 if there are none.
struct Losses {
  double flushed = 0, saturated = 0;
};
Losses countLosses(const Chunks &chunks, const OperandStatistics &statistics,
                   num::Format format, float scale, rt::ThreadPool &pool);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_OPERANDVIEW_H
