//===- NumericsC.h - the numerics as a C interface --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The numerics over arrays, for the runtime library's callers in C and Python.
// Functions that return int return 0, or -1 if a format is not one of
// MptNumFormat or a pointer is null while its count is not 0; they then write
// nothing. Input and output may not overlap, except exactly where types agree.
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
