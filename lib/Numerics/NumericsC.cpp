//===- NumericsC.cpp - the numerics as a C interface ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Instantiates the header-only numerics over arrays. Each loop is compiled for
// several levels of x86 and chosen when the library is loaded; the results do
// not depend on the level, since fma is explicit and nothing is contracted.
//
//===----------------------------------------------------------------------===//

#include "mpt/Numerics/NumericsC.h"

#include "mpt/Numerics/Bulk.h"
#include "mpt/Numerics/Reduce.h"

using namespace mpt;

#if defined(__x86_64__) && defined(__linux__)
#define MPT_CLONES                                                             \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MPT_CLONES
#endif

namespace {

/// True if a buffer of n elements may be used.
bool usable(const void *pointer, size_t n) { return pointer || n == 0; }

bool knownFormat(int format) {
  return format >= MPT_NUM_F32 && format <= MPT_NUM_INT8;
}

num::Stream<uint32_t> streamOf(uint32_t id, uint32_t step, uint64_t seed) {
  return {id, step, static_cast<uint32_t>(seed),
          static_cast<uint32_t>(seed >> 32)};
}

uint32_t drawElement(uint64_t element, num::Stream<uint32_t> stream) {
  return num::draw(static_cast<uint32_t>(element),
                   static_cast<uint32_t>(element >> 32), stream);
}

} // namespace

static_assert(static_cast<int>(num::Format::BF16) == MPT_NUM_BF16 &&
                  static_cast<int>(num::Format::E4M3) == MPT_NUM_E4M3 &&
                  static_cast<int>(num::Format::E5M2) == MPT_NUM_E5M2 &&
                  static_cast<int>(num::Format::INT8) == MPT_NUM_INT8,
              "the C interface numbers formats as Formats.h does");

extern "C" {

MPT_CLONES int mpt_num_encode(int format, const float *x, size_t n, float scale,
                              void *codes) {
  if (!knownFormat(format) || !usable(x, n) || !usable(codes, n))
    return -1;
  num::encodeArray(static_cast<num::Format>(format), x, n, scale, codes);
  return 0;
}

MPT_CLONES int mpt_num_encode_stochastic(int format, const float *x, size_t n, float scale,
                              uint64_t first_element, uint32_t id,
                              uint32_t step, uint64_t seed, void *codes) {
  if (!knownFormat(format) || !usable(x, n) || !usable(codes, n))
    return -1;
  num::encodeArrayStochastic(static_cast<num::Format>(format), x, n, scale,
                             first_element, streamOf(id, step, seed), codes);
  return 0;
}

MPT_CLONES int mpt_num_decode(int format, const void *codes, size_t n,
                              float scale, float *x) {
  if (!knownFormat(format) || !usable(x, n) || !usable(codes, n))
    return -1;
  num::decodeArray(static_cast<num::Format>(format), codes, n,
                   num::inverseScale(scale), x);
  return 0;
}

float mpt_num_scale(int format, float amax) {
  if (!knownFormat(format) || format == MPT_NUM_F32 || format == MPT_NUM_BF16)
    return 1.0f;
  return num::computeScale(amax,
                           num::formatMax(static_cast<num::Format>(format)));
}

MPT_CLONES float mpt_num_amax(const float *x, size_t n) {
  return usable(x, n) ? num::amaxArray(x, n) : 0.0f;
}

// The loop is written out in each function: a helper would be compiled for one
// level only.
#define MPT_NUM_MAP(NAME, FUNCTION)                                            \
  MPT_CLONES int NAME(const float *x, float *y, size_t n) {                    \
    if (!usable(x, n) || !usable(y, n))                                        \
      return -1;                                                               \
    for (size_t i = 0; i < n; ++i)                                             \
      y[i] = FUNCTION(x[i]);                                                   \
    return 0;                                                                  \
  }

MPT_NUM_MAP(mpt_num_exp, num::exp)
MPT_NUM_MAP(mpt_num_log, num::log)
MPT_NUM_MAP(mpt_num_tanh, num::tanh)
MPT_NUM_MAP(mpt_num_erf, num::erf)
MPT_NUM_MAP(mpt_num_gelu, num::gelu)
MPT_NUM_MAP(mpt_num_gelu_grad, num::geluGrad)
#undef MPT_NUM_MAP

float mpt_num_row_sum(const float *x, size_t n) {
  return usable(x, n) ? num::rowSum(x, n) : 0.0f;
}

float mpt_num_row_max(const float *x, size_t n) {
  return num::rowMax(x, usable(x, n) ? n : 0);
}

int mpt_num_column_sums(const float *x, size_t rows, size_t columns,
                        float *sums) {
  if ((rows != 0 && !usable(x, columns)) || !usable(sums, columns))
    return -1;
  num::columnSums(x, rows, columns, sums);
  return 0;
}

void mpt_num_philox(const uint32_t counter[4], const uint32_t key[2],
                    uint32_t words[4]) {
  num::Words4<uint32_t> w = num::philox(counter[0], counter[1], counter[2],
                                        counter[3], key[0], key[1]);
  words[0] = w.x;
  words[1] = w.y;
  words[2] = w.z;
  words[3] = w.w;
}

MPT_CLONES int mpt_num_draw(uint64_t first_element, size_t n, uint32_t id,
                            uint32_t step, uint64_t seed, uint32_t *words) {
  if (!usable(words, n))
    return -1;
  num::drawArray(first_element, n, streamOf(id, step, seed), words);
  return 0;
}

MPT_CLONES int mpt_num_dropout(const float *x, float *y, size_t n, double keep,
                               uint64_t first_element, uint32_t id,
                               uint32_t step, uint64_t seed) {
  if (!usable(x, n) || !usable(y, n))
    return -1;
  num::Stream<uint32_t> stream = streamOf(id, step, seed);
  uint32_t threshold = num::keepThreshold(keep);
  float inverseKeep = 1.0f / static_cast<float>(keep);
  for (size_t i = 0; i < n; ++i)
    y[i] = num::dropout(x[i], drawElement(first_element + i, stream), threshold,
                        inverseKeep);
  return 0;
}

uint32_t mpt_num_name_id(const char *name) {
  return name ? num::nameId(name) : 0;
}

} // extern "C"
