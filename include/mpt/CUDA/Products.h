//===- Products.h - Matrix products through cuBLASLt ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The products of a package. Each is described once, in row-major terms, and
// checked when the package is loaded: first against the rules cuBLASLt states,
// then by asking cuBLASLt for an algorithm. A product that is not accepted is
// refused by name; nothing ever falls back to another format or another layout.
// In simulation the same code runs against mpt/CUDASim/CublasLt.h.
//
// cuBLASLt is column-major, so D = A·B is handed over as Dᵀ = Bᵀ·Aᵀ: its "A" is
// our B. Its FP8 products on Hopper need both operands contiguous along K (TN):
// A held as [M, K], B held as [N, K], that is b.transposed and not
// a.transposed.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_PRODUCTS_H
#define MPT_CUDA_PRODUCTS_H

#include "mpt/CUDA/Machine.h"

#if defined(__CUDACC__)
#include <cublasLt.h>
#else
#include "mpt/CUDASim/CublasLt.h"
#endif

#include <algorithm>
#include <utility>
#include <vector>

namespace mpt {

/// Formats a product's operands may have.
enum class ProductType { F32, BF16, E4M3, E5M2 };

/// One operand, or the result: where its rows and batches lie. Strides count
/// elements, not bytes.
struct ProductOperand {
  ProductType type = ProductType::F32;
  /// A: held as [K, M] instead of [M, K]. B: held as [N, K] instead of [K, N].
  bool transposed = false;
  /// Distance of two rows as held; 0 means rows follow each other directly.
  int64_t ld = 0;
  /// Distance of two matrices along each batch dimension, outer first. 0 means
  /// that the batch shares one matrix (not for the result).
  int64_t batchStride[2] = {0, 0};
  /// What the address given to run() is a multiple of, in bytes.
  int64_t alignment = 16;
};

/// D[m, n] = sum over k of A[m, k]·B[k, n], for each matrix of the batch, in
/// f32 (`accumulate`: added to what D holds). FP8 operands stand for their
/// codes times the inverse scales given to run().
struct ProductDesc {
  /// mpt.name of the product; every message carries it.
  const char *name = "";
  int64_t m = 0, n = 0, k = 0;
  int64_t batch[2] = {1, 1};
  ProductOperand a, b, d;
  /// FP8 only: keep partial sums in the tensor core's accumulator (forward
  /// products) instead of promoting them to f32 (gradients).
  bool fastAccumulation = false;
  bool accumulate = false;
};

inline const char *productTypeName(ProductType type) {
  switch (type) {
  case ProductType::F32:
    return "f32";
  case ProductType::BF16:
    return "bf16";
  case ProductType::E4M3:
    return "f8E4M3FN";
  case ProductType::E5M2:
    return "f8E5M2";
  }
  return "?";
}

inline int64_t productTypeBytes(ProductType type) {
  return type == ProductType::F32 ? 4 : type == ProductType::BF16 ? 2 : 1;
}

inline bool isFP8(ProductType type) {
  return type == ProductType::E4M3 || type == ProductType::E5M2;
}

namespace detail {

inline cudaDataType_t cudaType(ProductType type) {
  switch (type) {
  case ProductType::F32:
    return CUDA_R_32F;
  case ProductType::BF16:
    return CUDA_R_16BF;
  case ProductType::E4M3:
    return CUDA_R_8F_E4M3;
  case ProductType::E5M2:
    return CUDA_R_8F_E5M2;
  }
  return CUDA_R_32F;
}

inline const char *cublasStatusName(cublasStatus_t status) {
  static const std::pair<cublasStatus_t, const char *> names[] = {
      {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS"},
      {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED"},
      {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED"},
      {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE"},
      {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH"},
      {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED"},
      {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR"},
      {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED"}};
  for (const auto &one : names)
    if (one.first == status)
      return one.second;
  return "an unknown cuBLAS status";
}

/// The largest power of two that divides `bytes`, at most 256.
inline int64_t alignmentOf(int64_t bytes) {
  return bytes == 0 ? 256 : std::min<int64_t>(bytes & -bytes, 256);
}

/// A description with its defaults filled in: ld, batch dimensions of size one
/// without stride, and the batch arranged as `outer` loop times `inner` batch.
struct ProductPlan {
  ProductDesc desc;
  int64_t outer = 1, inner = 1;
  /// Element strides of A, B and D along the loop and along the batch.
  int64_t outerStride[3] = {0, 0, 0}, innerStride[3] = {0, 0, 0};
};

inline ProductPlan planProduct(ProductDesc desc) {
  ProductPlan plan;
  ProductOperand *operands[3] = {&desc.a, &desc.b, &desc.d};
  int64_t columns[3] = {desc.a.transposed ? desc.m : desc.k,
                        desc.b.transposed ? desc.k : desc.n, desc.n};
  bool regular = true;
  for (int i = 0; i < 3; ++i) {
    ProductOperand &operand = *operands[i];
    if (operand.ld == 0)
      operand.ld = columns[i];
    for (int dim = 0; dim < 2; ++dim)
      if (desc.batch[dim] == 1)
        operand.batchStride[dim] = 0;
    if (operand.batchStride[0] != desc.batch[1] * operand.batchStride[1])
      regular = false;
  }
  // Two batch dimensions become one where all strides allow it; else the
  // smaller one is a loop of calls.
  bool swap = desc.batch[0] > desc.batch[1];
  if (desc.batch[0] == 1 || desc.batch[1] == 1)
    regular = false;
  for (int i = 0; i < 3; ++i) {
    const int64_t *stride = operands[i]->batchStride;
    plan.outerStride[i] = regular ? 0 : stride[swap ? 1 : 0];
    plan.innerStride[i] = regular ? stride[1] : stride[swap ? 0 : 1];
  }
  plan.outer = regular ? 1 : desc.batch[swap ? 1 : 0];
  plan.inner =
      regular ? desc.batch[0] * desc.batch[1] : desc.batch[swap ? 0 : 1];
  plan.desc = desc;
  return plan;
}

/// What is wrong with one operand, empty if nothing.
inline std::string checkOperand(const ProductPlan &plan, int which) {
  static const char *const names[3] = {"A", "B", "D"};
  const ProductDesc &desc = plan.desc;
  const ProductOperand &operand = which == 0   ? desc.a
                                  : which == 1 ? desc.b
                                               : desc.d;
  int64_t columns = which == 0   ? (operand.transposed ? desc.m : desc.k)
                    : which == 1 ? (operand.transposed ? desc.k : desc.n)
                                 : desc.n;
  std::string where = std::string("operand ") + names[which] + ": ";
  int64_t bytes = productTypeBytes(operand.type);
  if (operand.ld < columns)
    return where + "row stride " + std::to_string(operand.ld) +
           " is less than its row of " + std::to_string(columns);
  if (operand.alignment < bytes ||
      (operand.alignment & (operand.alignment - 1)))
    return where + "alignment " + std::to_string(operand.alignment) +
           " is not a power of two of at least " + std::to_string(bytes);
  for (int dim = 0; dim < 2; ++dim)
    if (operand.batchStride[dim] < 0 ||
        (which == 2 && desc.batch[dim] > 1 && operand.batchStride[dim] == 0))
      return where + "batch stride " +
             std::to_string(operand.batchStride[dim]) + " of dimension " +
             std::to_string(dim) + ", expected " +
             (which == 2 ? "more than zero" : "zero or more");
  if (!isFP8(desc.a.type))
    return "";
  // FP8: rows, and every matrix of the batch, start at multiples of 16 bytes.
  int64_t strides[3] = {operand.ld, operand.batchStride[0],
                        operand.batchStride[1]};
  static const char *const what[3] = {"row stride", "batch stride 0",
                                      "batch stride 1"};
  for (int i = 0; i < 3; ++i)
    if (strides[i] * bytes % 16)
      return where + what[i] + " of " + std::to_string(strides[i]) + " " +
             productTypeName(operand.type) +
             " elements is not a multiple of 16 bytes, which FP8 needs";
  if (operand.alignment < 16)
    return where + "alignment " + std::to_string(operand.alignment) +
           " is less than the 16 bytes that FP8 needs";
  return "";
}

/// What cuBLASLt's documentation rules out, empty if nothing.
inline std::string checkPlan(const ProductPlan &plan) {
  const ProductDesc &desc = plan.desc;
  std::string size = std::to_string(desc.m) + "x" + std::to_string(desc.n) +
                     "x" + std::to_string(desc.k);
  if (std::min({desc.m, desc.n, desc.k, desc.batch[0], desc.batch[1]}) < 1 ||
      std::max({desc.m, desc.n, desc.k, desc.a.ld, desc.b.ld, desc.d.ld,
                plan.inner}) > INT32_MAX)
    return "size " + size + " (MxNxK) or batch is out of range";
  if (desc.d.type != ProductType::F32 || desc.d.transposed)
    return "the result must be row-major f32";
  bool fp8 = isFP8(desc.a.type);
  if (fp8 != isFP8(desc.b.type) || (!fp8 && desc.a.type != desc.b.type) ||
      (desc.a.type == ProductType::E5M2 && desc.b.type == ProductType::E5M2))
    return std::string("operand formats ") + productTypeName(desc.a.type) +
           " and " + productTypeName(desc.b.type) +
           " cannot be multiplied: expected f32·f32, bf16·bf16, or FP8 with at "
           "most one f8E5M2";
  if (fp8 && (desc.a.transposed || !desc.b.transposed))
    return std::string("FP8 operands must both be contiguous along K: A held "
                       "as [M, K] (found ") +
           (desc.a.transposed ? "[K, M]" : "[M, K]") +
           ") and B held as [N, K] (found " +
           (desc.b.transposed ? "[N, K]" : "[K, N]") + ")";
  if (fp8 && (desc.k % 16 || desc.n % 16))
    return "FP8 needs N and K to be multiples of 16, found " + size +
           " (MxNxK)";
  if (!fp8 && desc.fastAccumulation)
    return "fast accumulation is for FP8 operands only";
  for (int i = 0; i < 3; ++i) {
    std::string error = checkOperand(plan, i);
    if (!error.empty())
      return error;
  }
  return "";
}

} // namespace detail

/// Owner of the cuBLASLt handle, the workspace and the products of a package.
/// open(), then add() each product (at load), then run() them (in the step; may
/// be captured in a graph). One stream at a time: the workspace is shared.
class Products {
public:
  Products() = default;
  Products(const Products &) = delete;
  Products &operator=(const Products &) = delete;
  ~Products() { close(); }

  /// Returns what went wrong, empty if nothing.
  std::string open(size_t workspace = size_t(32) << 20) {
    close();
    cublasStatus_t status = cublasLtCreate(&handle);
    if (status != CUBLAS_STATUS_SUCCESS)
      return std::string("cublasLtCreate: ") + detail::cublasStatusName(status);
    cudaError_t error = cudaMalloc(&workspacePointer, workspace);
    if (error != cudaSuccess)
      return "cuBLASLt's workspace " + shortOfMemory(workspace) + ": " +
             cudaGetErrorName(error);
    workspaceBytes = workspace;
    return "";
  }

  void close() {
    for (Entry &entry : entries)
      entry.destroy();
    entries.clear();
    if (workspacePointer)
      cudaFree(workspacePointer);
    if (handle)
      cublasLtDestroy(handle);
    workspacePointer = nullptr;
    handle = nullptr;
  }

  /// Describes one more product and asks cuBLASLt for an algorithm; the product
  /// is named from then on by its ordinal (0, 1, ...). Returns why it is
  /// refused, with its name, or an empty string.
  std::string add(const ProductDesc &desc) {
    entries.emplace_back();
    Entry &entry = entries.back();
    entry.name = desc.name;
    entry.plan = detail::planProduct(desc);
    entry.plan.desc.name = nullptr; // the caller's string may go away
    std::string error = detail::checkPlan(entry.plan);
    if (error.empty())
      error = describe(entry);
    if (error.empty())
      error = select(entry);
    if (error.empty())
      return "";
    error = "product '" + entry.name + "': " + error;
    entry.destroy();
    entries.pop_back();
    return error;
  }

  size_t size() const { return entries.size(); }
  const std::string &name(size_t index) const { return entries[index].name; }
  const ProductDesc &desc(size_t index) const {
    return entries[index].plan.desc;
  }

  /// Queues product `index` on `stream`. The inverse scales (value = code times
  /// inverse scale) are f32 in device memory, given for FP8 and only for FP8.
  /// Failures are recorded with the product's name, see firstError().
  void run(size_t index, const void *a, const void *b, float *d,
           const float *inverseScaleA, const float *inverseScaleB,
           cudaStream_t stream) {
    if (failed())
      return;
    Entry &entry = entries[index];
    callLaunchHook(entry.name.c_str(), stream, 0);
    std::string error = checkCall(entry, a, b, d, inverseScaleA, inverseScaleB);
    if (error.empty() && isFP8(entry.plan.desc.a.type))
      error = setScales(entry, inverseScaleA, inverseScaleB);
    for (int64_t i = 0; i < entry.plan.outer && error.empty(); ++i)
      error = multiply(entry, i, a, b, d, stream);
    if (!error.empty())
      fail("product '" + entry.name + "': " + error);
    callLaunchHook(entry.name.c_str(), stream, 1);
  }

private:
  struct Entry {
    std::string name;
    detail::ProductPlan plan;
    cublasLtMatmulDesc_t matmul = nullptr;
    /// Of A, B and D, in our naming.
    cublasLtMatrixLayout_t layout[3] = {nullptr, nullptr, nullptr};
    cublasLtMatmulAlgo_t algorithm;

    void destroy() {
      for (cublasLtMatrixLayout_t one : layout)
        if (one)
          cublasLtMatrixLayoutDestroy(one);
      if (matmul)
        cublasLtMatmulDescDestroy(matmul);
    }
  };

  static std::string failure(const char *call, cublasStatus_t status) {
    return std::string(call) + ": " + detail::cublasStatusName(status);
  }

  template <typename T>
  static cublasStatus_t set(cublasLtMatmulDesc_t matmul,
                            cublasLtMatmulDescAttributes_t attribute, T value) {
    return cublasLtMatmulDescSetAttribute(matmul, attribute, &value,
                                          sizeof(value));
  }

  /// Creates the descriptor and the layouts of A, B and D. Returns the error.
  std::string describe(Entry &entry) {
    const ProductDesc &desc = entry.plan.desc;
    // F32 operands are multiplied in f32: TF32 is never asked for.
    cublasStatus_t status =
        cublasLtMatmulDescCreate(&entry.matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status != CUBLAS_STATUS_SUCCESS)
      return failure("cublasLtMatmulDescCreate", status);
    // cuBLASLt's A is our B. Held as [K, N] row-major, B is the N x K matrix
    // that it wants; held as [N, K], it has to be transposed. Likewise our A.
    int32_t transB = desc.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    int32_t transA = desc.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    int8_t fast = desc.fastAccumulation;
    if ((status = set(entry.matmul, CUBLASLT_MATMUL_DESC_TRANSA, transB)) ||
        (status = set(entry.matmul, CUBLASLT_MATMUL_DESC_TRANSB, transA)) ||
        (isFP8(desc.a.type) &&
         (status = set(entry.matmul, CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast))))
      return failure("cublasLtMatmulDescSetAttribute", status);
    // The scale pointers are part of what is asked for: name some now.
    if (isFP8(desc.a.type)) {
      const float *any = static_cast<const float *>(workspacePointer);
      std::string error = setScales(entry, any, any);
      if (!error.empty())
        return error;
    }
    int64_t rows[3] = {desc.a.transposed ? desc.k : desc.m,
                       desc.b.transposed ? desc.n : desc.k, desc.m};
    int64_t columns[3] = {desc.a.transposed ? desc.m : desc.k,
                          desc.b.transposed ? desc.k : desc.n, desc.n};
    const ProductOperand *operands[3] = {&desc.a, &desc.b, &desc.d};
    int32_t count = static_cast<int32_t>(entry.plan.inner);
    for (int i = 0; i < 3; ++i) {
      int64_t stride = entry.plan.innerStride[i];
      if ((status = cublasLtMatrixLayoutCreate(
               &entry.layout[i], detail::cudaType(operands[i]->type),
               static_cast<uint64_t>(columns[i]),
               static_cast<uint64_t>(rows[i]), operands[i]->ld)) ||
          (status = cublasLtMatrixLayoutSetAttribute(
               entry.layout[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
               sizeof(count))) ||
          (status = cublasLtMatrixLayoutSetAttribute(
               entry.layout[i], CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
               &stride, sizeof(stride))))
        return failure("cublasLtMatrixLayoutCreate", status);
    }
    return "";
  }

  /// Asks cuBLASLt for the algorithm it would take. Returns the error.
  std::string select(Entry &entry) {
    const detail::ProductPlan &plan = entry.plan;
    const ProductOperand *operands[3] = {&plan.desc.a, &plan.desc.b,
                                         &plan.desc.d};
    uint32_t alignment[3];
    for (int i = 0; i < 3; ++i)
      alignment[i] = static_cast<uint32_t>(
          std::min({operands[i]->alignment, int64_t(256),
                    detail::alignmentOf(plan.outerStride[i] *
                                        productTypeBytes(operands[i]->type))}));
    cublasLtMatmulPreference_t preference = nullptr;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status != CUBLAS_STATUS_SUCCESS)
      return failure("cublasLtMatmulPreferenceCreate", status);
    const std::pair<cublasLtMatmulPreferenceAttributes_t, uint32_t> settings[] =
        {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment[1]},
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment[0]},
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment[2]},
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment[2]}};
    status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspaceBytes,
        sizeof(workspaceBytes));
    for (const auto &setting : settings)
      if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(
            preference, setting.first, &setting.second, sizeof(uint32_t));
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    if (status == CUBLAS_STATUS_SUCCESS)
      status = cublasLtMatmulAlgoGetHeuristic(
          handle, entry.matmul, entry.layout[1], entry.layout[0],
          entry.layout[2], entry.layout[2], preference, 1, &result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS && found > 0)
      status = result.state;
    if (status != CUBLAS_STATUS_SUCCESS || found == 0)
      return "cuBLASLt accepts no algorithm for " + text(plan) + " (" +
             (status ? detail::cublasStatusName(status) : "none found") + ")";
    entry.algorithm = result.algo;
    return "";
  }

  /// The product in words, for messages.
  static std::string text(const detail::ProductPlan &plan) {
    const ProductDesc &desc = plan.desc;
    return std::string(productTypeName(desc.a.type)) +
           (desc.a.transposed ? "[K,M]" : "[M,K]") + " x " +
           productTypeName(desc.b.type) +
           (desc.b.transposed ? "[N,K]" : "[K,N]") +
           ", MxNxK = " + std::to_string(desc.m) + "x" +
           std::to_string(desc.n) + "x" + std::to_string(desc.k) + ", batch " +
           std::to_string(plan.outer * plan.inner);
  }

  static std::string checkCall(const Entry &entry, const void *a, const void *b,
                               const void *d, const float *scaleA,
                               const float *scaleB) {
    const ProductDesc &desc = entry.plan.desc;
    const void *pointers[3] = {a, b, d};
    const ProductOperand *operands[3] = {&desc.a, &desc.b, &desc.d};
    static const char *const names[3] = {"A", "B", "D"};
    for (int i = 0; i < 3; ++i)
      if (!pointers[i] || reinterpret_cast<uintptr_t>(pointers[i]) %
                              static_cast<uintptr_t>(operands[i]->alignment))
        return std::string("the address of ") + names[i] +
               " is null or not a multiple of " +
               std::to_string(operands[i]->alignment) + " bytes as described";
    if ((scaleA != nullptr) != isFP8(desc.a.type) ||
        (scaleB != nullptr) != isFP8(desc.b.type))
      return isFP8(desc.a.type) ? "FP8 operands need both inverse scales"
                                : "inverse scales are for FP8 operands only";
    return "";
  }

  static std::string setScales(Entry &entry, const float *scaleA,
                               const float *scaleB) {
    cublasStatus_t status =
        set(entry.matmul, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
            static_cast<const void *>(scaleB));
    if (status == CUBLAS_STATUS_SUCCESS)
      status = set(entry.matmul, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,
                   static_cast<const void *>(scaleA));
    return status ? failure("cublasLtMatmulDescSetAttribute", status) : "";
  }

  std::string multiply(Entry &entry, int64_t outer, const void *a,
                       const void *b, float *d, cudaStream_t stream) {
#if !defined(__CUDACC__)
    sim::nameNextProduct(entry.name.c_str());
#endif
    const detail::ProductPlan &plan = entry.plan;
    const float alpha = 1.0f, beta = plan.desc.accumulate ? 1.0f : 0.0f;
    const char *atA =
        static_cast<const char *>(a) +
        outer * plan.outerStride[0] * productTypeBytes(plan.desc.a.type);
    const char *atB =
        static_cast<const char *>(b) +
        outer * plan.outerStride[1] * productTypeBytes(plan.desc.b.type);
    float *atD = d + outer * plan.outerStride[2];
    cublasStatus_t status = cublasLtMatmul(
        handle, entry.matmul, &alpha, atB, entry.layout[1], atA,
        entry.layout[0], &beta, atD, entry.layout[2], atD, entry.layout[2],
        &entry.algorithm, workspacePointer, workspaceBytes, stream);
    return status ? failure("cublasLtMatmul", status) : "";
  }

  cublasLtHandle_t handle = nullptr;
  void *workspacePointer = nullptr;
  size_t workspaceBytes = 0;
  std::vector<Entry> entries;
};

} // namespace mpt

#endif // MPT_CUDA_PRODUCTS_H
