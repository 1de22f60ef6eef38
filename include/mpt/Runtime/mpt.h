/*===- mpt.h - C API of a compiled training step ------------------*- C -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What libmpt_runtime.so offers: open a package (docs/package.md), set its
// inputs, run steps, read results, save and load checkpoints, and look at every
// product while it runs. No function aborts or throws: each returns a status,
// and mpt_last_error() says what was found and what was expected.
//
// One package is used by one thread at a time; different packages are
// independent. Names are those of the manifest; pointers that a function hands
// out belong to the package and are valid until mpt_close.
//
//===----------------------------------------------------------------------===*/

#ifndef MPT_RUNTIME_MPT_H
#define MPT_RUNTIME_MPT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MPT_RUNTIME_VERSION 1
#define MPT_MAX_RANK 8

/* What a function returns. The thread's message is set iff it is not MPT_OK. */
typedef enum mpt_status {
  MPT_OK = 0,
  MPT_ERROR_IO = 1,     /* a file cannot be read or written */
  MPT_ERROR_FORMAT = 2, /* a manifest or tensor file is malformed */
  MPT_ERROR_MISMATCH =
      3, /* files that do not belong together (hash, version) */
  MPT_ERROR_UNSUPPORTED = 4, /* this CPU or this build cannot run the package */
  MPT_ERROR_ARGUMENT = 5,    /* unknown name, wrong shape or dtype, bad value */
  MPT_ERROR_STATE = 6,       /* not now: an input is missing, a step failed */
  MPT_ERROR_MEMORY = 7,
  MPT_ERROR_STOPPED = 8 /* the observer asked to stop */
} mpt_status;

typedef enum mpt_dtype {
  MPT_F32 = 0,
  MPT_BF16 = 1,
  MPT_F8E4M3FN = 2,
  MPT_F8E5M2 = 3,
  MPT_I8 = 4,
  MPT_I32 = 5,
  MPT_I64 = 6,
  MPT_I1 = 7 /* one byte each */
} mpt_dtype;

typedef enum mpt_kind {
  MPT_PARAMETER = 0,
  MPT_OPTIMIZER_STATE = 1,
  MPT_SCALE_STATE = 2,
  MPT_DERIVED = 3,
  MPT_INPUT = 4,
  MPT_LABEL = 5,
  MPT_RNG = 6,
  MPT_HYPER = 7,
  MPT_RESULT = 8
} mpt_kind;

typedef struct mpt_package mpt_package;

/* One argument or result. `has_range` and `has_ignore_index` say whether
   [range_low, range_high) and `ignore_index` hold for its elements. */
typedef struct mpt_tensor_info {
  const char *name;
  int32_t kind;  /* mpt_kind */
  int32_t dtype; /* mpt_dtype */
  int32_t rank;
  int32_t has_range;
  int64_t shape[MPT_MAX_RANK];
  int64_t range_low, range_high;
  int32_t has_ignore_index;
  int32_t reserved;
  int64_t ignore_index;
  size_t bytes;
} mpt_tensor_info;

/* An operand of a product: element (b0, b1, i, j) is
   data[b0*batch[0] + b1*batch[1] + i*rows + j*columns]; strides in elements. */
typedef struct mpt_matrix_view {
  const float *data;
  int64_t rows, columns;
  int64_t batch[2];
} mpt_matrix_view;

/* A product that has just run: result[m,n] = lhs[m,k] * rhs[k,n] for each of
   batch[0] x batch[1] elements. Valid during the callback only. */
typedef struct mpt_product_view {
  const char *name;
  const char *role; /* "fprop", "dgrad", "wgrad", or what the manifest says */
  int64_t launch;   /* index in the launch list */
  int64_t m, n, k;
  int64_t batch[2];
  mpt_matrix_view lhs, rhs, result;
} mpt_product_view;

/* Called on the stepping thread after each product; anything but 0 stops the
   step, which then fails with MPT_ERROR_STOPPED. It must not call back into
   the package except to read. */
typedef int (*mpt_observer)(const mpt_product_view *product, void *user);

typedef struct mpt_launch_info {
  const char *op;     /* "kernel", "product", "scatter_add", "copy", "fill" */
  const char *name;   /* may be empty */
  const char *role;   /* of a product, else empty */
  const char *symbol; /* of a kernel, else empty */
  double seconds;     /* accumulated while profiling was on */
  int64_t calls;
} mpt_launch_info;

/* Message of this thread's last failure; never NULL. */
const char *mpt_last_error(void);

/* Loads the package in `directory`. `threads` counts the caller; 0 takes the
   number of CPUs this process may run on. Initial state is bound: values from
   init.safetensors where it exists, zeros and numbers from the manifest. */
mpt_status mpt_package_open(const char *directory, int threads,
                            mpt_package **out);
void mpt_close(mpt_package *package);

const char *mpt_package_graph_hash(const mpt_package *package);
const char *mpt_engine(const mpt_package *package);
int mpt_thread_count(const mpt_package *package);
/* Bytes of the arena, and of arguments plus constants. */
size_t mpt_arena_bytes(const mpt_package *package);
size_t mpt_state_bytes(const mpt_package *package);

int mpt_argument_count(const mpt_package *package);
int mpt_result_count(const mpt_package *package);
mpt_status mpt_argument_info(const mpt_package *package, int index,
                             mpt_tensor_info *out);
mpt_status mpt_result_info(const mpt_package *package, int index,
                           mpt_tensor_info *out);

/* Copies a dense row-major tensor into an argument. Shape and dtype must be the
   manifest's. Values of inputs and labels are checked (range, NaN, inf) before
   anything is copied. */
mpt_status mpt_set_argument(mpt_package *package, const char *name,
                            const void *data, int dtype, int rank,
                            const int64_t *shape);
/* The argument's own memory, to be filled in place; counts as set. The next
   step checks its values. */
mpt_status mpt_argument_data(mpt_package *package, const char *name,
                             void **out);
/* As mpt_argument_data, to read: does not count as set. */
mpt_status mpt_argument_read(const mpt_package *package, const char *name,
                             const void **out);

/* Checks every input, then runs one step. rng.step is set to the step number,
   which the step then increases. A failure before the first launch changes
   nothing; after one during the launches, load a checkpoint. */
mpt_status mpt_step(mpt_package *package);
/* The memory of a result; holds the last step's value. After mpt_run_gradient:
   that run's, and MPT_ERROR_STATE for a result that it does not compute. */
mpt_status mpt_result(const mpt_package *package, const char *name,
                      const void **out);
int64_t mpt_step_number(const mpt_package *package);

/* Checks every input as mpt_step does, then runs the forward and the backward
   pass with rng.step = `rng_step` (at least 0) and leaves all arguments as they
   are, and the step number: launches that write an argument, and those that
   read what such a launch would have written, do not run. Fails with
   MPT_ERROR_UNSUPPORTED on a package without a table of gradients, or where the
   loss or a gradient depends on a launch that must not run; it is named. */
mpt_status mpt_run_gradient(mpt_package *package, int64_t rng_step);
/* The gradients that a step computes, in the order of the manifest: one for
   each trained parameter, under its name, with its shape and dtype. */
int mpt_gradient_count(const mpt_package *package);
mpt_status mpt_gradient_info(const mpt_package *package, int index,
                             mpt_tensor_info *out);
/* d loss / d parameter before clipping, dense and row-major, in the package's
   memory; MPT_ERROR_STATE unless the last thing run was mpt_run_gradient. */
mpt_status mpt_gradient(const mpt_package *package, const char *parameter,
                        const float **out);

/* Checkpoints and weights are safetensors files, written beside and then
   renamed. A load checks names, shapes, dtypes, offsets and the graph's hash
   before it changes any state. */
mpt_status mpt_save_checkpoint(const mpt_package *package, const char *path);
mpt_status mpt_load_checkpoint(mpt_package *package, const char *path);
/* Parameters only, from a file that may hold more. */
mpt_status mpt_load_parameters(mpt_package *package, const char *path);
mpt_status mpt_export_weights(const mpt_package *package, const char *path);

/* NULL removes the observer. */
mpt_status mpt_set_observer(mpt_package *package, mpt_observer observer,
                            void *user);

/* Turns per-launch timing on (and its sums to zero) or off. */
mpt_status mpt_profile_launches(mpt_package *package, int enable);
int mpt_launch_count(const mpt_package *package);
mpt_status mpt_get_launch_info(const mpt_package *package, int index,
                               mpt_launch_info *out);

#ifdef __cplusplus
}
#endif

#endif /* MPT_RUNTIME_MPT_H */
