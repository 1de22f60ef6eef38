//===- Products.cpp - products cut into pieces ----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Cuts a product for the threads: by batch element where there are enough of
// them, else along the longer side of the result, in multiples of 16 so that
// vectors and cache lines stay whole.
//
//===----------------------------------------------------------------------===//

#include "Products.h"

#include <algorithm>

namespace mpt::rt {

/// Swaps lhs and rhs where the result is dense along its rows, as
/// (lhs * rhs)^T = rhs^T * lhs^T; afterwards it is dense along its columns.
static void makeRowMajor(Product &p) {
  bool rowMajor =
      (p.result.columns == 1 || p.n == 1) && (p.m == 1 || p.result.rows >= p.n);
  if (rowMajor)
    return;
  std::swap(p.m, p.n);
  std::swap(p.lhs, p.rhs);
  auto flip = [](auto &operand) { std::swap(operand.rows, operand.columns); };
  flip(p.lhs);
  flip(p.rhs);
  flip(p.result);
}

static Product element(const Product &product, int64_t index) {
  Product p = product;
  int64_t b0 = index / product.batch[1], b1 = index % product.batch[1];
  p.batch[0] = p.batch[1] = 1;
  auto move = [&](auto &o) { o.data += b0 * o.batch[0] + b1 * o.batch[1]; };
  move(p.lhs);
  move(p.rhs);
  move(p.result);
  return p;
}

static Product rowsOf(const Product &product, int64_t begin, int64_t end) {
  Product p = product;
  p.m = end - begin;
  p.lhs.data += begin * p.lhs.rows;
  p.result.data += begin * p.result.rows;
  return p;
}

static Product columnsOf(const Product &product, int64_t begin, int64_t end) {
  Product p = product;
  p.n = end - begin;
  p.rhs.data += begin * p.rhs.columns;
  p.result.data += begin * p.result.columns;
  return p;
}

/// How many pieces each thread gets of m*n*k terms: several where they stay
/// large, so that a thread that the system holds up holds up no other.
static int piecesPerThread(const Product &p, int threads) {
  constexpr double enough = 32e6; // terms that outweigh packing a side again
  double terms = double(p.m) * double(p.n) * double(p.k) / threads;
  return static_cast<int>(std::clamp(terms / enough, 1.0, 4.0));
}

void runProduct(const Product &original, Gemm gemm, ThreadPool &pool) {
  Product product = original;
  makeRowMajor(product);
  int64_t elements = product.batch[0] * product.batch[1];
  if (elements >= pool.size() && elements > 1) {
    pool.forEach(elements, 1, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i != end; ++i)
        gemm(element(product, i));
    });
    return;
  }
  for (int64_t i = 0; i != elements; ++i) {
    Product one = element(product, i);
    int pieces = piecesPerThread(one, pool.size());
    if (one.m >= one.n)
      pool.forEach(one.m, 16, pieces, [&](int64_t begin, int64_t end) {
        gemm(rowsOf(one, begin, end));
      });
    else
      pool.forEach(one.n, 16, pieces, [&](int64_t begin, int64_t end) {
        gemm(columnsOf(one, begin, end));
      });
  }
}

} // namespace mpt::rt
