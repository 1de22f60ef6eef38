//===- HopperAttentionGrad.h - Gradient of attention ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Gradients of HopperAttention.h's forward pass with respect to Q, K and V,
// from dO and the forward pass's log sums; scores are computed anew. With p the
// weights and m the dropout (0 or 1 / keep):
//
//   delta = sum over a row of dO * O
//   dP = (dO V^T) * m      dS = p * (dP - delta)
//   dQ = scale dS K        dK = scale dS^T Q        dV = (p * m)^T dO
//
// Two kernels, so that each sum belongs to one warpgroup and has one order: the
// first takes 64 rows of Q a warpgroup and all keys, the second 64 keys and all
// rows, with everything transposed. p * m and dS are rounded to BF16 as
// operands; results are BF16.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_HOPPERATTENTIONGRAD_H
#define MPT_CUDA_HOPPERATTENTIONGRAD_H

#include "mpt/CUDA/HopperAttention.h"

namespace mpt {
namespace attention {

/// Rows of each operand in a stage: with 128, dQ would not fit in registers.
constexpr int tileRows = 64, tileRowBytes = tileRows * rowBytes;
constexpr int pairBytes = 2 * tileRowBytes, gradStages = 4;
constexpr int operandBytes = blockRows * rowBytes;
constexpr int gradSharedBytes =
    1024 + 2 * operandBytes + gradStages * pairBytes + (1 + 2 * gradStages) * 8;

struct GradArgs {
  int sequence, heads;
  /// As in Args.
  float scale;
  const float *bias;
  /// Of the forward pass, and the rows' sums of dO * O: [batch, heads,
  /// sequence]. The second is filled by runGradient().
  const float *logSum;
  float *delta;
  /// Results in BF16, at batch * batchStride + row * rowStride + head * 64 + i.
  /// Aligned to 4 bytes.
  uint16_t *gradQ, *gradK, *gradV;
  int64_t rowStride, batchStride;
  Dropout dropout;

  template <typename Visit> void visitPointers(Visit visit) const {
    visit(bias);
    visit(logSum);
    visit(delta);
    visit(gradQ);
    visit(gradK);
    visit(gradV);
    visit(dropout.seed);
    visit(dropout.step);
  }
};

/// Shared memory of a block: two operands that stay and a ring of pairs. dQ
/// keeps Q and dO and has K and V in its ring, dK and dV the other way round.
struct GradShared {
  unsigned char *first, *second, *tiles;
  uint64_t *kept, *full, *empty;

  __device__ __forceinline__ explicit GradShared(unsigned char *dynamic)
      : first(dynamic +
              (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024),
        second(first + operandBytes), tiles(second + operandBytes),
        kept(reinterpret_cast<uint64_t *>(tiles + gradStages * pairBytes)),
        full(kept + 1), empty(full + gradStages) {}
  __device__ __forceinline__ unsigned char *firstOf(int stage) const {
    return tiles + stage * pairBytes;
  }
  __device__ __forceinline__ unsigned char *secondOf(int stage) const {
    return firstOf(stage) + pairBytes / 2;
  }
  __device__ __forceinline__ void init() const {
    initBarrier(kept, 1);
    for (int i = 0; i < gradStages; ++i) {
      initBarrier(full + i, 1);
      initBarrier(empty + i, consumers * 4);
    }
    fenceBarrierInit();
  }
};
/// Place in the ring of stages.
struct Position {
  int stage = 0;
  unsigned phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == gradStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/// One thread: loads the block's rows of two operands, then all tiles
/// of the two others.
__device__ __forceinline__ void
produceGrad(const GradShared &shared, const TensorMap *keptFirst,
            const TensorMap *keptSecond, const TensorMap *first,
            const TensorMap *second, int sequence) {
  const int head = static_cast<int>(blockIdx.y) * headSize;
  const int batch = static_cast<int>(blockIdx.z);
  const int row = static_cast<int>(blockIdx.x) * blockRows;
  arriveExpecting(shared.kept, 2 * operandBytes);
  copyTile(shared.first, keptFirst, head, row, batch, shared.kept);
  copyTile(shared.second, keptSecond, head, row, batch, shared.kept);
  Position at;
  for (int i = 0; i < sequence; i += tileRows) {
    wait(shared.empty + at.stage, at.phase ^ 1);
    arriveExpecting(shared.full + at.stage, pairBytes);
    copyTile(shared.firstOf(at.stage), first, head, i, batch,
             shared.full + at.stage);
    copyTile(shared.secondOf(at.stage), second, head, i, batch,
             shared.full + at.stage);
    at.advance();
  }
}

/// The first row that the thread holds of its warpgroup's 64.
__device__ __forceinline__ int firstRow() {
  return static_cast<int>(blockIdx.x) * blockRows +
         static_cast<int>(threadIdx.x - 128) / 32 * 16 +
         fragmentRow(laneId(), 0);
}

/// values[row] of the block's head, `beyond` behind the sequence.
__device__ __forceinline__ float
ofRow(const float *values, const GradArgs &args, int row, float beyond) {
  return row < args.sequence
             ? __ldg(values + blockHead(args.heads) * args.sequence + row)
             : beyond;
}

/// Stores factor * values as BF16, for the thread's rows below the sequence.
__device__ __forceinline__ void storeGrad(uint16_t *to,
                                          const float (&values)[headSize / 2],
                                          float factor, const GradArgs &args,
                                          int row) {
  to += blockIdx.z * args.batchStride +
        static_cast<int64_t>(blockIdx.y) * headSize;
  MPT_UNROLL
  for (int i = 0; i < headSize / 2; i += 2) {
    const int at = row + 8 * (i / 2 % 2);
    if (at < args.sequence)
      *reinterpret_cast<uint32_t *>(to + at * args.rowStride +
                                    fragmentColumn(laneId(), i)) =
          num::encodeBF16(values[i] * factor) |
          num::encodeBF16(values[i + 1] * factor) << 16;
  }
}

//===----------------------------------------------------------------------===//
// dQ: 64 rows of Q, all keys
//===----------------------------------------------------------------------===//

template <bool Drops>
__device__ __forceinline__ void
consumeForQ(const GradShared &shared, const GradArgs &args, int warpgroup) {
  const int row = firstRow();
  // Rows beyond the sequence have no weights.
  const float logSum[2] = {ofRow(args.logSum, args, row, INFINITY),
                           ofRow(args.logSum, args, row + 8, INFINITY)};
  const float delta[2] = {ofRow(args.delta, args, row, 0.0f),
                          ofRow(args.delta, args, row + 8, 0.0f)};
  const int offset = warpgroup * warpgroupRows * rowBytes;
  float sum[headSize / 2];
  MPT_UNROLL
  for (int i = 0; i < headSize / 2; ++i)
    sum[i] = 0.0f;
  wait(shared.kept, 0);
  Position at;
  for (int key = 0; key < args.sequence; key += tileRows) {
    float s[tileRows / 2], dp[tileRows / 2];
    wait(shared.full + at.stage, at.phase);
    multiplyRows(s, shared.first + offset, shared.firstOf(at.stage));
    multiplyRows(dp, shared.second + offset, shared.secondOf(at.stage));
    maskScores(s, args, key);
    if constexpr (Drops)
      dropWeights(dp, args.dropout, blockHead(args.heads), args.sequence, row,
                  key);
    MPT_UNROLL
    for (int i = 0; i < tileRows / 2; ++i)
      s[i] = num::exp(s[i] - logSum[i / 2 % 2]) * (dp[i] - delta[i / 2 % 2]);
    uint32_t a[tileRows / 16][4];
    encodeOperand(s, a);
    multiplyAdd(sum, a, shared.firstOf(at.stage));
    if (laneId() == 0)
      arrive(shared.empty + at.stage);
    at.advance();
  }
  storeGrad(args.gradQ, sum, args.scale, args, row);
}

template <bool Drops>
__global__ void __launch_bounds__(threads, 1)
    gradientQ(const __grid_constant__ TensorMap q,
              const __grid_constant__ TensorMap gradOut,
              const __grid_constant__ TensorMap k,
              const __grid_constant__ TensorMap v,
              const __grid_constant__ GradArgs args) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  const GradShared shared(dynamic);
  if (threadIdx.x == 0)
    shared.init();
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produceGrad(shared, &q, &gradOut, &k, &v, args.sequence);
  } else {
    raiseRegisters<232>();
    consumeForQ<Drops>(shared, args, warpgroup - 1);
  }
}

//===----------------------------------------------------------------------===//
// dK and dV: 64 keys, all rows of Q; everything is transposed
//===----------------------------------------------------------------------===//

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

/// Dropout of transposed weights and of their gradients. Keys are rows here, so
/// the four keys of a draw are in four lanes: each of these draws for one of
/// the four elements that a lane has of 8 columns.
__device__ __forceinline__ void dropTransposed(float (&p)[tileRows / 2],
                                               float (&dp)[tileRows / 2],
                                               const Dropout &dropout,
                                               int64_t head, int sequence,
                                               int key, int row) {
  const num::Stream<uint32_t> stream = dropout.stream();
  const int lane = laneId(), mine = lane / 4 % 4;
  MPT_UNROLL
  for (int i = 0; i < tileRows / 2; i += 4) {
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
    for (int j = 0; j < 4; ++j) {
      p[i + j] = num::dropout(p[i + j], word[j], dropout.threshold,
                              dropout.inverseKeep);
      dp[i + j] = num::dropout(dp[i + j], word[j], dropout.threshold,
                               dropout.inverseKeep);
    }
  }
}

template <bool Drops>
__device__ __forceinline__ void
consumeForKV(const GradShared &shared, const GradArgs &args, int warpgroup) {
  const int key = firstRow();
  const float bias[2] = {keyBias(args, key), keyBias(args, key + 8)};
  const int offset = warpgroup * warpgroupRows * rowBytes;
  float sumK[headSize / 2], sumV[headSize / 2];
  MPT_UNROLL
  for (int i = 0; i < headSize / 2; ++i)
    sumK[i] = sumV[i] = 0.0f;
  wait(shared.kept, 0);
  Position at;
  for (int row = 0; row < args.sequence; row += tileRows) {
    float s[tileRows / 2], dp[tileRows / 2], p[tileRows / 2];
    wait(shared.full + at.stage, at.phase);
    multiplyRows(s, shared.first + offset, shared.firstOf(at.stage));
    multiplyRows(dp, shared.second + offset, shared.secondOf(at.stage));
    MPT_UNROLL
    for (int i = 0; i < tileRows / 2; ++i) {
      const int column = row + fragmentColumn(laneId(), i);
      s[i] = num::exp(s[i] * args.scale + bias[i / 2 % 2] -
                      ofRow(args.logSum, args, column, INFINITY));
      p[i] = s[i];
    }
    if constexpr (Drops)
      dropTransposed(p, dp, args.dropout, blockHead(args.heads), args.sequence,
                     key, row);
    uint32_t a[tileRows / 16][4];
    encodeOperand(p, a);
    multiplyAdd(sumV, a, shared.secondOf(at.stage));
    MPT_UNROLL
    for (int i = 0; i < tileRows / 2; ++i) {
      const int column = row + fragmentColumn(laneId(), i);
      s[i] = s[i] * (dp[i] - ofRow(args.delta, args, column, 0.0f));
    }
    encodeOperand(s, a);
    multiplyAdd(sumK, a, shared.firstOf(at.stage));
    if (laneId() == 0)
      arrive(shared.empty + at.stage);
    at.advance();
  }
  storeGrad(args.gradK, sumK, args.scale, args, key);
  storeGrad(args.gradV, sumV, 1.0f, args, key);
}

template <bool Drops>
__global__ void __launch_bounds__(threads, 1)
    gradientKV(const __grid_constant__ TensorMap k,
               const __grid_constant__ TensorMap v,
               const __grid_constant__ TensorMap q,
               const __grid_constant__ TensorMap gradOut,
               const __grid_constant__ GradArgs args) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  const GradShared shared(dynamic);
  if (threadIdx.x == 0)
    shared.init();
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produceGrad(shared, &k, &v, &q, &gradOut, args.sequence);
  } else {
    raiseRegisters<232>();
    consumeForKV<Drops>(shared, args, warpgroup - 1);
  }
}

//===----------------------------------------------------------------------===//
// The rows' products, and the launches
//===----------------------------------------------------------------------===//

/// A BF16 operand as plain memory.
struct Plain {
  const uint16_t *base;
  int64_t rowStride, batchStride;
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(base);
  }
};

/// delta[batch, head, row] = sum of dO * O over the head: a warp a row, lane l
/// elements l and l + 32.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    rowProducts(Plain out, Plain gradOut, float *delta, int sequence, int heads,
                int64_t count) {
  const int64_t index = gridWarpId();
  if (index >= count)
    return;
  const int64_t row = index % sequence, head = index / sequence % heads;
  const int64_t batch = index / sequence / heads;
  const uint16_t *x = out.base + batch * out.batchStride + row * out.rowStride +
                      head * headSize;
  const uint16_t *y = gradOut.base + batch * gradOut.batchStride +
                      row * gradOut.rowStride + head * headSize;
  float sum = 0.0f;
  for (int i = laneId(); i < headSize; i += 32)
    sum =
        sum + num::decodeBF16(uint32_t(x[i])) * num::decodeBF16(uint32_t(y[i]));
  sum = warpSum(sum);
  if (laneId() == 0)
    delta[index] = sum;
}

/// Starts the gradient; `out` is the forward pass's O. Errors as in run().
inline void runGradient(const char *name, const Operand &q, const Operand &k,
                        const Operand &v, const Operand &out,
                        const Operand &gradOut, const GradArgs &args,
                        int batches, cudaStream_t stream) {
  std::string error = checkShape(args.sequence, args.heads, batches);
  auto encode = [&](const Operand &operand, int rows) {
    TensorMap map = {};
    if (error.empty())
      error = encodeTensorMap(
          map, operandMap(operand, args.sequence, args.heads, batches, rows));
    return map;
  };
  const TensorMap keptQ = encode(q, blockRows), tileQ = encode(q, tileRows);
  const TensorMap keptK = encode(k, blockRows), tileK = encode(k, tileRows);
  const TensorMap keptV = encode(v, blockRows), tileV = encode(v, tileRows);
  const TensorMap keptGrad = encode(gradOut, blockRows);
  const TensorMap tileGrad = encode(gradOut, tileRows);
  if (!error.empty()) {
    fail(std::string(name) + ": " + error);
    return;
  }
  auto plain = [](const Operand &operand) {
    return Plain{static_cast<const uint16_t *>(operand.base), operand.rowStride,
                 operand.batchStride};
  };
  const int64_t count = int64_t(batches) * args.heads * args.sequence;
  launch(name, rowProducts<128>, blocksFor(count, 4), 128, 0, stream,
         plain(out), plain(gradOut), args.delta, args.sequence, args.heads,
         count);
  const dim3 grid(blocksFor(args.sequence, blockRows),
                  static_cast<unsigned>(args.heads),
                  static_cast<unsigned>(batches));
  const bool drops = args.dropout.seed != nullptr;
  launch(name, drops ? gradientQ<true> : gradientQ<false>, grid, threads,
         gradSharedBytes, stream, keptQ, keptGrad, tileK, tileV, args);
  launch(name, drops ? gradientKV<true> : gradientKV<false>, grid, threads,
         gradSharedBytes, stream, keptK, keptV, tileQ, tileGrad, args);
}

} // namespace attention
} // namespace mpt

#endif // MPT_CUDA_HOPPERATTENTIONGRAD_H
