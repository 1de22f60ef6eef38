//===- SampleKernels.c - kernels of a package for the unit tests ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the compiler would write into kernels.so, by hand.
//
//===----------------------------------------------------------------------===//

#include <stdint.h>

const char mpt_graph_hash[] = "00112233445566aa";

/// y[i] = x[i] + *s for the tasks [begin, end).
void add_scalar(void *const *args, int64_t begin, int64_t end) {
  const float *x = args[0], *s = args[1];
  float *y = args[2];
  for (int64_t i = begin; i < end; ++i)
    y[i] = x[i] + *s;
}

/// *sum = the sum of y's first *n elements; one task.
void sum(void *const *args, int64_t begin, int64_t end) {
  const float *y = args[0];
  const int64_t *n = args[1];
  float *out = args[2];
  *out = 0;
  for (int64_t i = 0; i < *n; ++i)
    *out += y[i];
  (void)begin;
  (void)end;
}
