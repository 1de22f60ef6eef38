//===- OperandView.cpp - walking an operand of any strides ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Views of a product's operands, their checks, and their cut into blocks.
//
//===----------------------------------------------------------------------===//

#include "OperandView.h"

#include "Failure.h"

#include <algorithm>
#include <cstring>

namespace mpt::metrics {

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

Blocks::Blocks(const OperandView &view) : data(view.data) {
  auto walked = [](int64_t extent, int64_t stride) {
    return stride == 0 ? 1 : extent;
  };
  for (int d = 0; d < 2; ++d) {
    batch[d] = walked(view.batch[d], view.batchStride[d]);
    batchStride[d] = view.batchStride[d];
  }
  int64_t count = walked(view.count, view.stride);
  int64_t k = walked(view.k, view.kStride);
  // The inner dimension is the one whose elements are closer together.
  alongK = count == 1 || (k != 1 && view.kStride <= view.stride);
  extents[0] = alongK ? count : k;
  extents[1] = alongK ? k : count;
  strides[0] = alongK ? view.stride : view.kStride;
  strides[1] = alongK ? view.kStride : view.stride;
  linesPerBlock = std::max<int64_t>(1, kElements / extents[1]);
  lineGroups = (extents[0] + linesPerBlock - 1) / linesPerBlock;
  segments = (extents[1] + kElements - 1) / kElements;
}

Blocks::Block Blocks::at(int64_t index) const {
  Block block;
  block.inner = index % segments * kElements;
  index /= segments;
  block.outer = index % lineGroups * linesPerBlock;
  block.batch = index / lineGroups;
  block.lines = std::min(linesPerBlock, extents[0] - block.outer);
  block.length = std::min(kElements, extents[1] - block.inner);
  return block;
}

const float *Blocks::dense(const Block &block, float *copy) const {
  const float *from = data + block.batch / batch[1] * batchStride[0] +
                      block.batch % batch[1] * batchStride[1] +
                      block.outer * strides[0] + block.inner * strides[1];
  bool unit = strides[1] == 1 || block.length == 1;
  if (unit && (block.lines == 1 || strides[0] == block.length))
    return from;
  float *to = copy;
  for (int64_t line = 0; line < block.lines; ++line, to += block.length) {
    const float *source = from + line * strides[0];
    if (unit) {
      std::memcpy(to, source, size_t(block.length) * sizeof(float));
      continue;
    }
    for (int64_t i = 0; i < block.length; ++i)
      to[i] = source[i * strides[1]];
  }
  return copy;
}

} // namespace mpt::metrics
