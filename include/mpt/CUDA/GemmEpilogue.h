//===- GemmEpilogue.h - What a product does with its result -----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Visitors that mpt/CUDA/Gemm.h shows each element of D while it is in
// registers. Chain<Ops...> runs ops one after the other, so an epilogue is read
// as what happens to a value: scale, keep a copy, GELU, amax, quantize, store.
// A generated epilogue may also be one op of its own. An op has
//
//   struct State            what a thread keeps while the kernel runs;
//   stagingPerColumn        bytes of shared memory that a warpgroup needs for
//                           each column of a tile, a multiple of 64;
//   begin(state, tile)      in front of a tile;
//   visit(state, at, v)     two neighbours of one row: changes or stores them;
//   end(state, tile)        behind a tile, when what visit() put into shared
//                           memory is visible to the copy engine;
//   finish(state)           when the block is done;
//   visitPointers(visit)    the device pointers it holds, for the simulator;
//   describe(m, n)          on the host, when D's size is known: fills in what
//                           the copy engine needs, returns what is wrong.
//
// Every thread sees its elements in the same order: columns ascending, for each
// pair of columns its upper row first.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_GEMMEPILOGUE_H
#define MPT_CUDA_GEMMEPILOGUE_H

#include "mpt/CUDA/Hopper.h"

namespace mpt {
namespace gemm {

/// Rows of D that a warpgroup has, and its threads.
constexpr int warpgroupRows = 64, warpgroupThreads = 128;

/// The part of D that a warpgroup has at hand.
struct Tile {
  int m, n;               ///< D's size
  int row, column;        ///< of the part's first element
  int columns;            ///< of the part
  int tileN;              ///< ordinal of the tile along n
  int thread;             ///< 0 to 127
  unsigned char *staging; ///< of the op
};

/// Two neighbours of one row.
struct Pair {
  const Tile &tile;
  int row, column;           ///< in D
  int localRow, localColumn; ///< in the tile
  int half;       ///< 0 for the upper row of the thread, 1 for the other
  bool inside[2]; ///< not beyond D's edge
};

/// What an op has that needs nothing.
struct Op {
  struct State {};
  static constexpr int stagingPerColumn = 0;
  template <typename S>
  __device__ __forceinline__ void begin(S &, const Tile &) const {}
  template <typename S>
  __device__ __forceinline__ void visit(S &, const Pair &, float (&)[2]) const {
  }
  template <typename S>
  __device__ __forceinline__ void end(S &, const Tile &) const {}
  template <typename S> __device__ __forceinline__ void finish(S &) const {}
  template <typename Visit> void visitPointers(Visit) const {}
  std::string describe(int, int) { return ""; }
};

//===----------------------------------------------------------------------===//
// Chains
//===----------------------------------------------------------------------===//

template <typename... Ops> struct Chain : Op {};

template <typename Head, typename... Tail> struct Chain<Head, Tail...> {
  Head head;
  Chain<Tail...> tail;

  struct State {
    typename Head::State head;
    typename Chain<Tail...>::State tail;
  };
  static constexpr int stagingPerColumn =
      Head::stagingPerColumn + Chain<Tail...>::stagingPerColumn;
  /// The tile as the tail sees it: behind the head's staging.
  template <int TileN>
  __device__ __forceinline__ static Tile behind(Tile tile) {
    tile.staging += Head::stagingPerColumn * TileN;
    return tile;
  }
  template <int TileN>
  __device__ __forceinline__ void begin(State &state, const Tile &tile) const {
    if constexpr (sizeof...(Tail) > 0)
      tail.template begin<TileN>(state.tail, behind<TileN>(tile));
    head.begin(state.head, tile);
  }
  template <int TileN>
  __device__ __forceinline__ void visit(State &state, const Pair &at,
                                        float (&v)[2]) const {
    head.visit(state.head, at, v);
    if constexpr (sizeof...(Tail) > 0) {
      Tile next = behind<TileN>(at.tile);
      Pair nextAt = {next,
                     at.row,
                     at.column,
                     at.localRow,
                     at.localColumn,
                     at.half,
                     {at.inside[0], at.inside[1]}};
      tail.template visit<TileN>(state.tail, nextAt, v);
    }
  }
  template <int TileN>
  __device__ __forceinline__ void end(State &state, const Tile &tile) const {
    head.end(state.head, tile);
    if constexpr (sizeof...(Tail) > 0)
      tail.template end<TileN>(state.tail, behind<TileN>(tile));
  }
  __device__ __forceinline__ void finish(State &state) const {
    head.finish(state.head);
    if constexpr (sizeof...(Tail) > 0)
      tail.finish(state.tail);
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    head.visitPointers(visit);
    if constexpr (sizeof...(Tail) > 0)
      tail.visitPointers(visit);
  }
  std::string describe(int m, int n) {
    std::string error = head.describe(m, n);
    return error.empty() ? tail.describe(m, n) : error;
  }
};

/// The chain of `ops`, for host code.
inline Chain<> chain() { return {}; }
template <typename Head, typename... Tail>
Chain<Head, Tail...> chain(const Head &head, const Tail &...tail) {
  return {head, chain(tail...)};
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

/// Whether two neighbours can be moved at once.
template <typename T>
__device__ __forceinline__ bool isPair(const T *p, const Pair &at) {
  return at.inside[1] && reinterpret_cast<uintptr_t>(p) % (2 * sizeof(T)) == 0;
}

/// Stores two neighbours (float, or uint16_t: bf16) of a row.
template <typename T>
__device__ __forceinline__ void storePair(T *p, const T (&v)[2],
                                          const Pair &at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 2, "f32 or bf16");
  if (isPair(p, at)) {
    if constexpr (sizeof(T) == 4)
      *reinterpret_cast<uint64_t *>(p) =
          uint64_t(num::bits(v[1])) << 32 | num::bits(v[0]);
    else
      *reinterpret_cast<uint32_t *>(p) = uint32_t(v[1]) << 16 | v[0];
    return;
  }
  MPT_UNROLL
  for (int i = 0; i < 2; ++i)
    if (at.inside[i])
      p[i] = v[i];
}

/// Loads two neighbours of a row-major f32 or bf16 (uint16_t) matrix; what lies
/// beyond the edge is 0.
template <typename T>
__device__ __forceinline__ void loadPair(const T *from, int64_t stride,
                                         const Pair &at, float (&v)[2]) {
  const T *p = from + at.row * stride + at.column;
  MPT_UNROLL
  for (int i = 0; i < 2; ++i) {
    if constexpr (sizeof(T) == 2)
      v[i] = at.inside[i] ? num::decodeBF16(uint32_t(__ldg(p + i))) : 0.0f;
    else
      v[i] = at.inside[i] ? __ldg(p + i) : 0.0f;
  }
}

/// v = v + bias[column].
struct AddBias : Op {
  const float *bias;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    MPT_UNROLL
    for (int i = 0; i < 2; ++i)
      if (at.column + i < at.tile.n)
        v[i] = v[i] + __ldg(bias + at.column + i);
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(bias);
  }
};

/// v = v + residual[row, column]; T is float or uint16_t (bf16).
template <typename T> struct AddResidual : Op {
  const T *residual;
  int64_t stride;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    float r[2];
    loadPair(residual, stride, at, r);
    v[0] = v[0] + r[0];
    v[1] = v[1] + r[1];
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(residual);
  }
};

/// v = gelu(v), the one with erf.
struct Gelu : Op {
  __device__ __forceinline__ void visit(State &, const Pair &,
                                        float (&v)[2]) const {
    v[0] = num::gelu(v[0]);
    v[1] = num::gelu(v[1]);
  }
};

/// v = v * gelu'(x[row, column]), x being what GELU was applied to; T is float
/// or uint16_t (bf16).
template <typename T> struct GeluGrad : Op {
  const T *x;
  int64_t stride;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    float at0[2];
    loadPair(x, stride, at, at0);
    v[0] = v[0] * num::geluGrad(at0[0]);
    v[1] = v[1] * num::geluGrad(at0[1]);
  }
  template <typename Visit> void visitPointers(Visit visit) const { visit(x); }
};

/// v = v * *factor, a number in device memory: an FP8 scale.
struct ScaleBy : Op {
  const float *factor;
  struct State {
    float factor;
  };
  __device__ __forceinline__ void begin(State &state, const Tile &) const {
    state.factor = __ldg(factor);
  }
  __device__ __forceinline__ void visit(State &state, const Pair &,
                                        float (&v)[2]) const {
    v[0] = v[0] * state.factor;
    v[1] = v[1] * state.factor;
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(factor);
  }
};

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

/// *amax = max(*amax, |v|) over D, NaN if any is; *amax holds 0 or an earlier
/// maximum. Any order gives the same result.
struct Amax : Op {
  float *amax;
  struct State {
    float largest = 0.0f;
  };
  __device__ __forceinline__ void visit(State &state, const Pair &at,
                                        float (&v)[2]) const {
    MPT_UNROLL
    for (int i = 0; i < 2; ++i)
      state.largest =
          num::maxOf(state.largest, at.inside[i] ? num::abs(v[i]) : 0.0f);
  }
  __device__ __forceinline__ void finish(State &state) const {
    float largest = warpMax(state.largest);
    if (laneId() == 0)
      atomicAmax(amax, largest);
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(amax);
  }
};

/// sums[tile along n][row]: each row's sum over the columns of a tile, m
/// numbers a tile. A thread adds its columns ascending, then the four threads
/// of a row add theirs, +1 and +2 lanes away. Add the tiles in ascending order
/// for the sum of a row; there are no atomics, so the bits are always the same.
struct RowSums : Op {
  float *sums;
  struct State {
    float sum[2];
  };
  __device__ __forceinline__ void begin(State &state, const Tile &) const {
    state.sum[0] = state.sum[1] = 0.0f;
  }
  __device__ __forceinline__ void visit(State &state, const Pair &at,
                                        float (&v)[2]) const {
    MPT_UNROLL
    for (int i = 0; i < 2; ++i)
      state.sum[at.half] = state.sum[at.half] + (at.inside[i] ? v[i] : 0.0f);
  }
  __device__ __forceinline__ void end(State &state, const Tile &tile) const {
    int lane = tile.thread % 32;
    MPT_UNROLL
    for (int half = 0; half < 2; ++half) {
      float sum = state.sum[half];
      sum = sum + __shfl_xor_sync(0xffffffffu, sum, 1);
      sum = sum + __shfl_xor_sync(0xffffffffu, sum, 2);
      int row = tile.row + tile.thread / 32 * 16 + fragmentRow(lane, 2 * half);
      if (lane % 4 == 0 && row < tile.m)
        sums[static_cast<int64_t>(tile.tileN) * tile.m + row] = sum;
    }
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(sums);
  }
};

/// sums[row / 64][column]: each column's sum over 64 rows, n numbers for each:
/// the bias gradient, but for the sum of these. A thread adds its two rows, a
/// warp its 16 (+4, +8 and +16 lanes away), then the four warps follow in
/// order.
struct ColumnSums : Op {
  float *sums;
  struct State {
    float upper[2];
  };
  static constexpr int stagingPerColumn = 64; // 16 are used
  __device__ __forceinline__ void visit(State &state, const Pair &at,
                                        float (&v)[2]) const {
    MPT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float value = at.inside[i] ? v[i] : 0.0f;
      if (at.half == 0) {
        state.upper[i] = value;
        continue;
      }
      float sum = state.upper[i] + value;
      MPT_UNROLL
      for (int distance = 4; distance < 32; distance *= 2)
        sum = sum + __shfl_xor_sync(0xffffffffu, sum, distance);
      if (laneId() < 4)
        reinterpret_cast<float *>(
            at.tile.staging)[(at.localColumn + i) * 4 + at.tile.thread / 32] =
            sum;
    }
  }
  __device__ __forceinline__ void end(State &, const Tile &tile) const {
    const float *partial = reinterpret_cast<const float *>(tile.staging);
    for (int column = tile.thread; column < tile.columns;
         column += warpgroupThreads) {
      const float *p = partial + column * 4;
      if (tile.row < tile.m && tile.column + column < tile.n)
        sums[static_cast<int64_t>(tile.row / warpgroupRows) * tile.n +
             tile.column + column] = ((p[0] + p[1]) + p[2]) + p[3];
    }
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(sums);
  }
};

/// Sums of each column over 64 rows, rows ascending: the order of
/// mpt.reduce_chunks. stageColumns() puts values into shared memory (256 bytes
/// of staging for each column of a tile), sumColumns() adds them up behind the
/// tile. Columns are shuffled so that a warp's accesses fall into all banks.
__device__ __forceinline__ int stagedColumn(int row, int column, int columns) {
  return row * columns + (column ^ (row % 8 * 8));
}
__device__ __forceinline__ void
stageColumns(unsigned char *staging, const Pair &at, const float (&v)[2]) {
  float *to = reinterpret_cast<float *>(staging) +
              stagedColumn(at.localRow, at.localColumn, at.tile.columns);
  *reinterpret_cast<uint64_t *>(to) =
      uint64_t(num::bits(v[1])) << 32 | num::bits(v[0]);
}
__device__ __forceinline__ void sumColumns(float *sums, const Tile &tile,
                                           const unsigned char *staging) {
  const float *values = reinterpret_cast<const float *>(staging);
  const int rows = min(warpgroupRows, tile.m - tile.row);
  for (int column = tile.thread; column < tile.columns;
       column += warpgroupThreads) {
    float sum = 0.0f;
    for (int row = 0; row < rows; ++row)
      sum = sum + values[stagedColumn(row, column, tile.columns)];
    if (rows > 0 && tile.column + column < tile.n)
      sums[static_cast<int64_t>(tile.row / warpgroupRows) * tile.n +
           tile.column + column] = sum;
  }
}

/// The largest magnitude of each row: of a thread's pairs, then of the four
/// threads of a row, then of the tiles along n. Any order gives the same;
/// *maxima are zeros before the product begins.
__device__ __forceinline__ void foldRow(float (&largest)[2], const Pair &at,
                                        const float (&v)[2]) {
  MPT_UNROLL
  for (int i = 0; i < 2; ++i)
    largest[at.half] = num::maxOf(largest[at.half], num::abs(v[i]));
}
__device__ __forceinline__ void storeRowMaxima(float *maxima, const Tile &tile,
                                               const float (&largest)[2]) {
  const int lane = tile.thread % 32;
  MPT_UNROLL
  for (int half = 0; half < 2; ++half) {
    float value = largest[half];
    value = num::maxOf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    value = num::maxOf(value, __shfl_xor_sync(0xffffffffu, value, 2));
    const int row =
        tile.row + tile.thread / 32 * 16 + fragmentRow(lane, 2 * half);
    if (lane % 4 == 0 && row < tile.m)
      atomicAmax(maxima + row, value);
  }
}

//===----------------------------------------------------------------------===//
// Stores. They leave v as it is.
//===----------------------------------------------------------------------===//

/// to[row, column] = v, as f32 or rounded to bf16 (uint16_t), from registers.
template <typename T> struct Store : Op {
  T *to;
  int64_t stride;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    T stored[2];
    MPT_UNROLL
    for (int i = 0; i < 2; ++i) {
      if constexpr (sizeof(T) == 2)
        stored[i] = static_cast<uint16_t>(num::encodeBF16(v[i]));
      else
        stored[i] = v[i];
    }
    storePair(to + at.row * stride + at.column, stored, at);
  }
  template <typename Visit> void visitPointers(Visit visit) const { visit(to); }
};

/// The FP8 codes of a pair, the first in the low byte: nearest even,
/// saturating, as num::encode* (and in one instruction).
template <num::Format F>
__device__ __forceinline__ uint16_t encodePair(float first, float second) {
  static_assert(F == num::Format::E4M3 || F == num::Format::E5M2, "FP8");
#if defined(__CUDACC__)
  uint16_t codes;
  if constexpr (F == num::Format::E4M3)
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
        : "=h"(codes)
        : "f"(second), "f"(first));
  else
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;"
        : "=h"(codes)
        : "f"(second), "f"(first));
  return codes;
#else
  auto encode = [](float x) {
    return F == num::Format::E4M3 ? num::encodeE4M3(x) : num::encodeE5M2(x);
  };
  return static_cast<uint16_t>(encode(first) | encode(second) << 8);
#endif
}

/// One code of two: num::encodeE4M3 and num::encodeE5M2 in an instruction.
__device__ __forceinline__ uint32_t encodeE4M3(float x) {
  return encodePair<num::Format::E4M3>(x, 0.0f) & 0xffu;
}
__device__ __forceinline__ uint32_t encodeE5M2(float x) {
  return encodePair<num::Format::E5M2>(x, 0.0f) & 0xffu;
}

/// The tensor map of an FP8 result [m, n], n a multiple of 16, for StoreFP8.
inline TensorMapDesc resultMap(void *to, int m, int n) {
  return matrixMap(num::Format::E4M3, to, m, n, n, warpgroupRows, 128,
                   Swizzle::Span128);
}

/// Puts a pair's FP8 codes where storeCodes() takes them from: 64 bytes of
/// staging for each column of a tile of 128.
__device__ __forceinline__ void
stageCodes(unsigned char *staging, const Pair &at, const uint8_t (&codes)[2]) {
  unsigned char *to =
      staging + swizzled<Swizzle::Span128>(at.localRow * 128 + at.localColumn);
  *reinterpret_cast<uint16_t *>(to) =
      static_cast<uint16_t>(codes[0] | codes[1] << 8);
}
/// Behind a tile: its codes, row-major.
__device__ __forceinline__ void storeCodes(const TensorMap *map,
                                           const Tile &tile,
                                           const unsigned char *staging) {
  if (tile.thread == 0 && tile.row < tile.m)
    storeTile(map, tile.column, tile.row, staging);
}

/// Stores D's codes, row-major, with the copy engine. For tiles of 128 columns.
template <num::Format F> struct StoreFP8 : Op {
  TensorMap map;
  static constexpr int stagingPerColumn = warpgroupRows;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    const uint16_t codes = encodePair<F>(v[0], v[1]);
    stageCodes(at.tile.staging, at,
               {static_cast<uint8_t>(codes), static_cast<uint8_t>(codes >> 8)});
  }
  __device__ __forceinline__ void end(State &, const Tile &tile) const {
    storeCodes(&map, tile, tile.staging);
  }
};

/// The tensor map of a transposed FP8 result [n, m], m a multiple of 16, for
/// StoreTransposedFP8 with tiles of `tileN` columns.
inline TensorMapDesc transposedResultMap(void *to, int m, int n, int tileN) {
  return matrixMap(num::Format::E4M3, to, n, m, m, static_cast<unsigned>(tileN),
                   warpgroupRows, Swizzle::Span64);
}

/// The same as stageCodes() and storeCodes() for D^T.
__device__ __forceinline__ void stageTransposed(unsigned char *staging,
                                                const Pair &at,
                                                const uint8_t (&codes)[2]) {
  const int offset = at.localColumn * warpgroupRows + at.localRow;
  staging[swizzled<Swizzle::Span64>(offset)] = codes[0];
  staging[swizzled<Swizzle::Span64>(offset + warpgroupRows)] = codes[1];
}
__device__ __forceinline__ void storeTransposed(const TensorMap *map,
                                                const Tile &tile,
                                                const unsigned char *staging) {
  if (tile.thread == 0 && tile.row < tile.m)
    storeTile(map, tile.row, tile.column, staging);
}

/// Stores D^T's codes, row-major: the operand of a product along m.
template <num::Format F> struct StoreTransposedFP8 : Op {
  TensorMap map;
  static constexpr int stagingPerColumn = warpgroupRows;
  __device__ __forceinline__ void visit(State &, const Pair &at,
                                        float (&v)[2]) const {
    const uint16_t codes = encodePair<F>(v[0], v[1]);
    stageTransposed(
        at.tile.staging, at,
        {static_cast<uint8_t>(codes), static_cast<uint8_t>(codes >> 8)});
  }
  __device__ __forceinline__ void end(State &, const Tile &tile) const {
    storeTransposed(&map, tile, tile.staging);
  }
};

} // namespace gemm
} // namespace mpt

#endif // MPT_CUDA_GEMMEPILOGUE_H
