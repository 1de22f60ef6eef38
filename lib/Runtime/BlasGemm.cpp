//===- BlasGemm.cpp - products through OpenBLAS ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// OpenBLAS is opened on first use rather than linked: it starts its threads
// when it is loaded, and here it has to stay on ours. It picks the kernels for
// this CPU itself; OPENBLAS_CORETYPE overrides its choice.
//
//===----------------------------------------------------------------------===//

#include "Products.h"

#include <cstdlib>
#include <dlfcn.h>
#include <mutex>

namespace mpt::rt {

namespace {

enum { RowMajor = 101, NoTrans = 111, Trans = 112 };
using Sgemm = void (*)(int order, int transA, int transB, int m, int n, int k,
                       float alpha, const float *a, int lda, const float *b,
                       int ldb, float beta, float *c, int ldc);

Sgemm sgemm = nullptr;

/// Sets an environment variable while it lives, unless it is set already.
class ScopedEnv {
public:
  ScopedEnv(const char *name, const char *value) : name(name) {
    mine = !std::getenv(name);
    if (mine)
      ::setenv(name, value, 0);
  }
  ~ScopedEnv() {
    if (mine)
      ::unsetenv(name);
  }

private:
  const char *name;
  bool mine;
};

void *openLibrary() {
  if (const char *named = std::getenv("MPT_BLAS_LIBRARY"))
    return ::dlopen(named, RTLD_NOW | RTLD_LOCAL);
  for (const char *name : {"libopenblas.so.0", "libopenblas.so"})
    if (void *library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL))
      return library;
  return nullptr;
}

void loadBlas() {
  ScopedEnv threads("OPENBLAS_NUM_THREADS", "1");
  void *library = openLibrary();
  if (!library)
    fail(MPT_ERROR_UNSUPPORTED,
         "engine 'blas' needs libopenblas.so.0 (set MPT_BLAS_LIBRARY, or build "
         "the package with --engine=reference): ",
         ::dlerror());
  auto *symbol = ::dlsym(library, "cblas_sgemm");
  if (!symbol)
    fail(MPT_ERROR_UNSUPPORTED, "the BLAS library lacks cblas_sgemm");
  // Loaded before us with other settings, it still has to stay on our threads.
  if (auto *setThreads = ::dlsym(library, "openblas_set_num_threads"))
    reinterpret_cast<void (*)(int)>(setThreads)(1);
  sgemm = reinterpret_cast<Sgemm>(symbol);
}

/// Trans flag and leading dimension of an operand of rows x columns.
struct BlasLayout {
  BlasLayout(const Operand<const float> &o, int64_t rows, int64_t columns) {
    bool plain =
        (o.columns == 1 || columns == 1) && (rows == 1 || o.rows >= columns);
    trans = plain ? NoTrans : Trans;
    int64_t outer = plain ? rows : columns, inner = plain ? columns : rows;
    int64_t stride = plain ? o.rows : o.columns;
    ld = static_cast<int>(outer == 1 ? std::max<int64_t>(inner, 1) : stride);
  }
  int trans, ld;
};

void run(const Product &p) {
  BlasLayout lhs(p.lhs, p.m, p.k), rhs(p.rhs, p.k, p.n);
  int ldc = static_cast<int>(p.m == 1 ? p.n : p.result.rows);
  sgemm(RowMajor, lhs.trans, rhs.trans, int(p.m), int(p.n), int(p.k), 1.0f,
        p.lhs.data, lhs.ld, p.rhs.data, rhs.ld, 0.0f, p.result.data, ldc);
}

} // namespace

Gemm blasGemm() {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (!sgemm)
    loadBlas();
  return run;
}

} // namespace mpt::rt
