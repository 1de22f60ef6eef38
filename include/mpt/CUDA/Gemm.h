//===- Gemm.h - Matrix products for sm_90a ----------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// D[m, n] = alpha * A[m, k] * B[n, k]^T in FP8 or BF16 with f32 accumulation.
// Operands are contiguous along k; one in BF16 may also be held turned, as
// A[k, m] or B[k, n]. A persistent kernel of three warpgroups: one thread of
// the first keeps a ring of stages filled by tensor copies; the other two each
// multiply 64 rows of a 128-row tile with wgmma and show the result to an
// epilogue (GemmEpilogue.h). docs/cuda-gemm.md has the design.
//
// Sums: each wgmma adds 32 (BF16: 16) products to the accumulator, k ascending.
// With Promote, the sum of each 128 k is added to a second f32 accumulator, as
// the tensor cores keep fewer bits of FP8 sums.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_GEMM_H
#define MPT_CUDA_GEMM_H

#include "mpt/CUDA/GemmEpilogue.h"

#include <climits>

namespace mpt {
namespace gemm {

constexpr int tileM = 128, consumers = 2;
constexpr int threads = warpgroupThreads * (1 + consumers);
/// Bytes of k in a stage: the span of the swizzle.
constexpr int rowBytes = 128;
constexpr int sharedLimit = 227 * 1024;
/// Tiles along m that are worked on next to each other, so that they share B's
/// tiles in the L2 cache.
constexpr int groupM = 8;

/// TurnedA, TurnedB (BF16 only): the operand is held as [k, m] or [k, n].
template <num::Format FormatA, num::Format FormatB, int TileN, int Stages,
          bool Promote, bool TurnedA = false, bool TurnedB = false>
struct Config {
  static constexpr num::Format a = FormatA, b = FormatB;
  static constexpr int tileN = TileN, stages = Stages;
  static constexpr bool promote = Promote;
  static constexpr bool turnedA = TurnedA, turnedB = TurnedB;
  /// Elements of k in a stage and in a wgmma, and bytes of a stage.
  static constexpr int stageK =
      rowBytes / (FormatA == num::Format::BF16 ? 2 : 1);
  static constexpr int bytesA = tileM * rowBytes, bytesB = TileN * rowBytes;
  static constexpr int stageBytes = bytesA + bytesB;
  static_assert(!Promote || TileN <= 128, "a second accumulator would spill");
  static_assert((!TurnedA && !TurnedB) || FormatA == num::Format::BF16,
                "FP8 operands are contiguous along k");
};

/// A turned operand's tile is boxes of so many columns, each [stageK, 64].
constexpr int boxColumns = 64;

/// Shared memory of a block: stages, staging of the epilogue, mbarriers, and
/// what aligning them may take.
template <typename C, typename Epilogue> constexpr int sharedBytes() {
  return 1024 + C::stages * C::stageBytes +
         consumers * Epilogue::stagingPerColumn * C::tileN + 2 * C::stages * 8;
}

struct Args {
  int m, n, k;
  float alpha;
  /// Factors of D in device memory (the inverse scales of A and B), or null.
  const float *scaleA, *scaleB;
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(scaleA);
    visit(scaleB);
  }
};

//===----------------------------------------------------------------------===//
// Tiles and stages
//===----------------------------------------------------------------------===//

/// The order in which a grid takes the tiles of D.
struct Schedule {
  int tilesM, tilesN;
  __device__ __forceinline__ Schedule(int m, int n, int tileN)
      : tilesM((m + tileM - 1) / tileM), tilesN((n + tileN - 1) / tileN) {}
  __device__ __forceinline__ int count() const { return tilesM * tilesN; }
  /// The tile of `index` along m and along n.
  __device__ __forceinline__ void at(int index, int &m, int &n) const {
    int first = index / (groupM * tilesN) * groupM;
    int rows = min(groupM, tilesM - first);
    int within = index - first * tilesN;
    m = first + within % rows;
    n = within / rows;
  }
};

/// The ring of stages: `full` counts the copies' bytes, `empty` the warps that
/// are done with a stage. Both sides go through it in step.
template <typename C> struct Ring {
  unsigned char *tiles;
  uint64_t *full, *empty;
  int stage = 0;
  unsigned phase = 0;

  __device__ __forceinline__ Ring(unsigned char *tiles, uint64_t *barriers)
      : tiles(tiles), full(barriers), empty(barriers + C::stages) {}
  __device__ __forceinline__ void init() {
    for (int i = 0; i < C::stages; ++i) {
      initBarrier(full + i, 1);
      initBarrier(empty + i, consumers * 4);
    }
    fenceBarrierInit();
  }
  __device__ __forceinline__ unsigned char *a() const {
    return tiles + stage * C::stageBytes;
  }
  __device__ __forceinline__ unsigned char *b() const {
    return a() + C::bytesA;
  }
  __device__ __forceinline__ void advance() {
    if (++stage == C::stages) {
      stage = 0;
      phase ^= 1;
    }
  }
  /// This warp is done with stage `index`.
  __device__ __forceinline__ void release(int index) {
    if (laneId() == 0)
      arrive(empty + index);
  }
};

/// Starts the copies of an operand's tile of `Rows` rows from `row` on.
template <bool Turned, int Rows>
__device__ __forceinline__ void copyOperand(unsigned char *to,
                                            const TensorMap *map, int k,
                                            int row, uint64_t *full) {
  if constexpr (Turned) {
    MPT_UNROLL
    for (int i = 0; i < Rows; i += boxColumns)
      copyTile(to + i * rowBytes, map, row + i, k, full);
  } else {
    copyTile(to, map, k, row, full);
  }
}

/// One thread: keeps the ring filled.
template <typename C>
__device__ __forceinline__ void produce(Ring<C> ring, const TensorMap *mapA,
                                        const TensorMap *mapB,
                                        const Args &args) {
  const Schedule schedule(args.m, args.n, C::tileN);
  for (int index = static_cast<int>(blockIdx.x); index < schedule.count();
       index += static_cast<int>(gridDim.x)) {
    int m, n;
    schedule.at(index, m, n);
    for (int k = 0; k < args.k; k += C::stageK) {
      wait(ring.empty + ring.stage, ring.phase ^ 1);
      arriveExpecting(ring.full + ring.stage, C::stageBytes);
      copyOperand<C::turnedA, tileM>(ring.a(), mapA, k, m * tileM,
                                     ring.full + ring.stage);
      copyOperand<C::turnedB, C::tileN>(ring.b(), mapB, k, n * C::tileN,
                                        ring.full + ring.stage);
      ring.advance();
    }
  }
}

//===----------------------------------------------------------------------===//
// Consumers
//===----------------------------------------------------------------------===//

/// The descriptor of an operand's tile; turned, of boxes that follow each
/// other. The next k of a wgmma are `advanceBytes` further on.
template <bool Turned>
__device__ __forceinline__ uint64_t stageDescriptor(const unsigned char *tile) {
  return Turned ? operandDescriptor(tile, 8 * rowBytes, boxColumns * rowBytes)
                : operandDescriptor(tile, 8 * rowBytes);
}
template <bool Turned>
constexpr unsigned advanceBytes = Turned ? 16 * rowBytes : 32;

/// Issues the products of the ring's stage for the 64 rows of `warpgroup`.
template <typename C>
__device__ __forceinline__ void
multiplyStage(const Ring<C> &ring, int warpgroup, float (&sums)[C::tileN / 2],
              bool accumulate) {
  // A turned box has the 64 rows of a warpgroup, too.
  const uint64_t a = stageDescriptor<C::turnedA>(
      ring.a() + warpgroup * warpgroupRows * rowBytes);
  const uint64_t b = stageDescriptor<C::turnedB>(ring.b());
  fenceMma();
  MPT_UNROLL
  for (int i = 0; i < rowBytes / 32; ++i)
    issueMma<C::a, C::b, C::tileN, C::turnedA, C::turnedB>(
        sums, advanced(a, advanceBytes<C::turnedA> * i),
        advanced(b, advanceBytes<C::turnedB> * i), accumulate || i > 0);
  commitMma();
}

/// The product of one tile; all its stages are released.
template <typename C>
__device__ __forceinline__ void
multiplyTile(Ring<C> &ring, int warpgroup, int k, float (&sums)[C::tileN / 2]) {
  if constexpr (C::promote) {
    float part[C::tileN / 2];
    MPT_UNROLL
    for (int i = 0; i < C::tileN / 2; ++i)
      sums[i] = 0.0f;
    for (int at = 0; at < k; at += C::stageK) {
      wait(ring.full + ring.stage, ring.phase);
      multiplyStage<C>(ring, warpgroup, part, false);
      waitMma<0>(part);
      ring.release(ring.stage);
      ring.advance();
      MPT_UNROLL
      for (int i = 0; i < C::tileN / 2; ++i)
        sums[i] = sums[i] + part[i];
    }
  } else {
    // One group stays in flight; its stage is released a round later.
    int previous = 0;
    for (int at = 0; at < k; at += C::stageK) {
      wait(ring.full + ring.stage, ring.phase);
      multiplyStage<C>(ring, warpgroup, sums, at > 0);
      waitMma<1>(sums);
      if (at > 0)
        ring.release(previous);
      previous = ring.stage;
      ring.advance();
    }
    waitMma<0>(sums);
    ring.release(previous);
  }
}

/// The same number, of which the compiler knows nothing: what follows from it
/// is computed behind this place, and does not take registers in front of it.
__device__ __forceinline__ int opaque(int value) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

/// Shows a warpgroup's part of D to the epilogue.
template <typename C, typename Epilogue>
__device__ __forceinline__ void
visitTile(const Epilogue &epilogue, typename Epilogue::State &state,
          const Tile &tile, int warpgroup, float scale,
          const float (&sums)[C::tileN / 2]) {
  constexpr bool staged = Epilogue::stagingPerColumn > 0;
  const unsigned barrier = 1 + static_cast<unsigned>(warpgroup);
  if constexpr (staged) {
    // The stores of the tile before have read what is overwritten now.
    if (tile.thread == 0)
      waitStoresRead<0>();
    syncNamed(barrier, warpgroupThreads);
  }
  epilogue.template begin<C::tileN>(state, tile);
  const int lane = tile.thread % 32, warpRow = tile.thread / 32 * 16;
  MPT_UNROLL
  for (int i = 0; i < C::tileN / 2; i += 2) {
    const int localRow = warpRow + fragmentRow(lane, i);
    const int localColumn = fragmentColumn(lane, i);
    const int row = tile.row + localRow, column = tile.column + localColumn;
    Pair at = {
        tile,
        row,
        column,
        localRow,
        localColumn,
        i / 2 % 2,
        {row < tile.m && column < tile.n, row < tile.m && column + 1 < tile.n}};
    float v[2] = {scale * sums[i], scale * sums[i + 1]};
    epilogue.template visit<C::tileN>(state, at, v);
  }
  if constexpr (staged) {
    fenceAsyncProxy();
    syncNamed(barrier, warpgroupThreads);
  }
  epilogue.template end<C::tileN>(state, tile);
  if constexpr (staged)
    if (tile.thread == 0)
      commitStores();
}

/// One warpgroup: multiplies its rows of the block's tiles.
template <typename C, typename Epilogue>
__device__ __forceinline__ void consume(Ring<C> ring, const Args &args,
                                        const Epilogue &epilogue, int warpgroup,
                                        unsigned char *staging) {
  const Schedule schedule(args.m, args.n, C::tileN);
  const float scale = args.alpha * ((args.scaleA ? __ldg(args.scaleA) : 1.0f) *
                                    (args.scaleB ? __ldg(args.scaleB) : 1.0f));
  const int thread = static_cast<int>(threadIdx.x) % warpgroupThreads;
  typename Epilogue::State state = {};
  for (int index = static_cast<int>(blockIdx.x); index < schedule.count();
       index += static_cast<int>(gridDim.x)) {
    int m, n;
    schedule.at(index, m, n);
    float sums[C::tileN / 2];
    multiplyTile<C>(ring, warpgroup, args.k, sums);
    Tile tile;
    tile.m = args.m;
    tile.n = args.n;
    tile.row = m * tileM + warpgroup * warpgroupRows;
    tile.column = n * C::tileN;
    tile.columns = C::tileN;
    tile.tileN = n;
    tile.thread = opaque(thread);
    tile.staging = staging;
    visitTile<C>(epilogue, state, tile, warpgroup, scale, sums);
  }
  epilogue.finish(state);
  if constexpr (Epilogue::stagingPerColumn > 0)
    if (thread == 0)
      waitStoresRead<0>();
}

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

/// What a product's kernel does; its parameters are the kernel's own.
template <typename C, typename Epilogue>
__device__ __forceinline__ void
multiply(const TensorMap &mapA, const TensorMap &mapB, const Args &args,
         const Epilogue &epilogue) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  // The swizzle's pattern begins at multiples of 1024.
  unsigned char *tiles =
      dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
  unsigned char *staging = tiles + C::stages * C::stageBytes;
  constexpr int stagingBytes = Epilogue::stagingPerColumn * C::tileN;
  Ring<C> ring(
      tiles, reinterpret_cast<uint64_t *>(staging + consumers * stagingBytes));
  if (threadIdx.x == 0)
    ring.init();
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / warpgroupThreads;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produce<C>(ring, &mapA, &mapB, args);
  } else {
    raiseRegisters<232>();
    consume<C>(ring, args, epilogue, warpgroup - 1,
               staging + (warpgroup - 1) * stagingBytes);
  }
}

template <typename C, typename Epilogue>
__global__ void __launch_bounds__(threads, 1)
    kernel(const __grid_constant__ TensorMap mapA,
           const __grid_constant__ TensorMap mapB,
           const __grid_constant__ Args args,
           const __grid_constant__ Epilogue epilogue) {
  multiply<C>(mapA, mapB, args, epilogue);
}

/// Why the kernel cannot take the sizes, empty if it can. That operands and
/// their rows begin at multiples of 16 bytes is checked with their maps.
inline std::string checkShape(int64_t m, int64_t n, int64_t k) {
  if (m < 1 || n < 1 || k < 1 || m > INT_MAX / 2 || n > INT_MAX / 2 ||
      k > INT_MAX / 2)
    return "product of " + std::to_string(m) + " x " + std::to_string(n) +
           " x " + std::to_string(k) + ", expected positive sizes below 2^30";
  return "";
}

/// The map of an operand [rows, k] (turned: [k, rows]) of which a tile has
/// `tileRows`; the row stride is in elements.
template <typename C, bool Turned>
TensorMapDesc operandMap(num::Format format, const void *base, int rows, int k,
                         int64_t stride, int tileRows) {
  const uint64_t r = static_cast<uint64_t>(rows), d = static_cast<uint64_t>(k);
  const uint64_t step = static_cast<uint64_t>(stride);
  if (Turned)
    return matrixMap(format, base, d, r, step, C::stageK, boxColumns,
                     Swizzle::Span128);
  return matrixMap(format, base, r, d, step, static_cast<unsigned>(tileRows),
                   C::stageK, Swizzle::Span128);
}

/// Tensor maps of A [m, k] and B [n, k] (turned: [k, m] and [k, n]), with row
/// strides in elements.
struct Operands {
  TensorMap a, b;
};
template <typename C>
std::string describe(Operands &operands, const void *a, int64_t strideA,
                     const void *b, int64_t strideB, const Args &args) {
  std::string error = checkShape(args.m, args.n, args.k);
  if (error.empty())
    error = encodeTensorMap(
        operands.a,
        operandMap<C, C::turnedA>(C::a, a, args.m, args.k, strideA, tileM));
  if (error.empty())
    error = encodeTensorMap(
        operands.b,
        operandMap<C, C::turnedB>(C::b, b, args.n, args.k, strideB, C::tileN));
  return error;
}

template <typename Epilogue>
using Kernel = void (*)(const TensorMap, const TensorMap, const Args,
                        const Epilogue);

/// Starts `function`, whose body is multiply<C>, on at most `blocks` blocks
/// (the number of multiprocessors is best); errors as in mpt::launch.
template <typename C, typename Epilogue>
void run(const char *name, Kernel<Epilogue> function, const Operands &operands,
         const Args &args, const Epilogue &epilogue, int blocks,
         cudaStream_t stream) {
  static_assert(sharedBytes<C, Epilogue>() <= sharedLimit,
                "too many stages for the shared memory of a block");
  int64_t tiles = (int64_t(args.m) + tileM - 1) / tileM *
                  ((int64_t(args.n) + C::tileN - 1) / C::tileN);
  if (tiles > INT_MAX / 2) {
    fail(std::string(name) + ": too many tiles");
    return;
  }
  launch(name, function, static_cast<unsigned>(tiles < blocks ? tiles : blocks),
         threads, sharedBytes<C, Epilogue>(), stream, operands.a, operands.b,
         args, epilogue);
}
template <typename C, typename Epilogue>
void run(const char *name, const Operands &operands, const Args &args,
         const Epilogue &epilogue, int blocks, cudaStream_t stream) {
  run<C>(name, Kernel<Epilogue>(kernel<C, Epilogue>), operands, args, epilogue,
         blocks, stream);
}

//===----------------------------------------------------------------------===//
// Products of a package
//===----------------------------------------------------------------------===//

/// How many blocks a persistent kernel gets. The simulator's few blocks take
/// several tiles each; results do not depend on it.
inline int multiprocessors() {
#if defined(__CUDACC__)
  static const int count = [] {
    int device = 0, value = 0;
    check(cudaGetDevice(&device), "device");
    check(
        cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device),
        "multiprocessors");
    return value > 0 ? value : 1;
  }();
  return count;
#else
  return 3;
#endif
}

/// One product of a step: all that its launches need, at static addresses.
template <typename Epilogue> struct Product {
  Operands operands;
  Args args;
  Epilogue epilogue;
};

/// Describes a product when its package is opened; errors carry its name.
template <typename C, typename Epilogue>
void load(Product<Epilogue> &product, const char *name, const void *a,
          int64_t strideA, const void *b, int64_t strideB, const Args &args,
          const Epilogue &epilogue) {
  product.args = args;
  product.epilogue = epilogue;
  std::string error =
      describe<C>(product.operands, a, strideA, b, strideB, args);
  if (error.empty())
    error = product.epilogue.describe(args.m, args.n);
  if (!error.empty())
    fail("product '" + std::string(name) + "': " + error);
}

/// Queues a product that load() described.
template <typename C, typename Epilogue>
void run(const char *name, Kernel<Epilogue> function,
         const Product<Epilogue> &product, cudaStream_t stream) {
  run<C>(name, function, product.operands, product.args, product.epilogue,
         multiprocessors(), stream);
}

} // namespace gemm
} // namespace mpt

#endif // MPT_CUDA_GEMM_H
