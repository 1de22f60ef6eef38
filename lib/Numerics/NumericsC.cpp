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
#include "mpt/Numerics/Matrix.h"
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

bool takesScale(int format) {
  return knownFormat(format) && format != MPT_NUM_F32 && format != MPT_NUM_BF16;
}

bool knownGranularity(int granularity) {
  return granularity >= MPT_NUM_NO_SCALE && granularity <= MPT_NUM_MX_COLUMN;
}

/// MX has 8-bit elements only.
bool fits(int format, int granularity) {
  return takesScale(format) ||
         !num::isMx(static_cast<num::Granularity>(granularity));
}

num::Stream<uint32_t> streamOf(uint32_t id, uint32_t step, uint64_t seed) {
  return {id, step, static_cast<uint32_t>(seed),
          static_cast<uint32_t>(seed >> 32)};
}

/// The number of elements of a matrix; false if it does not fit.
bool sizeOf(size_t rows, size_t columns, size_t &n) {
  return !__builtin_mul_overflow(rows, columns, &n) && n <= SIZE_MAX / 4;
}

/// The matrix of a description in C; false if the format or the granularity is
/// unknown or do not go together, or a buffer is missing.
bool readMatrix(const MptNumMatrix *matrix, const void *in, const void *out,
                const float *scales, size_t &n) {
  return matrix && knownFormat(matrix->format) &&
         knownGranularity(matrix->granularity) &&
         fits(matrix->format, matrix->granularity) &&
         sizeOf(matrix->rows, matrix->columns, n) && usable(in, n) &&
         usable(out, n) && usable(scales, n);
}

num::TiledMatrix tiled(const MptNumMatrix &matrix) {
  return {static_cast<num::Granularity>(matrix.granularity), matrix.rows,
          matrix.columns};
}

/// The largest value times 2^-margin.
float numerator(int format, int margin) {
  return num::formatMax(static_cast<num::Format>(format)) *
         num::marginFactor(margin);
}

/// True if a delayed scale of this format has a history.
bool usableState(int format, const MptNumDelayed *delayed) {
  return takesScale(format) && delayed && delayed->history &&
         delayed->length != 0;
}

/// The state in C seen as the one of Scales.h, updated by `fn`.
template <typename Fn> void updateState(MptNumDelayed *delayed, Fn fn) {
  num::DelayedState state{delayed->history, delayed->length, delayed->next,
                          delayed->skipped, delayed->scale};
  fn(state);
  delayed->next = state.next;
  delayed->skipped = state.skipped;
  delayed->scale = state.scale;
}

} // namespace

static_assert(static_cast<int>(num::Format::BF16) == MPT_NUM_BF16 &&
                  static_cast<int>(num::Format::E4M3) == MPT_NUM_E4M3 &&
                  static_cast<int>(num::Format::E5M2) == MPT_NUM_E5M2 &&
                  static_cast<int>(num::Format::INT8) == MPT_NUM_INT8,
              "the C interface numbers formats as Formats.h does");
static_assert(
    static_cast<int>(num::Granularity::None) == MPT_NUM_NO_SCALE &&
        static_cast<int>(num::Granularity::PerTensor) == MPT_NUM_PER_TENSOR &&
        static_cast<int>(num::Granularity::PerRow) == MPT_NUM_PER_ROW &&
        static_cast<int>(num::Granularity::PerColumn) == MPT_NUM_PER_COLUMN &&
        static_cast<int>(num::Granularity::Block128) == MPT_NUM_BLOCK128 &&
        static_cast<int>(num::Granularity::MxRow) == MPT_NUM_MX_ROW &&
        static_cast<int>(num::Granularity::MxColumn) == MPT_NUM_MX_COLUMN,
    "the C interface numbers granularities as Scales.h does");

extern "C" {

MPT_CLONES int mpt_num_encode(int format, const float *x, size_t n, float scale,
                              void *codes) {
  if (!knownFormat(format) || !usable(x, n) || !usable(codes, n))
    return -1;
  num::encodeArray(static_cast<num::Format>(format), x, n, scale, codes);
  return 0;
}

MPT_CLONES int mpt_num_encode_stochastic(int format, const float *x, size_t n,
                                         float scale, uint64_t first_element,
                                         uint32_t id, uint32_t step,
                                         uint64_t seed, void *codes) {
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
  if (!takesScale(format))
    return 1.0f;
  return num::computeScale(amax,
                           num::formatMax(static_cast<num::Format>(format)));
}

MPT_CLONES float mpt_num_amax(const float *x, size_t n) {
  return usable(x, n) ? num::amaxArray(x, n) : 0.0f;
}

int mpt_num_tiles(int granularity, size_t rows, size_t columns, size_t *tiles) {
  size_t n;
  if (!knownGranularity(granularity) || !tiles || !sizeOf(rows, columns, n))
    return -1;
  *tiles = num::TiledMatrix(static_cast<num::Granularity>(granularity), rows,
                            columns)
               .tiles();
  return 0;
}

MPT_CLONES int mpt_num_matrix_amax(int granularity, const float *x, size_t rows,
                                   size_t columns, float *amaxes) {
  size_t n;
  if (!knownGranularity(granularity) || !sizeOf(rows, columns, n) ||
      !usable(x, n) || !usable(amaxes, n))
    return -1;
  num::amaxMatrix({static_cast<num::Granularity>(granularity), rows, columns},
                  x, amaxes);
  return 0;
}

int mpt_num_current_scales(int format, int granularity, int margin,
                           const float *amaxes, size_t tiles, float *scales) {
  if (!knownFormat(format) || !knownGranularity(granularity) ||
      !fits(format, granularity) || !usable(amaxes, tiles) ||
      !usable(scales, tiles))
    return -1;
  num::currentScales(static_cast<num::Format>(format),
                     static_cast<num::Granularity>(granularity), margin, amaxes,
                     tiles, scales);
  return 0;
}

int mpt_num_mx_codes(int format, const float *amaxes, size_t tiles,
                     uint8_t *codes) {
  if (!takesScale(format) || !usable(amaxes, tiles) || !usable(codes, tiles))
    return -1;
  uint32_t emax = num::mxEmax(static_cast<num::Format>(format));
  for (size_t i = 0; i < tiles; ++i)
    codes[i] = static_cast<uint8_t>(num::mxSharedCode(amaxes[i], emax));
  return 0;
}

MPT_CLONES int mpt_num_matrix_encode(const MptNumMatrix *matrix, const float *x,
                                     const float *scales,
                                     const MptNumStream *stream, void *codes) {
  size_t n;
  if (!readMatrix(matrix, x, codes, scales, n))
    return -1;
  num::Stream<uint32_t> drawn{};
  if (stream)
    drawn = streamOf(stream->id, stream->step, stream->seed);
  num::encodeMatrix(static_cast<num::Format>(matrix->format), tiled(*matrix), x,
                    scales, stream ? &drawn : nullptr, codes);
  return 0;
}

MPT_CLONES int mpt_num_matrix_decode(const MptNumMatrix *matrix,
                                     const void *codes, const float *scales,
                                     float *x) {
  size_t n;
  if (!readMatrix(matrix, codes, x, scales, n))
    return -1;
  num::decodeMatrix(static_cast<num::Format>(matrix->format), tiled(*matrix),
                    codes, scales, x);
  return 0;
}

MPT_CLONES int mpt_num_matrix_round_trip(const MptNumMatrix *matrix,
                                         const float *x, const float *scales,
                                         const MptNumStream *stream, float *y) {
  size_t n;
  if (!readMatrix(matrix, x, y, scales, n))
    return -1;
  num::Stream<uint32_t> drawn{};
  if (stream)
    drawn = streamOf(stream->id, stream->step, stream->seed);
  num::roundTripMatrix(static_cast<num::Format>(matrix->format), tiled(*matrix),
                       x, scales, stream ? &drawn : nullptr, y);
  return 0;
}

int mpt_num_delayed_start(int format, int margin, float amax,
                          MptNumDelayed *delayed) {
  if (!usableState(format, delayed))
    return -1;
  updateState(delayed, [=](num::DelayedState &state) {
    num::startDelayed(state, amax, numerator(format, margin));
  });
  return 0;
}

int mpt_num_delayed_update(int format, int margin, float amax,
                           MptNumDelayed *delayed) {
  if (!usableState(format, delayed) || delayed->next >= delayed->length)
    return -1;
  updateState(delayed, [=](num::DelayedState &state) {
    num::updateDelayed(state, amax, numerator(format, margin));
  });
  return 0;
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
  num::dropoutArray(x, n, keep, first_element, streamOf(id, step, seed), y);
  return 0;
}

uint32_t mpt_num_name_id(const char *name) {
  return name ? num::nameId(name) : 0;
}

} // extern "C"
