//===- Layout.cpp - strided layouts of tensor values ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Layout.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Layout.h"
#include "llvm/ADT/STLExtras.h"

using namespace mpt;
using llvm::ArrayRef;
using llvm::SmallVector;

Layout Layout::contiguous(ArrayRef<int64_t> shape) {
  Layout layout;
  layout.shape.assign(shape.begin(), shape.end());
  layout.strides.resize(shape.size());
  int64_t stride = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    layout.strides[d] = stride;
    stride *= shape[d];
  }
  return layout;
}

int64_t Layout::getNumElements() const {
  int64_t n = 1;
  for (int64_t size : shape)
    n *= size;
  return n;
}

bool Layout::isContiguous() const {
  int64_t expected = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected)
      return false;
    expected *= shape[d];
  }
  return true;
}

std::optional<Layout> Layout::reshape(ArrayRef<int64_t> newShape) const {
  // Merge the old dims into runs that are contiguous in themselves, then split
  // each run into the new dims that it must cover exactly.
  Layout result;
  result.offset = offset;
  result.shape.assign(newShape.begin(), newShape.end());
  result.strides.assign(newShape.size(), 0);
  SmallVector<std::pair<int64_t, int64_t>, 4> runs; // size, innermost stride
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1)
      continue;
    if (!runs.empty() && runs.back().second == shape[d] * strides[d])
      runs.back() = {runs.back().first * shape[d], strides[d]};
    else
      runs.push_back({shape[d], strides[d]});
  }
  size_t dim = newShape.size();
  for (auto &[size, stride] : llvm::reverse(runs)) {
    int64_t covered = 1;
    while (covered < size) {
      while (dim > 0 && newShape[dim - 1] == 1)
        --dim;
      if (dim == 0)
        return std::nullopt;
      --dim;
      result.strides[dim] = stride * covered;
      covered *= newShape[dim];
    }
    if (covered != size)
      return std::nullopt;
  }
  for (size_t d = 0; d < dim; ++d)
    if (newShape[d] != 1)
      return std::nullopt;
  return result;
}

Layout Layout::transpose(ArrayRef<int64_t> permutation) const {
  Layout result;
  result.offset = offset;
  for (int64_t d : permutation) {
    result.shape.push_back(shape[d]);
    result.strides.push_back(strides[d]);
  }
  return result;
}

Layout Layout::broadcast(ArrayRef<int64_t> newShape) const {
  Layout result;
  result.offset = offset;
  result.shape.assign(newShape.begin(), newShape.end());
  result.strides.assign(newShape.size(), 0);
  size_t lead = newShape.size() - shape.size();
  for (size_t d = 0; d < shape.size(); ++d)
    if (shape[d] == newShape[lead + d])
      result.strides[lead + d] = strides[d];
  return result;
}

Layout Layout::slice(ArrayRef<int64_t> offsets, ArrayRef<int64_t> sizes) const {
  Layout result = *this;
  result.shape.assign(sizes.begin(), sizes.end());
  for (size_t d = 0; d < offsets.size(); ++d)
    result.offset += offsets[d] * strides[d];
  return result;
}
