//===- Sketch.cpp - few numbers that keep inner products ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Signs are single bits of Philox words, 128 a draw, so that a sketch costs
// little more than reading its vector.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/Sketch.h"

#include "Clones.h"
#include "Rounding.h"
#include "Vectors.h"

#include <algorithm>
#include <limits>

namespace mpt::metrics {

/// Words of signs taken at a time, 32 elements each.
static constexpr size_t kWords = 128;

/// out[j] += sign(first + j) * x[j], j < n.
MPT_CLONES static void addSigned(const float *__restrict x, size_t n,
                                 uint64_t first, num::Stream<uint32_t> stream,
                                 float *__restrict out) {
  uint32_t words[kWords], signs[kWords * 32];
  while (n != 0) {
    size_t skip = first % 32, taken = std::min(n, kWords * 32 - skip);
    size_t count = (skip + taken + 31) / 32;
    drawVector(stream, first / 32, count, words);
    for (size_t w = 0; w < count; ++w)
      for (uint32_t bit = 0; bit < 32; ++bit)
        signs[w * 32 + bit] = (words[w] >> bit) << 31;
    for (size_t j = 0; j < taken; ++j)
      out[j] += num::asFloat(num::bits(x[j]) ^ signs[skip + j]);
    x += taken;
    out += taken;
    first += taken;
    n -= taken;
  }
}

std::vector<float> sketch(const float *x, size_t n, size_t d, uint64_t seed) {
  if (n <= d)
    return std::vector<float>(x, x + n);
  std::vector<float> result(d, 0.0f);
  if (d == 0)
    return result;
  auto streamOf = [=](const char *name) {
    return num::Stream<uint32_t>{num::nameId(name), 0,
                                 static_cast<uint32_t>(seed),
                                 static_cast<uint32_t>(seed >> 32)};
  };
  num::Stream<uint32_t> signs = streamOf("sketch.sign"),
                        rotations = streamOf("sketch.rotation");
  for (size_t block = 0; block * d < n; ++block) {
    uint32_t word;
    drawVector(rotations, block, 1, &word);
    size_t rotation = size_t((uint64_t(word) * d) >> 32);
    size_t first = block * d, length = std::min(d, n - first);
    size_t head = std::min(length, d - rotation);
    addSigned(x + first, head, first, signs, result.data() + rotation);
    addSigned(x + first + head, length - head, first + head, signs,
              result.data());
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Gram
//===----------------------------------------------------------------------===//

namespace {

/// In eight lanes. (Declared first: clang takes a vector width on a
/// redeclaration only.)
double innerProduct(const float *a, const float *b, size_t n);

MPT_WIDE_CLONES double innerProduct(const float *a, const float *b, size_t n) {
  Doubles sum{};
  size_t whole = n / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    sum += widenLanes(a + i) * widenLanes(b + i);
  double result = sumLanes(sum);
  for (size_t i = whole; i < n; ++i)
    result += double(a[i]) * double(b[i]);
  return result;
}

} // namespace

Gram::Gram(const std::vector<const std::vector<float> *> &vectors)
    : batches(vectors.size()), entries(batches * batches), origin(batches) {
  for (size_t a = 0; a < batches; ++a) {
    origin[a] = a;
    for (size_t b = 0; b <= a; ++b) {
      size_t n = std::min(vectors[a]->size(), vectors[b]->size());
      double product = innerProduct(vectors[a]->data(), vectors[b]->data(), n);
      entries[a * batches + b] = entries[b * batches + a] = product;
    }
  }
}

double Gram::meanSquare() const {
  double sum = 0;
  for (size_t a = 0; a < batches; ++a)
    sum += at(a, a);
  return sum / double(batches);
}

double Gram::squaredMean() const {
  double sum = 0;
  for (double entry : entries)
    sum += entry;
  return sum / (double(batches) * double(batches));
}

double Gram::persistent() const {
  double sum = 0;
  size_t pairs = 0;
  for (size_t a = 0; a < batches; ++a)
    for (size_t b = 0; b < batches; ++b)
      if (origin[a] != origin[b]) {
        sum += at(a, b);
        ++pairs;
      }
  return pairs ? sum / double(pairs) : std::numeric_limits<double>::quiet_NaN();
}

Gram Gram::resample(const std::vector<size_t> &choice) const {
  Gram result;
  result.batches = choice.size();
  for (size_t a : choice) {
    result.origin.push_back(origin[a]);
    for (size_t b : choice)
      result.entries.push_back(at(a, b));
  }
  return result;
}

} // namespace mpt::metrics
