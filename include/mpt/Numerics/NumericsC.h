//===- NumericsC.h - the numerics as a C interface --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The numerics over arrays, for the runtime library's callers in C and Python.
// Functions that return int return 0, or -1 if a format is not one of
// MptNumFormat (or another enumeration of theirs is unknown) or a pointer is
// null while its count is not 0; they then write nothing. Input and output may
// not overlap, except exactly where types agree.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_NUMERICSC_H
#define MPT_NUMERICS_NUMERICSC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MPT_NUM_API __attribute__((visibility("default")))
#else
#define MPT_NUM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/// Codes are float for F32, uint16_t for BF16 and uint8_t for the rest.
typedef enum {
  MPT_NUM_F32 = 0,
  MPT_NUM_BF16 = 1,
  MPT_NUM_E4M3 = 2,
  MPT_NUM_E5M2 = 3,
  MPT_NUM_INT8 = 4
} MptNumFormat;

/// codes[i] = encode(x[i] * scale), to nearest even.
MPT_NUM_API int mpt_num_encode(int format, const float *x, size_t n,
                               float scale, void *codes);

/// The same, stochastically: x[i] is element first_element + i of the value
/// with this id, drawn in this step under this seed.
MPT_NUM_API int mpt_num_encode_stochastic(int format, const float *x, size_t n,
                                          float scale, uint64_t first_element,
                                          uint32_t id, uint32_t step,
                                          uint64_t seed, void *codes);

/// x[i] = decode(codes[i]) * (1 / scale).
MPT_NUM_API int mpt_num_decode(int format, const void *codes, size_t n,
                               float scale, float *x);

/// The scale for an amax: the format's maximum / amax, 1 where amax is 0 or not
/// finite or the format has no scale (F32, BF16, or an unknown one).
MPT_NUM_API float mpt_num_scale(int format, float amax);

/// The largest magnitude: 0 if n is 0, NaN if one is NaN.
MPT_NUM_API float mpt_num_amax(const float *x, size_t n);

/// What shares one scale (Scales.h): rows and columns are those of a row-major
/// matrix, and scales lie row-major by tile.
typedef enum {
  MPT_NUM_NO_SCALE = 0,
  MPT_NUM_PER_TENSOR = 1,
  MPT_NUM_PER_ROW = 2,
  MPT_NUM_PER_COLUMN = 3,
  MPT_NUM_BLOCK128 = 4,
  MPT_NUM_MX_ROW = 5,   /* 1 x 32; E4M3, E5M2 and INT8 only */
  MPT_NUM_MX_COLUMN = 6 /* 32 x 1 */
} MptNumGranularity;

typedef struct {
  int format;
  int granularity;
  size_t rows, columns;
} MptNumMatrix;

/// What random words depend on besides the element (Philox.h).
typedef struct {
  uint32_t id, step;
  uint64_t seed;
} MptNumStream;

/// A delayed scale: the caller owns `history`, a ring of `length` amaxes, at
/// least one. `skipped` counts the amaxes that were not finite.
typedef struct {
  float *history;
  uint32_t length, next, skipped;
  float scale;
} MptNumDelayed;

/// The number of scales of a matrix.
MPT_NUM_API int mpt_num_tiles(int granularity, size_t rows, size_t columns,
                              size_t *tiles);

/// amaxes[t] is the largest magnitude of tile t, NaN if it holds one.
MPT_NUM_API int mpt_num_matrix_amax(int granularity, const float *x,
                                    size_t rows, size_t columns, float *amaxes);

/// The scales of the recipe `current`: the format's maximum / 2^margin / amax,
/// 1 where amax is 0 or not finite or the format takes none. For MX a power of
/// two and no margin; NaN where amax is not finite. The arrays may be one.
MPT_NUM_API int mpt_num_current_scales(int format, int granularity, int margin,
                                       const float *amaxes, size_t tiles,
                                       float *scales);

/// The E8M0 codes of the shared scales of MX, whose inverses
/// mpt_num_current_scales gives.
MPT_NUM_API int mpt_num_mx_codes(int format, const float *amaxes, size_t tiles,
                                 uint8_t *codes);

/// codes = encode(x * scales). Stochastic if `stream` is not null: element
/// (i, j) is element i * columns + j of that value.
MPT_NUM_API int mpt_num_matrix_encode(const MptNumMatrix *matrix,
                                      const float *x, const float *scales,
                                      const MptNumStream *stream, void *codes);

/// x = decode(codes) * (1 / scales).
MPT_NUM_API int mpt_num_matrix_decode(const MptNumMatrix *matrix,
                                      const void *codes, const float *scales,
                                      float *x);

/// y is what decoding the codes of x gives.
MPT_NUM_API int mpt_num_matrix_round_trip(const MptNumMatrix *matrix,
                                          const float *x, const float *scales,
                                          const MptNumStream *stream, float *y);

/// Fills the history with `amax`, from a profile, and sets the scale by it: 0s
/// and 1 where it is 0 or not finite. -1 also for a format that takes no scale.
MPT_NUM_API int mpt_num_delayed_start(int format, int margin, float amax,
                                      MptNumDelayed *delayed);

/// Takes up the amax of a step and sets the scale of the next.
MPT_NUM_API int mpt_num_delayed_update(int format, int margin, float amax,
                                       MptNumDelayed *delayed);

/// y[i] = f(x[i]).
MPT_NUM_API int mpt_num_exp(const float *x, float *y, size_t n);
MPT_NUM_API int mpt_num_log(const float *x, float *y, size_t n);
MPT_NUM_API int mpt_num_tanh(const float *x, float *y, size_t n);
MPT_NUM_API int mpt_num_erf(const float *x, float *y, size_t n);
MPT_NUM_API int mpt_num_gelu(const float *x, float *y, size_t n);
MPT_NUM_API int mpt_num_gelu_grad(const float *x, float *y, size_t n);

/// The reductions in their defined order (Reduce.h).
MPT_NUM_API float mpt_num_row_sum(const float *x, size_t n);
MPT_NUM_API float mpt_num_row_max(const float *x, size_t n);
MPT_NUM_API int mpt_num_column_sums(const float *x, size_t rows, size_t columns,
                                    float *sums);

/// Philox4x32-10 of one counter and key.
MPT_NUM_API void mpt_num_philox(const uint32_t counter[4],
                                const uint32_t key[2], uint32_t words[4]);

/// words[i] is the random word of element first_element + i.
MPT_NUM_API int mpt_num_draw(uint64_t first_element, size_t n, uint32_t id,
                             uint32_t step, uint64_t seed, uint32_t *words);

/// y[i] = x[i] / keep or 0, by the word of element first_element + i.
MPT_NUM_API int mpt_num_dropout(const float *x, float *y, size_t n, double keep,
                                uint64_t first_element, uint32_t id,
                                uint32_t step, uint64_t seed);

/// The id of a name (FNV-1a), 0 if `name` is null.
MPT_NUM_API uint32_t mpt_num_name_id(const char *name);

#ifdef __cplusplus
}
#endif

#endif // MPT_NUMERICS_NUMERICSC_H
