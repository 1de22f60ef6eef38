/*===- MeasureC.h - C API to measure one product ------------------*- C -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Measures a product by itself (docs/metrics.md), and computes it with rounded
// operands, for studies and tests. Status and messages are those of mpt.h.
//
//===----------------------------------------------------------------------===*/

#ifndef MPT_METRICS_MEASUREC_H
#define MPT_METRICS_MEASUREC_H

#include "mpt/Runtime/mpt.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mpt_gradient_side {
  MPT_GRADIENT_NONE = 0,
  MPT_GRADIENT_LHS = 1,
  MPT_GRADIENT_RHS = 2
} mpt_gradient_side;

typedef struct mpt_measure_options {
  int64_t rows, columns; /* sample of the result; 0: all */
  uint64_t seed;
  int32_t threads;       /* 0: the CPUs of this process */
  int32_t gradient_side; /* mpt_gradient_side: which operand is a gradient */
  /* "i8[per_vector]*i8[per_vector,stochastic],f8E4M3FN*f8E5M2"; where there is
     a gradient operand the second format is the gradient's. NULL: default */
  const char *candidates;
  /* What the sample and stochastic rounding are named by. */
  uint32_t product, step, batch, round;
  int64_t sketch; /* most coordinates of errors and result; 0: none */
  /* amax of earlier batches, the latest last, for delayed scales. */
  const float *lhs_history, *rhs_history;
  int64_t lhs_history_count, rhs_history_count;
} mpt_measure_options;

/* `json` gets the metrics with all their digits, null where there is no value,
   to be freed by mpt_measure_free. `gradient` is d loss / d result, or NULL.
   `result` of the view is not looked at. */
mpt_status mpt_measure_product(const mpt_product_view *product,
                               const mpt_matrix_view *gradient,
                               const mpt_measure_options *options, char **json);
void mpt_measure_free(char *json);

/* Writes the product of the rounded operands, one f32 fma a term, to `result`,
   whose memory must be writable and of strides that do not overlap. The options
   hold exactly one candidate; `rows`, `columns`, `seed` and `sketch` do not
   count (random words are those of seed 0). Copies of operands take at
   most about `workspace` bytes; 0: 64 MiB. */
mpt_status mpt_rounded_product(const mpt_product_view *product,
                               const mpt_measure_options *options,
                               int64_t workspace);

#ifdef __cplusplus
}
#endif

#endif /* MPT_METRICS_MEASUREC_H */
