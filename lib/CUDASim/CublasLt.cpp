//===- CublasLt.cpp - cuBLASLt's products on the CPU ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Products in f32: each element sums over ascending k with one fma per term,
// and the scales are applied to the sum. The real library sums in another order
// and on Hopper keeps fewer bits of FP8 sums, so its results differ in the last
// places. What its documentation rules out (FP8 not TN, rows not aligned, two
// E5M2 operands) is refused as it would be; the reason goes to stderr.
//
//===----------------------------------------------------------------------===//

#include "mpt/CUDASim/CublasLt.h"
#include "Internal.h"
#include "mpt/Numerics/Formats.h"

#include <algorithm>
#include <cstdio>

using namespace mpt::sim;

struct cublasLtContext {};

struct cublasLtMatmulDescOpaque_t {
  int32_t transA = CUBLAS_OP_N, transB = CUBLAS_OP_N;
  const float *scaleA = nullptr, *scaleB = nullptr;
  int8_t fastAccum = 0;
};

struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t ld;
  int32_t batch = 1;
  int64_t stride = 0;
};

struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Desc = cublasLtMatmulDescOpaque_t;

/// One product as it was queued: what the handles say may change later.
struct Product {
  Desc desc;
  Layout a, b, c, d;
  float alpha, beta;
  const void *dataA, *dataB;
  const float *dataC;
  float *dataD;
  std::string name;

  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.columns; }
  uint64_t k() const { return desc.transA == CUBLAS_OP_T ? a.rows : a.columns; }
};

size_t bytesOf(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1;
}

bool isFP8(cudaDataType_t type) {
  return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2;
}

cublasStatus_t refuse(cublasStatus_t status, const std::string &why) {
  std::fprintf(stderr, "cuda simulation: cuBLASLt: %s\n", why.c_str());
  return status;
}

template <typename T>
cublasStatus_t assign(T &to, const void *value, size_t bytes) {
  if (bytes != sizeof(T))
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "an attribute of " + std::to_string(sizeof(T)) +
                      " bytes is set with " + std::to_string(bytes));
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

//===----------------------------------------------------------------------===//
// What is accepted
//===----------------------------------------------------------------------===//

/// Sizes that do not fit each other.
std::string checkSizes(const Product &p) {
  auto size = [](const char *name, const Layout &one) {
    return std::string(name) + " is " + std::to_string(one.rows) + "x" +
           std::to_string(one.columns) + " with ld " + std::to_string(one.ld);
  };
  uint64_t rowsA = p.desc.transA == CUBLAS_OP_T ? p.a.columns : p.a.rows;
  uint64_t rowsB = p.desc.transB == CUBLAS_OP_T ? p.b.columns : p.b.rows;
  uint64_t columnsB = p.desc.transB == CUBLAS_OP_T ? p.b.rows : p.b.columns;
  bool fits = rowsA == p.m() && rowsB == p.k() && columnsB == p.n() &&
              p.c.rows == p.d.rows && p.c.columns == p.d.columns;
  for (const Layout *one : {&p.a, &p.b, &p.c, &p.d})
    fits = fits && one->ld >= static_cast<int64_t>(one->rows) && one->rows &&
           one->columns && one->batch == p.d.batch;
  return fits ? ""
              : "sizes do not fit: " + size("A", p.a) + ", " + size("B", p.b) +
                    ", " + size("D", p.d);
}

/// Combinations of types and layouts that the library has no kernels for.
std::string checkSupport(const Product &p) {
  if (p.c.type != CUDA_R_32F || p.d.type != CUDA_R_32F)
    return "the simulator knows f32 results only";
  if (p.desc.transA != CUBLAS_OP_N && p.desc.transA != CUBLAS_OP_T)
    return "unknown operation on A";
  if (!isFP8(p.a.type) && !isFP8(p.b.type))
    return p.a.type == p.b.type ? "" : "A and B have different types";
  if (!isFP8(p.a.type) || !isFP8(p.b.type) ||
      (p.a.type == CUDA_R_8F_E5M2 && p.b.type == CUDA_R_8F_E5M2))
    return "FP8 multiplies E4M3·E4M3, E4M3·E5M2 and E5M2·E4M3 only";
  if (p.desc.transA != CUBLAS_OP_T || p.desc.transB != CUBLAS_OP_N)
    return "FP8 needs A transposed and B not (TN)";
  if (p.m() % 16 || p.k() % 16)
    return "FP8 needs m and k to be multiples of 16, found m " +
           std::to_string(p.m()) + ", k " + std::to_string(p.k());
  for (const Layout *one : {&p.a, &p.b, &p.c, &p.d})
    if (one->ld * static_cast<int64_t>(bytesOf(one->type)) % 16 ||
        one->stride * static_cast<int64_t>(bytesOf(one->type)) % 16)
      return "FP8 needs columns and batches at multiples of 16 bytes";
  return "";
}

/// Stands for the problem that an algorithm was chosen for.
uint64_t signature(const Product &p) {
  uint64_t hash = 1469598103934665603u;
  auto add = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  add(static_cast<uint64_t>(p.desc.transA));
  add(static_cast<uint64_t>(p.desc.transB));
  add(static_cast<uint64_t>(p.desc.fastAccum));
  for (const Layout *one : {&p.a, &p.b, &p.c, &p.d}) {
    add(one->type);
    add(one->rows);
    add(one->columns);
    add(static_cast<uint64_t>(one->ld));
    add(static_cast<uint64_t>(one->batch));
    add(static_cast<uint64_t>(one->stride));
  }
  return hash;
}

/// Memory that one operand takes does not lie in one allocation.
std::string checkMemory(const char *name, const void *data,
                        const Layout &layout) {
  size_t last = static_cast<size_t>(layout.batch - 1) *
                    static_cast<size_t>(layout.stride) +
                (layout.columns - 1) * static_cast<size_t>(layout.ld) +
                layout.rows;
  std::string wrong = checkDeviceRange(data, last * bytesOf(layout.type));
  return wrong.empty() ? "" : std::string(name) + ": " + wrong;
}

//===----------------------------------------------------------------------===//
// Multiplication
//===----------------------------------------------------------------------===//

float decode(cudaDataType_t type, const void *data, size_t at) {
  switch (type) {
  case CUDA_R_16BF:
    return mpt::num::decodeBF16(
        uint32_t(static_cast<const uint16_t *>(data)[at]));
  case CUDA_R_8F_E4M3:
    return mpt::num::decodeE4M3(
        uint32_t(static_cast<const uint8_t *>(data)[at]));
  case CUDA_R_8F_E5M2:
    return mpt::num::decodeE5M2(
        uint32_t(static_cast<const uint8_t *>(data)[at]));
  default:
    return static_cast<const float *>(data)[at];
  }
}

/// The matrix of the batch as f32 without gaps: op(X), by columns.
std::vector<float> unpack(const void *data, const Layout &layout, int64_t batch,
                          bool transpose) {
  std::vector<float> result(layout.rows * layout.columns);
  size_t base = static_cast<size_t>(batch * layout.stride);
  uint64_t rows = layout.rows, columns = layout.columns;
  for (uint64_t c = 0; c < columns; ++c)
    for (uint64_t r = 0; r < rows; ++r)
      result[transpose ? r * columns + c : c * rows + r] = decode(
          layout.type, data, base + c * static_cast<size_t>(layout.ld) + r);
  return result;
}

constexpr uint64_t tileRows = 32, tileColumns = 4;

/// sums[j][i] = sum over ascending k of a[k][i]·b[j][k] for a tile. `a` has
/// rows of `m`, `b` rows of `k`. One fma per term.
template <bool Full>
__attribute__((always_inline)) inline void
multiplyTile(const float *a, const float *b, uint64_t m, uint64_t k,
             uint64_t rows, uint64_t columns,
             float (&sums)[tileColumns][tileRows]) {
  if (Full)
    rows = tileRows, columns = tileColumns;
  for (auto &column : sums)
    std::fill_n(column, tileRows, 0.0f);
  for (uint64_t l = 0; l < k; ++l)
    for (uint64_t j = 0; j < columns; ++j)
      for (uint64_t i = 0; i < rows; ++i)
        sums[j][i] = __builtin_fmaf(a[l * m + i], b[j * k + l], sums[j][i]);
}

/// All of D for one matrix of the batch.
__attribute__((always_inline)) inline void
multiplyMatrix(const Product &p, const float *a, const float *b, const float *c,
               float *d, float scale) {
  uint64_t m = p.m(), n = p.n(), k = p.k();
  float sums[tileColumns][tileRows];
  for (uint64_t j = 0; j < n; j += tileColumns)
    for (uint64_t i = 0; i < m; i += tileRows) {
      uint64_t rows = std::min(tileRows, m - i);
      uint64_t columns = std::min(tileColumns, n - j);
      if (rows == tileRows && columns == tileColumns)
        multiplyTile<true>(a + i, b + j * k, m, k, rows, columns, sums);
      else
        multiplyTile<false>(a + i, b + j * k, m, k, rows, columns, sums);
      for (uint64_t y = 0; y < columns; ++y)
        for (uint64_t x = 0; x < rows; ++x) {
          float value = scale * sums[y][x];
          size_t column = static_cast<size_t>(j + y);
          if (p.beta != 0.0f)
            value = value +
                    p.beta * c[column * static_cast<size_t>(p.c.ld) + i + x];
          d[column * static_cast<size_t>(p.d.ld) + i + x] = value;
        }
    }
}

void multiplyPlain(const Product &p, const float *a, const float *b,
                   const float *c, float *d, float scale) {
  multiplyMatrix(p, a, b, c, d, scale);
}

#if defined(__x86_64__)
/// The same in vector registers: an fma is an fma, so the bits are the same.
__attribute__((target("avx2,fma"))) void
multiplyVector(const Product &p, const float *a, const float *b, const float *c,
               float *d, float scale) {
  multiplyMatrix(p, a, b, c, d, scale);
}
#endif

void multiply(const Product &p) {
  auto *kernel = multiplyPlain;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    kernel = multiplyVector;
#endif
  float scale = p.alpha;
  if (p.desc.scaleA || p.desc.scaleB)
    scale *= (p.desc.scaleA ? *p.desc.scaleA : 1.0f) *
             (p.desc.scaleB ? *p.desc.scaleB : 1.0f);
  std::vector<float> a, b;
  for (int64_t i = 0; i < p.d.batch; ++i) {
    if (i == 0 || p.a.stride)
      a = unpack(p.dataA, p.a, i, p.desc.transA == CUBLAS_OP_T);
    if (i == 0 || p.b.stride)
      b = unpack(p.dataB, p.b, i, p.desc.transB == CUBLAS_OP_T);
    kernel(p, a.data(), b.data(), p.dataC + i * p.c.stride,
           p.dataD + i * p.d.stride, scale);
  }
}

/// Calls `visit` with each column's bytes; stops when it returns false.
template <typename Visit>
bool visitColumns(const void *data, const Layout &layout, Visit visit) {
  size_t width = bytesOf(layout.type);
  for (int64_t i = 0; i < layout.batch; ++i)
    for (uint64_t column = 0; column < layout.columns; ++column) {
      int64_t offset =
          i * layout.stride + static_cast<int64_t>(column) * layout.ld;
      if (!visit(reinterpret_cast<uintptr_t>(data) +
                     static_cast<uint64_t>(offset) * width,
                 layout.rows * width))
        return false;
    }
  return true;
}

cudaError_t runProduct(const Product &p) {
  if (faults(p.name))
    return cudaSuccess;
  callHook(p.name, 0);
  if (checker().isWritten &&
      !(visitColumns(p.dataA, p.a, checker().isWritten) &&
        visitColumns(p.dataB, p.b, checker().isWritten)))
    return fault(cudaErrorLaunchFailure,
                 "product '" + p.name +
                     "' reads bytes that were never written");
  multiply(p);
  if (checker().written)
    visitColumns(p.dataD, p.d, [](uintptr_t address, size_t bytes) {
      checker().written(address, bytes);
      return true;
    });
  callHook(p.name, 1);
  return cudaSuccess;
}

} // namespace

//===----------------------------------------------------------------------===//
// Handles and attributes
//===----------------------------------------------------------------------===//

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc,
                                        cublasComputeType_t compute,
                                        cudaDataType_t scaleType) {
  if (compute != CUBLAS_COMPUTE_32F || scaleType != CUDA_R_32F)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "compute and scale must be f32");
  *desc = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                               cublasLtMatmulDescAttributes_t attribute,
                               const void *value, size_t bytes) {
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return assign(desc->transA, value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return assign(desc->transB, value, bytes);
  case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
    return assign(desc->scaleA, value, bytes);
  case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
    return assign(desc->scaleB, value, bytes);
  case CUBLASLT_MATMUL_DESC_FAST_ACCUM:
    return assign(desc->fastAccum, value, bytes);
  }
  return refuse(CUBLAS_STATUS_INVALID_VALUE, "unknown attribute of a product");
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout,
                                          cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                 cublasLtMatrixLayoutAttribute_t attribute,
                                 const void *value, size_t bytes) {
  switch (attribute) {
  case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
    return assign(layout->batch, value, bytes);
  case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
    return assign(layout->stride, value, bytes);
  }
  return refuse(CUBLAS_STATUS_INVALID_VALUE, "unknown attribute of a layout");
}

cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference,
    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
    size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return assign(preference->workspace, value, bytes);
  int which = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (which < 0 || which > 3)
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "unknown attribute of a preference");
  return assign(preference->alignment[which], value, bytes);
}

//===----------------------------------------------------------------------===//
// Heuristic and product
//===----------------------------------------------------------------------===//

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
    cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
    int requested, cublasLtMatmulHeuristicResult_t *results, int *returned) {
  *returned = 0;
  Product p = {*desc, *a,      *b,      *c,      *d,      1.0f,
               0.0f,  nullptr, nullptr, nullptr, nullptr, ""};
  std::string wrong = checkSizes(p);
  if (!wrong.empty())
    return refuse(CUBLAS_STATUS_INVALID_VALUE, wrong);
  wrong = checkSupport(p);
  for (int i = 0; i < 4 && wrong.empty() && isFP8(a->type); ++i)
    if (preference->alignment[i] < 16)
      wrong = "FP8 needs operands aligned to 16 bytes";
  if (!wrong.empty())
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, wrong);
  if (requested < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  results[0] = {};
  results[0].algo.data[0] = signature(p);
  for (int i = 0; i < 4; ++i)
    results[0].algo.data[1 + i] = preference->alignment[i];
  results[0].wavesCount = 1.0f;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                              const void *alpha, const void *a,
                              cublasLtMatrixLayout_t layoutA, const void *b,
                              cublasLtMatrixLayout_t layoutB, const void *beta,
                              const void *c, cublasLtMatrixLayout_t layoutC,
                              void *d, cublasLtMatrixLayout_t layoutD,
                              const cublasLtMatmulAlgo_t *algo, void *, size_t,
                              cudaStream_t stream) {
  Product p = {*desc,
               *layoutA,
               *layoutB,
               *layoutC,
               *layoutD,
               *static_cast<const float *>(alpha),
               *static_cast<const float *>(beta),
               a,
               b,
               static_cast<const float *>(c),
               static_cast<float *>(d),
               takeProductName()};
  if (deviceState())
    return CUBLAS_STATUS_EXECUTION_FAILED;
  std::string wrong = checkSizes(p);
  if (wrong.empty())
    wrong = checkSupport(p);
  if (wrong.empty() && algo->data[0] != signature(p))
    wrong = "the algorithm was chosen for another problem";
  const void *data[4] = {a, b, c, d};
  for (int i = 0; i < 4 && wrong.empty(); ++i)
    if (reinterpret_cast<uintptr_t>(data[i]) % algo->data[1 + i])
      wrong = "an operand is not aligned as the algorithm was told";
  if (wrong.empty())
    wrong = checkMemory("A", a, p.a);
  if (wrong.empty())
    wrong = checkMemory("B", b, p.b);
  if (wrong.empty())
    wrong = checkMemory("D", d, p.d);
  for (const float *scale : {p.desc.scaleA, p.desc.scaleB})
    if (wrong.empty() && scale && !checkDeviceRange(scale, 4).empty())
      wrong = "scale: " + checkDeviceRange(scale, 4);
  if (!wrong.empty())
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "product '" + p.name + "': " + wrong);
  enqueue(stream, [p = std::move(p)] { return runProduct(p); });
  return CUBLAS_STATUS_SUCCESS;
}
