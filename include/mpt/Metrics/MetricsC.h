/*===- MetricsC.h - C API of the profiler -------------------------*- C -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A profiler measures what an open package computes. The caller trains; at a
// point it gives batches, which are run forward and backward without an update,
// and writes metrics.json (docs/metrics.md) whenever no point is open. Status
// and messages are those of mpt.h.
//
//   mpt_profiler_create(package, &options, &profiler);
//   mpt_profiler_begin_point(profiler, mpt_step_number(package));
//   for each batch: set the inputs;
//                   mpt_profiler_measure(profiler, rng_step);
//                   for each i below mpt_profiler_probe_count(profiler):
//                     mpt_profiler_probe(profiler, i, rng_step);
//                   mpt_profiler_end_batch(profiler);
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
  int32_t threads; /* 0: the CPUs of this process */
  int32_t
      stop_on_nonfinite; /* a NaN or infinity in an operand ends the batch */
  int64_t batches;       /* most at a point */
  int64_t sketch;        /* coordinates of sketches; 0: by memory */
  /* "bf16*bf16,f8E4M3FN*f8E5M2" for every product; NULL: by gradient side */
  const char *candidates;
  /* "dgrad i8*i8;wgrad@3 i8*i8;whole f8E4M3FN*f8E5M2"; NULL: none */
  const char *probes;
} mpt_profiler_options;

/* Refuses a package without products or without a table of gradients. The
   package must outlive the profiler, whose observer and product runner replace
   the package's own while a batch runs. */
mpt_status mpt_profiler_create(mpt_package *package,
                               const mpt_profiler_options *options,
                               mpt_profiler **out);
void mpt_profiler_destroy(mpt_profiler *profiler);

/* `step`: steps taken before the point; points come in ascending order. */
mpt_status mpt_profiler_begin_point(mpt_profiler *profiler, int64_t step);
/* Runs the batch that is set, forward and backward, and measures it. State and
   step number stay. */
mpt_status mpt_profiler_measure(mpt_profiler *profiler, int64_t rng_step);
/* Probes of a batch; fewer than asked for where some do the same. */
int64_t mpt_profiler_probe_count(const mpt_profiler *profiler);
/* Runs the batch that was measured again, with the products of a probe rounded.
   All probes of a batch have to run before it ends. */
mpt_status mpt_profiler_probe(mpt_profiler *profiler, int64_t index,
                              int64_t rng_step);
/* Keeps what the batch gave. */
mpt_status mpt_profiler_end_batch(mpt_profiler *profiler);
/* Forgets a batch that has not been ended. */
mpt_status mpt_profiler_discard_batch(mpt_profiler *profiler);
/* Makes the metrics that take all batches of the point; a point without any is
   forgotten. */
mpt_status mpt_profiler_end_point(mpt_profiler *profiler);

/* Writes beside `path`, then renames. `complete` is what the file says of
   itself: 0 where a profile was interrupted. MPT_ERROR_STATE without a batch
   or while a point is open. */
mpt_status mpt_profiler_write(const mpt_profiler *profiler, const char *path,
                              int complete);

#ifdef __cplusplus
}
#endif

#endif /* MPT_METRICS_METRICSC_H */
