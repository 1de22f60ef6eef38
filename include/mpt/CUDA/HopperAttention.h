//===- HopperAttention.h - Attention without its scores ---------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// O = dropout(softmax(scale * Q K^T + bias)) V for heads of 64 elements in
// BF16, after FlashAttention (Dao et al., 2022): scores live in registers only.
// A block takes 128 rows of one head; its first warpgroup keeps a ring of K and
// V tiles of 128 keys filled, the other two each have 64 rows of Q.
//
// Per tile: scores in f32; the running maximum m and sum l of each row; weights
// p = e^(s - m), rounded to BF16 as the operand of the second product after
// dropout, while l sums the unrounded ones without dropout. num::exp
// throughout.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_HOPPERATTENTION_H
#define MPT_CUDA_HOPPERATTENTION_H

#include "mpt/CUDA/Hopper.h"
#include "mpt/Numerics/Philox.h"

#include <climits>

namespace mpt {
namespace attention {

constexpr int headSize = 64, rowBytes = 128;
constexpr int warpgroupRows = 64, consumers = 2;
constexpr int blockRows = consumers * warpgroupRows, tileKeys = 128;
constexpr int threads = 128 * (1 + consumers), stages = 2;
constexpr int tileBytes = tileKeys * rowBytes;
constexpr int sharedBytes =
    1024 + blockRows * rowBytes + stages * 2 * tileBytes + (1 + 2 * stages) * 8;

/// Dropout of element ((batch * heads + head) * sequence + row) * sequence +
/// key as in mpt/Numerics/Philox.h: kept iff its word is below `threshold`.
/// None if `seed` is null.
struct Dropout {
  const int64_t *seed, *step;
  uint32_t id, threshold;
  float inverseKeep;

  __device__ __forceinline__ num::Stream<uint32_t> stream() const {
    const uint64_t key = static_cast<uint64_t>(__ldg(seed));
    return {id, static_cast<uint32_t>(__ldg(step)), static_cast<uint32_t>(key),
            static_cast<uint32_t>(key >> 32)};
  }
};

struct Args {
  int sequence, heads;
  /// Factor of the scores: 1 / sqrt(64).
  float scale;
  /// Added to the scores of each key, [batch, sequence]: the padding mask. Or
  /// null.
  const float *bias;
  /// O in BF16: element (batch, row, head, i) is at batch * batchStride +
  /// row * rowStride + head * 64 + i. Aligned to 4 bytes.
  uint16_t *out;
  int64_t rowStride, batchStride;
  /// m + log l of each row, [batch, heads, sequence], for the gradient.
  float *logSum;
  Dropout dropout;

  template <typename Visit> void visitPointers(Visit visit) const {
    visit(bias);
    visit(out);
    visit(logSum);
    visit(dropout.seed);
    visit(dropout.step);
  }
};

/// Shared memory of a block.
struct Shared {
  unsigned char *q, *tiles;
  uint64_t *qFull, *full, *empty;

  __device__ __forceinline__ explicit Shared(unsigned char *dynamic)
      : q(dynamic +
          (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024),
        tiles(q + blockRows * rowBytes),
        qFull(reinterpret_cast<uint64_t *>(tiles + stages * 2 * tileBytes)),
        full(qFull + 1), empty(full + stages) {}
  __device__ __forceinline__ unsigned char *k(int stage) const {
    return tiles + stage * 2 * tileBytes;
  }
  __device__ __forceinline__ unsigned char *v(int stage) const {
    return k(stage) + tileBytes;
  }
};

/// One thread: loads Q's rows, then all tiles of K and V.
__device__ __forceinline__ void produce(const Shared &shared,
                                        const TensorMap *q, const TensorMap *k,
                                        const TensorMap *v, int sequence) {
  const int head = static_cast<int>(blockIdx.y) * headSize;
  const int batch = static_cast<int>(blockIdx.z);
  arriveExpecting(shared.qFull, blockRows * rowBytes);
  copyTile(shared.q, q, head, static_cast<int>(blockIdx.x) * blockRows, batch,
           shared.qFull);
  int stage = 0;
  unsigned phase = 0;
  for (int key = 0; key < sequence; key += tileKeys) {
    wait(shared.empty + stage, phase ^ 1);
    arriveExpecting(shared.full + stage, 2 * tileBytes);
    copyTile(shared.k(stage), k, head, key, batch, shared.full + stage);
    copyTile(shared.v(stage), v, head, key, batch, shared.full + stage);
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
}

/// Ordinal of the block's head, over all sequences.
__device__ __forceinline__ int64_t blockHead(int heads) {
  return static_cast<int64_t>(blockIdx.z) * heads + blockIdx.y;
}

/// A thread's part of the softmax of two rows (i / 2 % 2 of accumulator i).
struct Rows {
  float largest[2], sum[2];
};

/// What is added to the scores of a key: -inf beyond the sequence.
template <typename A>
__device__ __forceinline__ float keyBias(const A &args, int key) {
  if (key >= args.sequence)
    return -INFINITY;
  return args.bias
             ? __ldg(args.bias +
                     static_cast<int64_t>(blockIdx.z) * args.sequence + key)
             : 0.0f;
}

/// Scales and masks the scores of keys from `key` on.
template <typename A, int Count>
__device__ __forceinline__ void maskScores(float (&s)[Count], const A &args,
                                           int key) {
  MPT_UNROLL
  for (int i = 0; i < Count; ++i)
    s[i] = s[i] * args.scale + keyBias(args, key + fragmentColumn(laneId(), i));
}

/// Turns scores into weights and updates the rows; returns in `correction` what
/// the sums of earlier tiles are to be multiplied by.
__device__ __forceinline__ void updateRows(float (&s)[tileKeys / 2], Rows &rows,
                                           float (&correction)[2]) {
  MPT_UNROLL
  for (int half = 0; half < 2; ++half) {
    float largest = rows.largest[half];
    MPT_UNROLL
    for (int i = 2 * half; i < tileKeys / 2; i += 4)
      largest = num::maxOf(num::maxOf(largest, s[i]), s[i + 1]);
    largest = num::maxOf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = num::maxOf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    // While all keys are masked, nothing is subtracted: weights are 0.
    const float shift = largest == -INFINITY ? 0.0f : largest;
    correction[half] = num::exp(rows.largest[half] - shift);
    float sum = 0.0f;
    MPT_UNROLL
    for (int i = 2 * half; i < tileKeys / 2; i += 4) {
      s[i] = num::exp(s[i] - shift);
      s[i + 1] = num::exp(s[i + 1] - shift);
      sum = sum + s[i];
      sum = sum + s[i + 1];
    }
    sum = sum + __shfl_xor_sync(0xffffffffu, sum, 1);
    sum = sum + __shfl_xor_sync(0xffffffffu, sum, 2);
    rows.sum[half] = rows.sum[half] * correction[half] + sum;
    rows.largest[half] = largest;
  }
}

/// Dropout of a tile's weights. Two lanes next to each other need the words of
/// the same draws: the even one draws for 8 columns, the odd one for the
/// next 8.
template <int Count>
__device__ __forceinline__ void
dropWeights(float (&p)[Count], const Dropout &dropout, int64_t head,
            int sequence, int row, int key) {
  const num::Stream<uint32_t> stream = dropout.stream();
  const int lane = laneId(), odd = lane & 1;
  MPT_UNROLL
  for (int i = 0; i < Count; i += 8) {
    MPT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int at = i + 2 * half;
      const int column = key + fragmentColumn(lane, at + 4 * odd);
      const int64_t element =
          (head * sequence + row + 8 * half) * sequence + column;
      const uint64_t group = static_cast<uint64_t>(element) >> 2;
      const num::Words4<uint32_t> words =
          num::drawGroup(static_cast<uint32_t>(group),
                         static_cast<uint32_t>(group >> 32), stream);
      const uint32_t first =
          __shfl_xor_sync(0xffffffffu, odd ? words.x : words.z, 1);
      const uint32_t second =
          __shfl_xor_sync(0xffffffffu, odd ? words.y : words.w, 1);
      const uint32_t word[4] = {odd ? first : words.x, odd ? second : words.y,
                                odd ? words.z : first, odd ? words.w : second};
      MPT_UNROLL
      for (int j = 0; j < 4; ++j)
        p[at + j / 2 * 4 + j % 2] =
            num::dropout(p[at + j / 2 * 4 + j % 2], word[j], dropout.threshold,
                         dropout.inverseKeep);
    }
  }
}

/// Numbers of a 64 x 2 Count result as operands of a product: 16 columns each.
template <int Count>
__device__ __forceinline__ void encodeOperand(const float (&p)[Count],
                                              uint32_t (&a)[Count / 8][4]) {
  MPT_UNROLL
  for (int i = 0; i < Count; i += 2)
    a[i / 8][i / 2 % 4] = num::encodeBF16(p[i]) | num::encodeBF16(p[i + 1])
                                                      << 16;
}

/// s = X Y^T for 64 rows of X and 2 Count of Y, both with 64 columns.
template <int Count>
__device__ __forceinline__ void multiplyRows(float (&s)[Count],
                                             const unsigned char *x,
                                             const unsigned char *y) {
  const uint64_t descX = operandDescriptor(x, 8 * rowBytes);
  const uint64_t descY = operandDescriptor(y, 8 * rowBytes);
  fenceMma();
  MPT_UNROLL
  for (int i = 0; i < headSize / 16; ++i)
    issueMma<num::Format::BF16, num::Format::BF16, 2 * Count>(
        s, advanced(descX, 32 * i), advanced(descY, 32 * i), i > 0);
  commitMma();
  waitMma<0>(s);
}

/// o += A Y for Y of 16 Steps rows and 64 columns: transposed, as its rows are
/// not what is summed over.
template <int Steps>
__device__ __forceinline__ void multiplyAdd(float (&o)[headSize / 2],
                                            const uint32_t (&a)[Steps][4],
                                            const unsigned char *y) {
  const uint64_t descY = operandDescriptor(y, 8 * rowBytes);
  fenceMma();
  MPT_UNROLL
  for (int i = 0; i < Steps; ++i)
    issueMmaA<headSize, true>(o, a[i], advanced(descY, 16 * rowBytes * i),
                              true);
  commitMma();
  waitMma<0>(o);
}

/// Stores O = o / l and log l + m.
__device__ __forceinline__ void storeRows(const float (&o)[headSize / 2],
                                          const Rows &rows, const Args &args,
                                          int row) {
  const int lane = laneId();
  uint16_t *out = args.out + blockIdx.z * args.batchStride +
                  static_cast<int64_t>(blockIdx.y) * headSize;
  MPT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int at = row + 8 * half;
    if (at >= args.sequence)
      continue;
    const float inverse = 1.0f / rows.sum[half];
    MPT_UNROLL
    for (int i = 2 * half; i < headSize / 2; i += 4)
      *reinterpret_cast<uint32_t *>(out + at * args.rowStride +
                                    fragmentColumn(lane, i)) =
          num::encodeBF16(o[i] * inverse) | num::encodeBF16(o[i + 1] * inverse)
                                                << 16;
    if (lane % 4 == 0)
      args.logSum[(static_cast<int64_t>(blockIdx.z) * args.heads + blockIdx.y) *
                      args.sequence +
                  at] = rows.largest[half] + num::log(rows.sum[half]);
  }
}

/// One warpgroup: 64 rows of Q against all keys.
template <bool Dropout>
__device__ __forceinline__ void consume(const Shared &shared, const Args &args,
                                        int warpgroup) {
  const int row = static_cast<int>(blockIdx.x) * blockRows +
                  static_cast<int>(threadIdx.x - 128) / 32 * 16 +
                  fragmentRow(laneId(), 0);
  Rows rows = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
  float o[headSize / 2];
  MPT_UNROLL
  for (int i = 0; i < headSize / 2; ++i)
    o[i] = 0.0f;
  wait(shared.qFull, 0);
  int stage = 0;
  unsigned phase = 0;
  for (int key = 0; key < args.sequence; key += tileKeys) {
    float s[tileKeys / 2], correction[2];
    wait(shared.full + stage, phase);
    multiplyRows(s, shared.q + warpgroup * warpgroupRows * rowBytes,
                 shared.k(stage));
    maskScores(s, args, key);
    updateRows(s, rows, correction);
    if constexpr (Dropout)
      dropWeights(s, args.dropout, blockHead(args.heads), args.sequence, row,
                  key);
    uint32_t a[tileKeys / 16][4];
    encodeOperand(s, a);
    MPT_UNROLL
    for (int i = 0; i < headSize / 2; ++i)
      o[i] = o[i] * correction[i / 2 % 2];
    multiplyAdd(o, a, shared.v(stage));
    if (laneId() == 0)
      arrive(shared.empty + stage);
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
  storeRows(o, rows, args, row);
}

template <bool Dropout>
__global__ void __launch_bounds__(threads, 1)
    forward(const __grid_constant__ TensorMap q,
            const __grid_constant__ TensorMap k,
            const __grid_constant__ TensorMap v,
            const __grid_constant__ Args args) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  const Shared shared(dynamic);
  if (threadIdx.x == 0) {
    initBarrier(shared.qFull, 1);
    for (int i = 0; i < stages; ++i) {
      initBarrier(shared.full + i, 1);
      initBarrier(shared.empty + i, consumers * 4);
    }
    fenceBarrierInit();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produce(shared, &q, &k, &v, args.sequence);
  } else {
    raiseRegisters<232>();
    consume<Dropout>(shared, args, warpgroup - 1);
  }
}

/// Where Q, K or V is: element (batch, row, head, i) at batch * batchStride +
/// row * rowStride + head * 64 + i.
struct Operand {
  const void *base;
  int64_t rowStride, batchStride;
};

/// The tensor map of an operand with boxes of `boxRows` rows of one head.
inline TensorMapDesc operandMap(const Operand &operand, int sequence, int heads,
                                int batches, int boxRows) {
  TensorMapDesc desc;
  desc.format = num::Format::BF16;
  desc.rank = 3;
  desc.base = operand.base;
  desc.size[0] = static_cast<uint64_t>(heads) * headSize;
  desc.size[1] = static_cast<uint64_t>(sequence);
  desc.size[2] = static_cast<uint64_t>(batches);
  desc.strideBytes[0] = static_cast<uint64_t>(operand.rowStride) * 2;
  desc.strideBytes[1] = static_cast<uint64_t>(operand.batchStride) * 2;
  desc.box[0] = headSize;
  desc.box[1] = static_cast<unsigned>(boxRows);
  desc.box[2] = 1;
  desc.swizzle = Swizzle::Span128;
  return desc;
}

/// Why the kernels cannot take a shape, empty if they can.
inline std::string checkShape(int sequence, int heads, int batches) {
  if (sequence >= 16 && sequence % 16 == 0 && heads >= 1 && heads <= 65535 &&
      batches >= 1 && batches <= 65535)
    return "";
  return "attention over " + std::to_string(batches) + " sequences of " +
         std::to_string(sequence) + " with " + std::to_string(heads) +
         " heads, expected a length that is a multiple of 16 and 1 to 65535 "
         "sequences and heads";
}

/// Starts attention over `batches` sequences; without dropout if
/// args.dropout.seed is null. Errors as in mpt::launch.
inline void run(const char *name, const Operand &q, const Operand &k,
                const Operand &v, const Args &args, int batches,
                cudaStream_t stream) {
  std::string error = checkShape(args.sequence, args.heads, batches);
  const Operand *operands[] = {&q, &k, &v};
  TensorMap maps[3];
  for (int i = 0; i < 3 && error.empty(); ++i)
    error = encodeTensorMap(maps[i],
                            operandMap(*operands[i], args.sequence, args.heads,
                                       batches, i ? tileKeys : blockRows));
  if (!error.empty()) {
    fail(std::string(name) + ": " + error);
    return;
  }
  dim3 grid(blocksFor(args.sequence, blockRows),
            static_cast<unsigned>(args.heads), static_cast<unsigned>(batches));
  launch(name, args.dropout.seed ? forward<true> : forward<false>, grid,
         threads, sharedBytes, stream, maps[0], maps[1], maps[2], args);
}

} // namespace attention
} // namespace mpt

#endif // MPT_CUDA_HOPPERATTENTION_H
