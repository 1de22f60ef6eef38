/*===- MetricsC.h - C API of the profiler -------------------------*- C -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A profiler watches the products of an open package. The caller trains: it
// opens a point, takes steps and ends a batch after each, closes the point, and
// writes metrics.json (docs/metrics.md) whenever it likes. Status and messages
// are those of mpt.h.
//
//   mpt_profiler_create(package, &options, &profiler);
//   mpt_profiler_begin_point(profiler, mpt_step_number(package));
//   for each batch: mpt_step(package); mpt_profiler_end_batch(profiler);
//   mpt_profiler_end_point(profiler);
//   mpt_profiler_write(profiler, "metrics.json", 1);
//
//===----------------------------------------------------------------------===*/

#ifndef MPT_METRICS_METRICSC_H
#define MPT_METRICS_METRICSC_H

#include "mpt/Runtime/mpt.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mpt_profiler mpt_profiler;

typedef struct mpt_profiler_options {
  int64_t rows, columns; /* sample of each product; 0: all */
  uint64_t seed;
  int32_t threads;           /* 0: the CPUs of this process */
  int32_t stop_on_nonfinite; /* a NaN or infinity in an operand ends the step */
  /* "bf16*bf16,f8E4M3FN*f8E5M2" for every product; NULL: by role */
  const char *candidates;
} mpt_profiler_options;

/* Refuses a package without products. The package must outlive the profiler,
   whose observer replaces the package's own while a point is open. */
mpt_status mpt_profiler_create(mpt_package *package,
                               const mpt_profiler_options *options,
                               mpt_profiler **out);
void mpt_profiler_destroy(mpt_profiler *profiler);

/* `step`: steps taken before the point; points come in ascending order. */
mpt_status mpt_profiler_begin_point(mpt_profiler *profiler, int64_t step);
/* Keeps what the step that has just run was measured for. */
mpt_status mpt_profiler_end_batch(mpt_profiler *profiler);
/* Forgets a batch that has not been ended. */
mpt_status mpt_profiler_discard_batch(mpt_profiler *profiler);
/* Stops watching. */
mpt_status mpt_profiler_end_point(mpt_profiler *profiler);

/* Why the profiler stopped a step (MPT_ERROR_STOPPED), else "". */
const char *mpt_profiler_failure(const mpt_profiler *profiler);

/* Writes beside `path`, then renames. `complete` is what the file says of
   itself: 0 where a profile was interrupted. */
mpt_status mpt_profiler_write(const mpt_profiler *profiler, const char *path,
                              int complete);

/* Measures one product by itself, as one batch of step 0; `json` gets its entry
   of the file, to be freed by mpt_metrics_free. `result` of the view is not
   looked at. */
mpt_status mpt_metrics_product(const mpt_product_view *product,
                               const mpt_profiler_options *options,
                               char **json);
void mpt_metrics_free(char *json);

#ifdef __cplusplus
}
#endif

#endif /* MPT_METRICS_METRICSC_H */
