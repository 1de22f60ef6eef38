//===- HopperAttention.h - Attention without its scores ---------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// O = dropout(softmax(scale * Q K^T + bias)) V in BF16, for heads of 32 to 128
// elements in steps of 16, after FlashAttention (Dao et al., 2022): scores live
// in registers only. A block takes 128 rows of one head; its first warpgroup
// keeps a ring of K and V tiles of 64 or 128 keys filled, the other two each
// have 64 rows of Q.
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
#include <vector>

namespace mpt {
namespace attention {

constexpr int warpgroupRows = 64, consumers = 2;
constexpr int blockRows = consumers * warpgroupRows;
constexpr int threads = 128 * (1 + consumers);

/// How rows of one head lie in shared memory: panels of as many columns as the
/// widest swizzle that divides the head has, each with all rows. (CUTLASS
/// chooses the same; a product of n columns then never ends inside a panel.)
template <int HeadSize> struct Head {
  static_assert(HeadSize >= 32 && HeadSize <= 128 && HeadSize % 16 == 0,
                "no kernel for this head size");
  static constexpr int columns = HeadSize % 64 == 0   ? 64
                                 : HeadSize % 32 == 0 ? 32
                                                      : 16;
  static constexpr int panels = HeadSize / columns, span = 2 * columns;
  static constexpr Swizzle swizzle = static_cast<Swizzle>(span);
  static constexpr int rowBytes = 2 * HeadSize;
  /// Keys of a tile of the forward pass: with 128, the weights and the output
  /// of larger heads would not fit in registers.
  static constexpr int tileKeys = HeadSize <= 64 ? 128 : 64;
};

/// Dropout of element ((batch * heads + head) * sequence + row) * sequence +
/// key as in mpt/Numerics/Philox.h: kept iff its word is below `threshold`.
/// Null pointers where nothing is dropped.
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

/// What attention and its gradient have in common.
struct Common {
  int sequence, heads;
  /// Factor of the scores.
  float scale;
  /// Added to the scores of each key: the padding mask of a sequence is
  /// biasStride numbers behind that of the one before. Or null.
  const float *bias;
  int64_t biasStride;
  Dropout dropout;
  /// The largest score m of each row and the logarithm of the sum of its
  /// e^(score - m), [batch, heads, sequence]: written by the forward pass.
  float *rowMax, *logSum;

  template <typename Visit> void visitPointers(Visit visit) const {
    visit(bias);
    visit(dropout.seed);
    visit(dropout.step);
    visit(rowMax);
    visit(logSum);
  }
};

template <typename Out> struct Args : Common {
  /// O in BF16 (uint16_t) or f32: element (batch, row, head, i) is at batch *
  /// batchStride + row * rowStride + head * head size + i. Aligned to a pair.
  Out *out;
  int64_t rowStride, batchStride;

  template <typename Visit> void visitPointers(Visit visit) const {
    Common::visitPointers(visit);
    visit(out);
  }
};

/// A block's ring of stages, and what is loaded once.
template <int Stages> struct Barriers {
  uint64_t *kept, *full, *empty;

  __device__ __forceinline__ explicit Barriers(unsigned char *place)
      : kept(reinterpret_cast<uint64_t *>(place)), full(kept + 1),
        empty(full + Stages) {}
  static constexpr int bytes = (1 + 2 * Stages) * 8;

  __device__ __forceinline__ void init() const {
    initBarrier(kept, 1);
    for (int i = 0; i < Stages; ++i) {
      initBarrier(full + i, 1);
      initBarrier(empty + i, consumers * 4);
    }
    fenceBarrierInit();
  }
};

/// Place in a ring of stages.
template <int Stages> struct Position {
  int stage = 0;
  unsigned phase = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == Stages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

/// Where dynamic shared memory begins that tiles can be in.
__device__ __forceinline__ unsigned char *alignTiles(unsigned char *dynamic) {
  return dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
}

/// Starts to copy `Rows` rows of the block's head, from `row` on.
template <int HeadSize, int Rows>
__device__ __forceinline__ void
copyHead(unsigned char *to, const TensorMap *map, int row, uint64_t *barrier) {
  using H = Head<HeadSize>;
  const int column = static_cast<int>(blockIdx.y) * HeadSize;
  for (int panel = 0; panel < H::panels; ++panel)
    copyTile(to + panel * Rows * H::span, map, column + panel * H::columns, row,
             static_cast<int>(blockIdx.z), barrier);
}

/// Ordinal of the block's head, over all sequences.
__device__ __forceinline__ int64_t blockHead(int heads) {
  return static_cast<int64_t>(blockIdx.z) * heads + blockIdx.y;
}

/// The first row that the thread holds of its warpgroup's 64.
__device__ __forceinline__ int firstRow() {
  return static_cast<int>(blockIdx.x) * blockRows +
         static_cast<int>(threadIdx.x - 128) / 32 * 16 +
         fragmentRow(laneId(), 0);
}

/// A thread's part of the softmax of two rows (i / 2 % 2 of accumulator i).
struct Rows {
  float largest[2], sum[2];
};

/// What is added to the scores of a key: -inf beyond the sequence.
__device__ __forceinline__ float keyBias(const Common &args, int key) {
  if (key >= args.sequence)
    return -INFINITY;
  return args.bias
             ? __ldg(args.bias +
                     static_cast<int64_t>(blockIdx.z) * args.biasStride + key)
             : 0.0f;
}

/// Scales and masks the scores of keys from `key` on.
template <int Count>
__device__ __forceinline__ void maskScores(float (&s)[Count],
                                           const Common &args, int key) {
  MPT_UNROLL
  for (int i = 0; i < Count; ++i)
    s[i] = s[i] * args.scale + keyBias(args, key + fragmentColumn(laneId(), i));
}

/// Turns scores into weights and updates the rows; returns in `correction` what
/// the sums of earlier tiles are to be multiplied by.
template <int Count>
__device__ __forceinline__ void updateRows(float (&s)[Count], Rows &rows,
                                           float (&correction)[2]) {
  MPT_UNROLL
  for (int half = 0; half < 2; ++half) {
    float largest = rows.largest[half];
    MPT_UNROLL
    for (int i = 2 * half; i < Count; i += 4)
      largest = num::maxOf(num::maxOf(largest, s[i]), s[i + 1]);
    largest = num::maxOf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = num::maxOf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    // While all keys are masked, nothing is subtracted: weights are 0.
    const float shift = largest == -INFINITY ? 0.0f : largest;
    correction[half] = num::exp(rows.largest[half] - shift);
    float sum = 0.0f;
    MPT_UNROLL
    for (int i = 2 * half; i < Count; i += 4) {
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

/// Two neighbours, the first in the lower half.
__device__ __forceinline__ uint32_t encodePair(float x, float y) {
  return num::encodeBF16(x) | num::encodeBF16(y) << 16;
}

/// Numbers of a 64 x 2 Count result as operands of a product: 16 columns each.
template <int Count>
__device__ __forceinline__ void encodeOperand(const float (&p)[Count],
                                              uint32_t (&a)[Count / 8][4]) {
  MPT_UNROLL
  for (int i = 0; i < Count; i += 2)
    a[i / 8][i / 2 % 4] = encodePair(p[i], p[i + 1]);
}

/// s = X Y^T for a warpgroup's 64 of the block's rows of X and the 2 Count rows
/// of Y.
template <int HeadSize, int Count>
__device__ __forceinline__ void
multiplyRows(float (&s)[Count], const unsigned char *x, int warpgroup,
             const unsigned char *y) {
  using H = Head<HeadSize>;
  const uint64_t descX = operandDescriptor(
      x + warpgroup * warpgroupRows * H::span, 8 * H::span, 16, H::swizzle);
  const uint64_t descY = operandDescriptor(y, 8 * H::span, 16, H::swizzle);
  fenceMma();
  MPT_UNROLL
  for (int i = 0; i < HeadSize; i += 16) {
    const int panel = i / H::columns, within = i % H::columns * 2;
    issueMma<num::Format::BF16, num::Format::BF16, 2 * Count>(
        s, advanced(descX, panel * blockRows * H::span + within),
        advanced(descY, panel * 2 * Count * H::span + within), i > 0);
  }
  commitMma();
  waitMma<0>(s);
}

/// o += A Y for Y of 16 Steps rows: transposed, as its rows are not what is
/// summed over.
template <int HeadSize, int Steps>
__device__ __forceinline__ void multiplyAdd(float (&o)[HeadSize / 2],
                                            const uint32_t (&a)[Steps][4],
                                            const unsigned char *y) {
  using H = Head<HeadSize>;
  const uint64_t descY =
      operandDescriptor(y, 8 * H::span, 16 * Steps * H::span, H::swizzle);
  fenceMma();
  MPT_UNROLL
  for (int i = 0; i < Steps; ++i)
    issueMmaA<HeadSize, true>(o, a[i], advanced(descY, 16 * H::span * i), true);
  commitMma();
  waitMma<0>(o);
}

template <int Count> __device__ __forceinline__ void clear(float (&o)[Count]) {
  MPT_UNROLL
  for (int i = 0; i < Count; ++i)
    o[i] = 0.0f;
}

__device__ __forceinline__ void storePair(uint16_t *to, float x, float y) {
  *reinterpret_cast<uint32_t *>(to) = encodePair(x, y);
}
__device__ __forceinline__ void storePair(float *to, float x, float y) {
  *reinterpret_cast<float2 *>(to) = make_float2(x, y);
}

/// Stores values[i] * factor[i / 2 % 2] of the block's head, for the thread's
/// rows below the sequence.
template <int HeadSize, typename T>
__device__ __forceinline__ void
storeHead(T *to, int64_t rowStride, int64_t batchStride,
          const float (&values)[HeadSize / 2], const float (&factor)[2],
          int sequence, int row) {
  to += blockIdx.z * batchStride + static_cast<int64_t>(blockIdx.y) * HeadSize;
  MPT_UNROLL
  for (int i = 0; i < HeadSize / 2; i += 2) {
    const int half = i / 2 % 2, at = row + 8 * half;
    if (at < sequence)
      storePair(to + at * rowStride + fragmentColumn(laneId(), i),
                values[i] * factor[half], values[i + 1] * factor[half]);
  }
}

/// Tiles of the forward pass: Q's rows, and a ring of K and V.
template <int HeadSize> struct Tiles {
  static constexpr int stages = 2, tileKeys = Head<HeadSize>::tileKeys;
  static constexpr int tileBytes = tileKeys * Head<HeadSize>::rowBytes;
  static constexpr int keptBytes = blockRows * Head<HeadSize>::rowBytes;
  static constexpr int ringBytes = stages * 2 * tileBytes;
  static constexpr int sharedBytes =
      1024 + keptBytes + ringBytes + Barriers<stages>::bytes;

  unsigned char *q, *ring;
  Barriers<stages> barriers;

  __device__ __forceinline__ explicit Tiles(unsigned char *aligned)
      : q(aligned), ring(q + keptBytes), barriers(ring + ringBytes) {}
  __device__ __forceinline__ unsigned char *k(int stage) const {
    return ring + stage * 2 * tileBytes;
  }
  __device__ __forceinline__ unsigned char *v(int stage) const {
    return k(stage) + tileBytes;
  }
};

/// One thread: loads Q's rows, then all tiles of K and V.
template <int HeadSize>
__device__ __forceinline__ void produce(const Tiles<HeadSize> &tiles,
                                        const TensorMap *q, const TensorMap *k,
                                        const TensorMap *v, int sequence) {
  using T = Tiles<HeadSize>;
  arriveExpecting(tiles.barriers.kept, T::keptBytes);
  copyHead<HeadSize, blockRows>(tiles.q, q,
                                static_cast<int>(blockIdx.x) * blockRows,
                                tiles.barriers.kept);
  Position<T::stages> at;
  for (int key = 0; key < sequence; key += T::tileKeys) {
    uint64_t *full = tiles.barriers.full + at.stage;
    wait(tiles.barriers.empty + at.stage, at.phase ^ 1);
    arriveExpecting(full, 2 * T::tileBytes);
    copyHead<HeadSize, T::tileKeys>(tiles.k(at.stage), k, key, full);
    copyHead<HeadSize, T::tileKeys>(tiles.v(at.stage), v, key, full);
    at.advance();
  }
}

/// One warpgroup: 64 rows of Q against all keys.
template <int HeadSize, bool Drops, typename Out>
__device__ __forceinline__ void consume(const Tiles<HeadSize> &tiles,
                                        const Args<Out> &args, int warpgroup) {
  const int row = firstRow();
  Rows rows = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
  float o[HeadSize / 2];
  clear(o);
  wait(tiles.barriers.kept, 0);
  constexpr int tileKeys = Head<HeadSize>::tileKeys;
  Position<Tiles<HeadSize>::stages> at;
  for (int key = 0; key < args.sequence; key += tileKeys) {
    float s[tileKeys / 2], correction[2];
    wait(tiles.barriers.full + at.stage, at.phase);
    multiplyRows<HeadSize>(s, tiles.q, warpgroup, tiles.k(at.stage));
    maskScores(s, args, key);
    updateRows(s, rows, correction);
    if constexpr (Drops)
      dropWeights(s, args.dropout, blockHead(args.heads), args.sequence, row,
                  key);
    uint32_t a[tileKeys / 16][4];
    encodeOperand(s, a);
    MPT_UNROLL
    for (int i = 0; i < HeadSize / 2; ++i)
      o[i] = o[i] * correction[i / 2 % 2];
    multiplyAdd<HeadSize>(o, a, tiles.v(at.stage));
    if (laneId() == 0)
      arrive(tiles.barriers.empty + at.stage);
    at.advance();
  }
  const float inverse[2] = {1.0f / rows.sum[0], 1.0f / rows.sum[1]};
  storeHead<HeadSize>(args.out, args.rowStride, args.batchStride, o, inverse,
                      args.sequence, row);
  MPT_UNROLL
  for (int half = 0; half < 2; ++half)
    if (laneId() % 4 == 0 && row + 8 * half < args.sequence) {
      const int64_t place =
          blockHead(args.heads) * args.sequence + row + 8 * half;
      args.rowMax[place] = rows.largest[half];
      args.logSum[place] = num::log(rows.sum[half]);
    }
}

template <int HeadSize, bool Drops, typename Out>
__global__ void __launch_bounds__(threads, 1)
    forward(const __grid_constant__ TensorMap q,
            const __grid_constant__ TensorMap k,
            const __grid_constant__ TensorMap v,
            const __grid_constant__ Args<Out> args) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  const Tiles<HeadSize> tiles(alignTiles(dynamic));
  if (threadIdx.x == 0)
    tiles.barriers.init();
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    lowerRegisters<40>();
    if (threadIdx.x == 0)
      produce(tiles, &q, &k, &v, args.sequence);
  } else {
    raiseRegisters<232>();
    consume<HeadSize, Drops>(tiles, args, warpgroup - 1);
  }
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

/// Where a BF16 operand is: element (batch, row, head, i) at batch *
/// batchStride
/// + row * rowStride + head * head size + i.
struct Operand {
  const void *base;
  int64_t rowStride, batchStride;
};

/// The tensor map of an operand with boxes of `rows` rows of a panel.
template <int HeadSize>
TensorMapDesc operandMap(const Operand &operand, const Common &args,
                         int batches, int rows) {
  using H = Head<HeadSize>;
  TensorMapDesc desc;
  desc.format = num::Format::BF16;
  desc.rank = 3;
  desc.base = operand.base;
  desc.size[0] = static_cast<uint64_t>(args.heads) * HeadSize;
  desc.size[1] = static_cast<uint64_t>(args.sequence);
  desc.size[2] = static_cast<uint64_t>(batches);
  desc.strideBytes[0] = static_cast<uint64_t>(operand.rowStride) * 2;
  desc.strideBytes[1] = static_cast<uint64_t>(operand.batchStride) * 2;
  desc.box[0] = H::columns;
  desc.box[1] = static_cast<unsigned>(rows);
  desc.box[2] = 1;
  desc.swizzle = H::swizzle;
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

/// A block for each 128 rows of each head of each sequence.
inline dim3 gridFor(const Common &args, int batches) {
  return dim3(blocksFor(args.sequence, blockRows),
              static_cast<unsigned>(args.heads),
              static_cast<unsigned>(batches));
}

/// One attention, ready to be launched again and again: addresses stay.
template <int HeadSize, bool Drops, typename Out> class Forward {
public:
  struct Description {
    const char *name;
    int batches;
    Operand q, k, v;
    Args<Out> args;
  };

  /// Makes the tensor maps; returns why it cannot, empty on success.
  std::string prepare(const Description &description) {
    what = description;
    std::string error =
        checkShape(what.args.sequence, what.args.heads, what.batches);
    const Operand *operands[] = {&what.q, &what.k, &what.v};
    for (int i = 0; i < 3 && error.empty(); ++i)
      error = encodeTensorMap(
          maps[i],
          operandMap<HeadSize>(*operands[i], what.args, what.batches,
                               i ? Head<HeadSize>::tileKeys : blockRows));
    return error.empty() ? "" : std::string(what.name) + ": " + error;
  }
  /// Errors as in mpt::launch.
  void run(cudaStream_t stream) const {
    launch(what.name, forward<HeadSize, Drops, Out>,
           gridFor(what.args, what.batches), threads,
           Tiles<HeadSize>::sharedBytes, stream, maps[0], maps[1], maps[2],
           what.args);
  }

private:
  Description what;
  TensorMap maps[3];
};

/// The attentions of a step that one kernel computes, in order.
template <typename Launch> class Launches {
public:
  void add(const typename Launch::Description &description) {
    Launch one;
    std::string error = one.prepare(description);
    if (!error.empty())
      fail(error);
    launches.push_back(one);
  }
  void run(size_t index, cudaStream_t stream) const {
    launches[index].run(stream);
  }
  void clear() { launches.clear(); }

private:
  std::vector<Launch> launches;
};

} // namespace attention
} // namespace mpt

#endif // MPT_CUDA_HOPPERATTENTION_H
