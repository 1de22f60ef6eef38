//===- HopperMma.h - wgmma --------------------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Asynchronous products of a warpgroup (128 threads, four warps that begin at a
// multiple of four): D[64, N] (+)= A[64, k] * B[N, k]^T with f32 accumulators,
// where k is 32 for FP8 and 16 for BF16. PTX ISA 8.x, "Asynchronous Warpgroup
// Level Matrix Multiply-Accumulate Instructions". Included by Hopper.h.
//
// Thread t of the warpgroup holds, as d[i], row 16 (t / 32) + t % 32 / 4 +
// 8 (i / 2 % 2), column 8 (i / 4) + 2 (t % 4) + i % 2 of D.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_HOPPERMMA_H
#define MPT_CUDA_HOPPERMMA_H

#include "mpt/CUDA/Hopper.h"

namespace mpt {

/// Which row and column of D (the row without its warp's 16 (t / 32)) lane
/// `lane` holds in accumulator i.
MPT_HOPPER constexpr int fragmentRow(int lane, int i) {
  return lane / 4 + 8 * (i / 2 % 2);
}
MPT_HOPPER constexpr int fragmentColumn(int lane, int i) {
  return 8 * (i / 4) + 2 * (lane % 4) + i % 2;
}

/// The descriptor of an operand in shared memory that begins at a multiple of 8
/// spans of its swizzle (32, 64 or 128 bytes): rows of a span, eight of them in
/// `strideBytes`. K-major (rows are m or n): `strideBytes` leads to the next 8
/// rows; `leadingBytes` has no meaning. Along m or n (rows are k, BF16 only):
/// `strideBytes` leads to the next 8 k, `leadingBytes` to the columns behind a
/// span.
MPT_HOPPER uint64_t operandDescriptor(const void *tile, unsigned strideBytes,
                                      unsigned leadingBytes = 16,
                                      Swizzle swizzle = Swizzle::Span128) {
  // 1, 2, 3 for spans of 128, 64, 32 bytes.
  const uint64_t layout = swizzle == Swizzle::Span128  ? 1
                          : swizzle == Swizzle::Span64 ? 2
                                                       : 3;
  return static_cast<uint64_t>((sharedAddress(tile) & 0x3ffff) >> 4) |
         static_cast<uint64_t>(leadingBytes >> 4) << 16 |
         static_cast<uint64_t>(strideBytes >> 4) << 32 | layout << 62;
}

/// The descriptor `bytes` further on (a multiple of 16): 32 for the next k of a
/// K-major operand.
MPT_HOPPER uint64_t advanced(uint64_t descriptor, unsigned bytes) {
  return descriptor + (bytes >> 4);
}

#if defined(__CUDACC__)

// Names of the accumulators in PTX, and the accumulators themselves.
#define MPT_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MPT_REGISTERS_16                                                       \
  MPT_REGISTERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MPT_REGISTERS_24                                                       \
  MPT_REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define MPT_REGISTERS_32                                                       \
  MPT_REGISTERS_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define MPT_REGISTERS_40                                                       \
  MPT_REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define MPT_REGISTERS_48                                                       \
  MPT_REGISTERS_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define MPT_REGISTERS_56                                                       \
  MPT_REGISTERS_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define MPT_REGISTERS_64                                                       \
  MPT_REGISTERS_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define MPT_REGISTERS_128                                                      \
  MPT_REGISTERS_64                                                             \
  ", %64, %65, %66, %67, %68, %69, %70, %71"                                   \
  ", %72, %73, %74, %75, %76, %77, %78, %79"                                   \
  ", %80, %81, %82, %83, %84, %85, %86, %87"                                   \
  ", %88, %89, %90, %91, %92, %93, %94, %95"                                   \
  ", %96, %97, %98, %99, %100, %101, %102, %103"                               \
  ", %104, %105, %106, %107, %108, %109, %110, %111"                           \
  ", %112, %113, %114, %115, %116, %117, %118, %119"                           \
  ", %120, %121, %122, %123, %124, %125, %126, %127"

#define MPT_INOUT_8(d, i)                                                      \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]),  \
      "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define MPT_INOUT_16(d, i) MPT_INOUT_8(d, i), MPT_INOUT_8(d, i + 8)
#define MPT_INOUT_24(d, i) MPT_INOUT_16(d, i), MPT_INOUT_8(d, i + 16)
#define MPT_INOUT_32(d, i) MPT_INOUT_24(d, i), MPT_INOUT_8(d, i + 24)
#define MPT_INOUT_40(d, i) MPT_INOUT_32(d, i), MPT_INOUT_8(d, i + 32)
#define MPT_INOUT_48(d, i) MPT_INOUT_40(d, i), MPT_INOUT_8(d, i + 40)
#define MPT_INOUT_56(d, i) MPT_INOUT_48(d, i), MPT_INOUT_8(d, i + 48)
#define MPT_INOUT_64(d, i) MPT_INOUT_56(d, i), MPT_INOUT_8(d, i + 56)
#define MPT_INOUT_128(d, i) MPT_INOUT_64(d, i), MPT_INOUT_64(d, i + 64)

/// The instruction; A, B, P are the names of operands behind the accumulators.
#define MPT_WGMMA(n, count, kind, A, B, P, tail, ...)                          \
  asm volatile("{\n"                                                           \
               ".reg .pred p;\n"                                               \
               "setp.ne.b32 p, " P ", 0;\n"                                    \
               "wgmma.mma_async.sync.aligned.m64n" #n kind                     \
               " {" MPT_REGISTERS_##count "}, " A ", " B ", p, 1, 1" tail      \
                                          ";\n"                                \
                                          "}"                                  \
               : MPT_INOUT_##count(d, 0)                                       \
               : __VA_ARGS__)

/// BF16 with A in registers.
#define MPT_WGMMA_A(n, count, A, B, P, tail)                                   \
  MPT_WGMMA(n, count, "k16.f32.bf16.bf16", A, B, P, tail, "r"(a[0]),           \
            "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(flag),                \
            "n"(TransposeB))

/// All types for one n; a, b and the flag are operands a1, a2 and a3, the
/// transpositions of BF16 a4 and a5.
#define MPT_WGMMA_TYPES(n, count, a1, a2, a3, a4, a5)                          \
  if constexpr (A == num::Format::BF16)                                        \
    MPT_WGMMA(n, count, "k16.f32.bf16.bf16", a1, a2, a3, ", " a4 ", " a5,      \
              "l"(a), "l"(b), "r"(flag), "n"(TransposeA), "n"(TransposeB));    \
  else if constexpr (A == num::Format::E4M3 && B == num::Format::E4M3)         \
    MPT_WGMMA(n, count, "k32.f32.e4m3.e4m3", a1, a2, a3, "", "l"(a), "l"(b),   \
              "r"(flag));                                                      \
  else if constexpr (A == num::Format::E4M3)                                   \
    MPT_WGMMA(n, count, "k32.f32.e4m3.e5m2", a1, a2, a3, "", "l"(a), "l"(b),   \
              "r"(flag));                                                      \
  else if constexpr (B == num::Format::E4M3)                                   \
    MPT_WGMMA(n, count, "k32.f32.e5m2.e4m3", a1, a2, a3, "", "l"(a), "l"(b),   \
              "r"(flag));                                                      \
  else                                                                         \
    MPT_WGMMA(n, count, "k32.f32.e5m2.e5m2", a1, a2, a3, "", "l"(a), "l"(b),   \
              "r"(flag))

#endif

/// Orders uses of registers in front of it (accumulators, A) with the products
/// behind it. Comes before the first product and after each use.
MPT_HOPPER void fenceMma() {
#if defined(__CUDACC__)
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
#else
  sim::wgmmaFence();
#endif
}

/// Ends a group of products.
MPT_HOPPER void commitMma() {
#if defined(__CUDACC__)
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
#else
  sim::wgmmaCommit();
#endif
}

/// Waits until at most `Pending` groups are unfinished. `d` are accumulators
/// that the code behind may use: the compiler must not move that to the front.
template <int Pending, int Count>
MPT_HOPPER void waitMma(float (&d)[Count] MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Pending) : "memory");
  MPT_UNROLL
  for (int i = 0; i < Count; ++i)
    asm volatile("" : "+f"(d[i]) : : "memory");
#else
  (void)d;
  sim::wgmmaWait(Pending MPT_SITE_ARG);
#endif
}

/// Issues d = A * B^T (+ d if `accumulate`) for operands in shared memory. N is
/// 32, 64, 128 or 256. All threads of the warpgroup give the same.
template <num::Format A, num::Format B, int N, bool TransposeA = false,
          bool TransposeB = false>
MPT_HOPPER void issueMma(float (&d)[N / 2], uint64_t a, uint64_t b,
                         bool accumulate MPT_SITE_PARAM) {
  static_assert(N == 32 || N == 64 || N == 128 || N == 256, "no such product");
  static_assert((A == num::Format::BF16) == (B == num::Format::BF16),
                "BF16 does not mix with FP8");
  static_assert(A == num::Format::BF16 || (!TransposeA && !TransposeB),
                "FP8 operands are K-major");
#if defined(__CUDACC__)
  const uint32_t flag = accumulate;
  if constexpr (N == 32) {
    MPT_WGMMA_TYPES(32, 16, "%16", "%17", "%18", "%19", "%20");
  } else if constexpr (N == 64) {
    MPT_WGMMA_TYPES(64, 32, "%32", "%33", "%34", "%35", "%36");
  } else if constexpr (N == 128) {
    MPT_WGMMA_TYPES(128, 64, "%64", "%65", "%66", "%67", "%68");
  } else {
    MPT_WGMMA_TYPES(256, 128, "%128", "%129", "%130", "%131", "%132");
  }
#else
  sim::wgmmaIssue({N, A, B, TransposeA, TransposeB}, d, a, nullptr, b,
                  accumulate MPT_SITE_ARG);
#endif
}

/// The same in BF16 with A[64, 16] in registers: a[i] holds, as two BF16 codes
/// (the lower half first), what accumulators 2i and 2i + 1 of a D[64, 16]
/// would. N is 32 to 128 in steps of 16.
template <int N, bool TransposeB = false>
MPT_HOPPER void issueMmaA(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
                          bool accumulate MPT_SITE_PARAM) {
  static_assert(N >= 32 && N <= 128 && N % 16 == 0, "no such product");
#if defined(__CUDACC__)
  const uint32_t flag = accumulate;
  if constexpr (N == 32)
    MPT_WGMMA_A(32, 16, "{%16, %17, %18, %19}", "%20", "%21", ", %22");
  else if constexpr (N == 48)
    MPT_WGMMA_A(48, 24, "{%24, %25, %26, %27}", "%28", "%29", ", %30");
  else if constexpr (N == 64)
    MPT_WGMMA_A(64, 32, "{%32, %33, %34, %35}", "%36", "%37", ", %38");
  else if constexpr (N == 80)
    MPT_WGMMA_A(80, 40, "{%40, %41, %42, %43}", "%44", "%45", ", %46");
  else if constexpr (N == 96)
    MPT_WGMMA_A(96, 48, "{%48, %49, %50, %51}", "%52", "%53", ", %54");
  else if constexpr (N == 112)
    MPT_WGMMA_A(112, 56, "{%56, %57, %58, %59}", "%60", "%61", ", %62");
  else if constexpr (N == 128)
    MPT_WGMMA_A(128, 64, "{%64, %65, %66, %67}", "%68", "%69", ", %70");
#else
  sim::wgmmaIssue({N, num::Format::BF16, num::Format::BF16, false, TransposeB},
                  d, 0, a, b, accumulate MPT_SITE_ARG);
#endif
}

#if defined(__CUDACC__)
#undef MPT_WGMMA_TYPES
#undef MPT_WGMMA_A
#undef MPT_WGMMA
#undef MPT_INOUT_128
#undef MPT_INOUT_64
#undef MPT_INOUT_56
#undef MPT_INOUT_48
#undef MPT_INOUT_40
#undef MPT_INOUT_32
#undef MPT_INOUT_24
#undef MPT_INOUT_16
#undef MPT_INOUT_8
#undef MPT_REGISTERS_128
#undef MPT_REGISTERS_64
#undef MPT_REGISTERS_56
#undef MPT_REGISTERS_48
#undef MPT_REGISTERS_40
#undef MPT_REGISTERS_32
#undef MPT_REGISTERS_24
#undef MPT_REGISTERS_16
#undef MPT_REGISTERS_8
#endif

} // namespace mpt

#endif // MPT_CUDA_HOPPERMMA_H
