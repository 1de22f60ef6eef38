//===- HopperAttentionGrad.h - Gradient of attention ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Gradients of HopperAttention.h's forward pass with respect to Q, K and V,
// from dO and what the forward pass says of each row; scores are computed anew.
// With p the weights and m the dropout (0 or 1 / keep):
//
//   delta = sum over a row of dO * O
//   dP = (dO V^T) * m      dS = scale p * (dP - delta)
//   dQ = dS K              dK = dS^T Q        dV = (p * m)^T dO
//
// Two kernels, so that each sum belongs to one warpgroup and has one order: the
// first takes 64 rows of Q a warpgroup and all keys, the second 64 keys and all
// rows, with everything transposed. p * m and dS are rounded to BF16 as
// operands; results are BF16 or f32.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_HOPPERATTENTIONGRAD_H
#define MPT_CUDA_HOPPERATTENTIONGRAD_H

#include "mpt/CUDA/HopperAttention.h"

namespace mpt {
namespace attention {

template <typename Grad> struct GradArgs : Common {
  /// The rows' sums of dO * O, [batch, heads, sequence]: filled by the first
  /// kernel.
  float *delta;
  /// Results in BF16 (uint16_t) or f32, at batch * batchStride + row *
  /// rowStride + head * head size + i. Aligned to a pair.
  Grad *gradQ, *gradK, *gradV;
  int64_t rowStride, batchStride;

  template <typename Visit> void visitPointers(Visit visit) const {
    Common::visitPointers(visit);
    visit(delta);
    visit(gradQ);
    visit(gradK);
    visit(gradV);
  }
};

/// Tiles of a block: two operands that stay and a ring of pairs of `TileRows`
/// rows. dQ keeps Q and dO and has K and V in its ring, dK and dV the other way
/// round.
template <int HeadSize, int TileRows> struct GradTiles {
  static constexpr int stages = 4;
  static constexpr int tileBytes = TileRows * Head<HeadSize>::rowBytes;
  static constexpr int keptBytes = blockRows * Head<HeadSize>::rowBytes;
  static constexpr int ringBytes = stages * 2 * tileBytes;
  static constexpr int sharedBytes =
      1024 + 2 * keptBytes + ringBytes + Barriers<stages>::bytes;

  unsigned char *first, *second, *ring;
  Barriers<stages> barriers;

  __device__ __forceinline__ explicit GradTiles(unsigned char *aligned)
      : first(aligned), second(first + keptBytes), ring(second + keptBytes),
        barriers(ring + ringBytes) {}
  __device__ __forceinline__ unsigned char *firstOf(int stage) const {
    return ring + stage * 2 * tileBytes;
  }
  __device__ __forceinline__ unsigned char *secondOf(int stage) const {
    return firstOf(stage) + tileBytes;
  }
};

/// One thread: loads the block's rows of two operands, then all tiles
/// of the two others.
template <int HeadSize, int TileRows>
__device__ __forceinline__ void
produceGrad(const GradTiles<HeadSize, TileRows> &tiles,
            const TensorMap *keptFirst, const TensorMap *keptSecond,
            const TensorMap *first, const TensorMap *second, int sequence) {
  using T = GradTiles<HeadSize, TileRows>;
  const int row = static_cast<int>(blockIdx.x) * blockRows;
  uint64_t *kept = tiles.barriers.kept;
  arriveExpecting(kept, 2 * T::keptBytes);
  copyHead<HeadSize, blockRows>(tiles.first, keptFirst, row, kept);
  copyHead<HeadSize, blockRows>(tiles.second, keptSecond, row, kept);
  Position<T::stages> at;
  for (int i = 0; i < sequence; i += TileRows) {
    uint64_t *full = tiles.barriers.full + at.stage;
    wait(tiles.barriers.empty + at.stage, at.phase ^ 1);
    arriveExpecting(full, 2 * T::tileBytes);
    copyHead<HeadSize, TileRows>(tiles.firstOf(at.stage), first, i, full);
    copyHead<HeadSize, TileRows>(tiles.secondOf(at.stage), second, i, full);
    at.advance();
  }
}

/// values[row] of the block's head, `beyond` behind the sequence. Not __ldg:
/// the compiler would load a tile's numbers ahead of its products, and spill.
__device__ __forceinline__ float ofRow(const float *values, const Common &args,
                                       int row, float beyond) {
  return row < args.sequence
             ? values[blockHead(args.heads) * args.sequence + row]
             : beyond;
}

/// dQ: 64 rows of Q, all keys.
template <int HeadSize, bool Drops> struct GradientOfQ {
  static constexpr int tileRows = 64;

  template <typename Grad>
  static __device__ __forceinline__ void
  consume(const GradTiles<HeadSize, tileRows> &tiles,
          const GradArgs<Grad> &args, int warpgroup) {
    const int row = firstRow();
    // Rows beyond the sequence have no weights.
    float rowMax[2], logSum[2], delta[2];
    MPT_UNROLL
    for (int half = 0; half < 2; ++half) {
      rowMax[half] = ofRow(args.rowMax, args, row + 8 * half, 0.0f);
      logSum[half] = ofRow(args.logSum, args, row + 8 * half, INFINITY);
      delta[half] = ofRow(args.delta, args, row + 8 * half, 0.0f);
    }
    float sum[HeadSize / 2];
    clear(sum);
    wait(tiles.barriers.kept, 0);
    Position<GradTiles<HeadSize, tileRows>::stages> at;
    for (int key = 0; key < args.sequence; key += tileRows) {
      float s[tileRows / 2], dp[tileRows / 2];
      wait(tiles.barriers.full + at.stage, at.phase);
      multiplyRows<HeadSize>(s, tiles.first, warpgroup,
                             tiles.firstOf(at.stage));
      multiplyRows<HeadSize>(dp, tiles.second, warpgroup,
                             tiles.secondOf(at.stage));
      maskScores(s, args, key);
      if constexpr (Drops)
        dropWeights(dp, args.dropout, blockHead(args.heads), args.sequence, row,
                    key);
      MPT_UNROLL
      for (int i = 0; i < tileRows / 2; ++i) {
        const int half = i / 2 % 2;
        s[i] = num::exp(s[i] - rowMax[half] - logSum[half]) *
               (dp[i] - delta[half]) * args.scale;
      }
      uint32_t a[tileRows / 16][4];
      encodeOperand(s, a);
      multiplyAdd<HeadSize>(sum, a, tiles.firstOf(at.stage));
      if (laneId() == 0)
        arrive(tiles.barriers.empty + at.stage);
      at.advance();
    }
    storeHead<HeadSize>(args.gradQ, args.rowStride, args.batchStride, sum,
                        {1.0f, 1.0f}, args.sequence, row);
  }
};

/// Transposes among the four lanes that are 4 apart: lane j of them gets word j
/// of each, in the lanes' order.
__device__ __forceinline__ void exchangeWords(uint32_t (&word)[4]) {
  const bool odd = laneId() & 4, upper = laneId() & 8;
  const uint32_t a = __shfl_xor_sync(0xffffffffu, odd ? word[0] : word[1], 4);
  const uint32_t b = __shfl_xor_sync(0xffffffffu, odd ? word[2] : word[3], 4);
  // No index that depends on the lane: registers have none.
  word[0] = odd ? a : word[0];
  word[1] = odd ? word[1] : a;
  word[2] = odd ? b : word[2];
  word[3] = odd ? word[3] : b;
  const uint32_t c = __shfl_xor_sync(0xffffffffu, upper ? word[0] : word[2], 8);
  const uint32_t d = __shfl_xor_sync(0xffffffffu, upper ? word[1] : word[3], 8);
  word[0] = upper ? c : word[0];
  word[1] = upper ? d : word[1];
  word[2] = upper ? word[2] : c;
  word[3] = upper ? word[3] : d;
}

/// Dropout of transposed weights, as an operand in `a`, and of their gradients.
/// Keys are rows here, so the four keys of a draw are in four lanes: each of
/// these draws for one of the four elements that a lane has of 8 columns.
template <int Count>
__device__ __forceinline__ void
dropTransposed(const float (&p)[Count], uint32_t (&a)[Count / 8][4],
               float (&dp)[Count], const Dropout &dropout, int64_t head,
               int sequence, int key, int row) {
  const num::Stream<uint32_t> stream = dropout.stream();
  const int lane = laneId(), mine = lane / 4 % 4;
  auto dropped = [&](float x, uint32_t word) {
    return num::dropout(x, word, dropout.threshold, dropout.inverseKeep);
  };
  MPT_UNROLL
  for (int i = 0; i < Count; i += 4) {
    const int column = row + fragmentColumn(lane, i) + mine % 2;
    const int64_t element =
        (head * sequence + column) * sequence + key - mine + mine / 2 * 8;
    const uint64_t group = static_cast<uint64_t>(element) >> 2;
    const num::Words4<uint32_t> words =
        num::drawGroup(static_cast<uint32_t>(group),
                       static_cast<uint32_t>(group >> 32), stream);
    uint32_t word[4] = {words.x, words.y, words.z, words.w};
    exchangeWords(word);
    MPT_UNROLL
    for (int j = 0; j < 4; j += 2)
      a[i / 8][(i + j) / 2 % 4] = encodePair(
          dropped(p[i + j], word[j]), dropped(p[i + j + 1], word[j + 1]));
    MPT_UNROLL
    for (int j = 0; j < 4; ++j)
      dp[i + j] = dropped(dp[i + j], word[j]);
  }
}

/// dK and dV: 64 keys, all rows of Q; everything is transposed.
template <int HeadSize, bool Drops> struct GradientOfKV {
  /// With 64, both sums of larger heads would not fit in registers.
  static constexpr int tileRows = HeadSize <= 64 ? 64 : 32;

  template <typename Grad>
  static __device__ __forceinline__ void
  consume(const GradTiles<HeadSize, tileRows> &tiles,
          const GradArgs<Grad> &args, int warpgroup) {
    const int key = firstRow();
    const float bias[2] = {keyBias(args, key), keyBias(args, key + 8)};
    float sumK[HeadSize / 2], sumV[HeadSize / 2];
    clear(sumK);
    clear(sumV);
    wait(tiles.barriers.kept, 0);
    Position<GradTiles<HeadSize, tileRows>::stages> at;
    for (int row = 0; row < args.sequence; row += tileRows) {
      float s[tileRows / 2], dp[tileRows / 2];
      wait(tiles.barriers.full + at.stage, at.phase);
      multiplyRows<HeadSize>(s, tiles.first, warpgroup,
                             tiles.firstOf(at.stage));
      multiplyRows<HeadSize>(dp, tiles.second, warpgroup,
                             tiles.secondOf(at.stage));
      MPT_UNROLL
      for (int i = 0; i < tileRows / 2; ++i) {
        const int column = row + fragmentColumn(laneId(), i);
        s[i] = num::exp(s[i] * args.scale + bias[i / 2 % 2] -
                        ofRow(args.rowMax, args, column, 0.0f) -
                        ofRow(args.logSum, args, column, INFINITY));
      }
      uint32_t a[tileRows / 16][4];
      if constexpr (Drops)
        dropTransposed(s, a, dp, args.dropout, blockHead(args.heads),
                       args.sequence, key, row);
      else
        encodeOperand(s, a);
      multiplyAdd<HeadSize>(sumV, a, tiles.secondOf(at.stage));
      MPT_UNROLL
      for (int i = 0; i < tileRows / 2; ++i) {
        const int column = row + fragmentColumn(laneId(), i);
        s[i] =
            s[i] * (dp[i] - ofRow(args.delta, args, column, 0.0f)) * args.scale;
      }
      encodeOperand(s, a);
      multiplyAdd<HeadSize>(sumK, a, tiles.firstOf(at.stage));
      if (laneId() == 0)
        arrive(tiles.barriers.empty + at.stage);
      at.advance();
    }
    storeHead<HeadSize>(args.gradK, args.rowStride, args.batchStride, sumK,
                        {1.0f, 1.0f}, args.sequence, key);
    storeHead<HeadSize>(args.gradV, args.rowStride, args.batchStride, sumV,
                        {1.0f, 1.0f}, args.sequence, key);
  }
};

/// `Part` is GradientOfQ or GradientOfKV.
template <int HeadSize, typename Part, typename Grad>
__global__ void __launch_bounds__(threads, 1)
    gradient(const __grid_constant__ TensorMap keptFirst,
             const __grid_constant__ TensorMap keptSecond,
             const __grid_constant__ TensorMap first,
             const __grid_constant__ TensorMap second,
             const __grid_constant__ GradArgs<Grad> args) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  const GradTiles<HeadSize, Part::tileRows> tiles(alignTiles(dynamic));
  if (threadIdx.x == 0)
    tiles.barriers.init();
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produceGrad(tiles, &keptFirst, &keptSecond, &first, &second,
                  args.sequence);
  } else {
    raiseRegisters<232>();
    Part::consume(tiles, args, warpgroup - 1);
  }
}

//===----------------------------------------------------------------------===//
// The rows' products, and the launches
//===----------------------------------------------------------------------===//

/// An operand as plain memory.
template <typename T> struct Plain {
  const T *base;
  int64_t rowStride, batchStride;
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(base);
  }
};

__device__ __forceinline__ float decoded(uint16_t x) {
  return num::decodeBF16(uint32_t(x));
}
__device__ __forceinline__ float decoded(float x) { return x; }

/// delta[batch, head, row] = sum of dO * O over the head: a warp a row, lane l
/// elements l, l + 32, ...
template <int HeadSize, int Threads, typename Out>
__global__ void __launch_bounds__(Threads)
    rowProducts(Plain<Out> out, Plain<uint16_t> gradOut, float *delta,
                int sequence, int heads, int64_t count) {
  const int64_t index = gridWarpId();
  if (index >= count)
    return;
  const int64_t row = index % sequence, head = index / sequence % heads;
  const int64_t batch = index / sequence / heads;
  const Out *x = out.base + batch * out.batchStride + row * out.rowStride +
                 head * HeadSize;
  const uint16_t *y = gradOut.base + batch * gradOut.batchStride +
                      row * gradOut.rowStride + head * HeadSize;
  float sum = 0.0f;
  for (int i = laneId(); i < HeadSize; i += 32)
    sum = sum + decoded(x[i]) * decoded(y[i]);
  sum = warpSum(sum);
  if (laneId() == 0)
    delta[index] = sum;
}

/// The gradient of one attention, ready to be launched again and again.
template <int HeadSize, bool Drops, typename Out, typename Grad>
class Gradient {
  using OfQ = GradientOfQ<HeadSize, Drops>;
  using OfKV = GradientOfKV<HeadSize, Drops>;

public:
  struct Description {
    const char *name;
    int batches;
    Operand q, k, v;
    /// The forward pass's O, and dO.
    Plain<Out> out;
    Plain<uint16_t> gradOut;
    GradArgs<Grad> args;
  };

  /// Makes the tensor maps; returns why it cannot, empty on success.
  std::string prepare(const Description &description) {
    what = description;
    const Plain<uint16_t> &g = what.gradOut;
    const Operand grad = {g.base, g.rowStride, g.batchStride};
    std::string error =
        checkShape(what.args.sequence, what.args.heads, what.batches);
    auto encode = [&](TensorMap &map, const Operand &operand, int rows) {
      if (error.empty())
        error = encodeTensorMap(
            map, operandMap<HeadSize>(operand, what.args, what.batches, rows));
    };
    encode(ofQ[0], what.q, blockRows);
    encode(ofQ[1], grad, blockRows);
    encode(ofQ[2], what.k, OfQ::tileRows);
    encode(ofQ[3], what.v, OfQ::tileRows);
    encode(ofKV[0], what.k, blockRows);
    encode(ofKV[1], what.v, blockRows);
    encode(ofKV[2], what.q, OfKV::tileRows);
    encode(ofKV[3], grad, OfKV::tileRows);
    return error.empty() ? "" : std::string(what.name) + ": " + error;
  }
  /// Errors as in mpt::launch.
  void run(cudaStream_t stream) const {
    const GradArgs<Grad> &args = what.args;
    const int64_t count = int64_t(what.batches) * args.heads * args.sequence;
    launch(what.name, rowProducts<HeadSize, 128, Out>, blocksFor(count, 4), 128,
           0, stream, what.out, what.gradOut, args.delta, args.sequence,
           args.heads, count);
    const dim3 grid = gridFor(args, what.batches);
    launch(what.name, gradient<HeadSize, OfQ, Grad>, grid, threads,
           GradTiles<HeadSize, OfQ::tileRows>::sharedBytes, stream, ofQ[0],
           ofQ[1], ofQ[2], ofQ[3], args);
    launch(what.name, gradient<HeadSize, OfKV, Grad>, grid, threads,
           GradTiles<HeadSize, OfKV::tileRows>::sharedBytes, stream, ofKV[0],
           ofKV[1], ofKV[2], ofKV[3], args);
  }

private:
  Description what;
  TensorMap ofQ[4], ofKV[4];
};

} // namespace attention
} // namespace mpt

#endif // MPT_CUDA_HOPPERATTENTIONGRAD_H
