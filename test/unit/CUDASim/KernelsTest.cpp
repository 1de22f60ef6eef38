//===- KernelsTest.cpp - Right kernels run right --------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The kinds of kernel that the CUDA back end emits, against plain loops, under
// each order of threads.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Reduce.h"

using namespace mpt;
using namespace mpt::test;

namespace {

__global__ void scaleAndShift(const float *__restrict__ x,
                              float *__restrict__ y, float scale, float shift,
                              int64_t n) {
  int64_t i = gridThreadId();
  if (i < n)
    y[i] = x[i] * scale + shift;
}

__global__ void __launch_bounds__(128)
    softmax(const float *__restrict__ x, float *__restrict__ y, int64_t rows,
            int64_t n) {
  int64_t row = gridWarpId();
  if (row >= rows)
    return;
  const float *from = x + row * n;
  float largest = -INFINITY;
  for (int64_t i = laneId(); i < n; i += 32)
    largest = num::maxOf(largest, from[i]);
  largest = warpMax(largest);
  float sum = 0.0f;
  for (int64_t i = laneId(); i < n; i += 32)
    sum = sum + num::exp(from[i] - largest);
  sum = warpSum(sum);
  for (int64_t i = laneId(); i < n; i += 32)
    y[row * n + i] = num::exp(from[i] - largest) / sum;
}

/// Sum of a block's elements by a tree in shared memory.
__global__ void blockSum(const float *__restrict__ x, float *__restrict__ y) {
  MPT_SHARED(float, tree, 256);
  int t = static_cast<int>(threadIdx.x);
  tree[t] = x[gridThreadId()];
  for (int step = 128; step > 0; step /= 2) {
    __syncthreads();
    if (t < step)
      tree[t] = tree[t] + tree[t + step];
  }
  if (t == 0)
    y[blockIdx.x] = tree[0];
}

/// Transposes through dynamic shared memory, in two-dimensional blocks.
__global__ void transpose(const float *__restrict__ x, float *__restrict__ y,
                          int rows, int columns) {
  MPT_SHARED_DYN(float, tile);
  int row = static_cast<int>(blockIdx.y * 8 + threadIdx.y);
  int column = static_cast<int>(blockIdx.x * 8 + threadIdx.x);
  tile[threadIdx.y * 9 + threadIdx.x] = x[row * columns + column];
  __syncthreads();
  row = static_cast<int>(blockIdx.x * 8 + threadIdx.y);
  column = static_cast<int>(blockIdx.y * 8 + threadIdx.x);
  y[row * rows + column] = tile[threadIdx.x * 9 + threadIdx.y];
}

__global__ void scatter(const float *__restrict__ x,
                        const int64_t *__restrict__ ids,
                        float *__restrict__ sums, int64_t rows,
                        int64_t columns) {
  int64_t column = gridThreadId();
  if (column >= columns)
    return;
  for (int64_t row = 0; row < rows; ++row)
    sums[ids[row] * columns + column] += x[row * columns + column];
}

__global__ void warpFunctions(unsigned *out) {
  unsigned lane = threadIdx.x;
  unsigned *to = out + lane * 8;
  to[0] = __shfl_xor_sync(0xffffffffu, lane, 5);
  to[1] = __shfl_down_sync(0xffffffffu, lane, 3);
  to[2] = __shfl_up_sync(0xffffffffu, lane, 3, 16);
  to[3] = __shfl_sync(0xffffffffu, lane, 7, 8);
  to[4] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  to[5] = static_cast<unsigned>(__any_sync(0xffffffffu, lane == 9)) * 2 +
          static_cast<unsigned>(__all_sync(0xffffffffu, lane < 32));
  if (lane < 16)
    to[6] = __shfl_xor_sync(0x0000ffffu, lane, 1);
  else
    to[6] = __shfl_xor_sync(0xffff0000u, lane, 2);
  double wide = __shfl_down_sync(0xffffffffu, 0.5 + lane, 1);
  to[7] = static_cast<unsigned>(wide * 2);
}

__global__ void counters(unsigned *sums, float *largest, const float *x) {
  int64_t i = gridThreadId();
  atomicAdd(sums, 1u);
  atomicMax(sums + 1, static_cast<unsigned>(i));
  atomicCAS(sums + 2, 0u, static_cast<unsigned>(i) + 1);
  atomicAmax(largest, x[i]);
}

__global__ void encode(const float *__restrict__ x, uint8_t *__restrict__ codes,
                       uint16_t *__restrict__ halves, int64_t n) {
  for (int64_t i = gridThreadId(); i < n; i += gridThreads()) {
    codes[i] = static_cast<uint8_t>(num::encodeE4M3(x[i]));
    halves[i] = static_cast<uint16_t>(num::encodeBF16(x[i]));
  }
}

class Kernels : public CudaSimOrders {};
INSTANTIATE_TEST_SUITE_P(Orders, Kernels,
                         ::testing::Values("forward", "reverse", "random:7",
                                           "interleaved:7"));

TEST_P(Kernels, Elementwise) {
  constexpr int64_t n = 1000;
  std::vector<float> x = randomFloats(n);
  DeviceArray<float> in(x), out(n);
  launch("scale", scaleAndShift, blocksFor(n, 256), 256, 0, nullptr, in.get(),
         out.get(), 3.0f, 0.5f, n);
  std::vector<float> y = out.host();
  for (int64_t i = 0; i < n; ++i)
    EXPECT_EQ(y[i], x[i] * 3.0f + 0.5f);
}

TEST_P(Kernels, SoftmaxOfWarpsHasTheBitsOfTheDefinition) {
  constexpr int64_t rows = 10, n = 75;
  std::vector<float> x = randomFloats(rows * n);
  DeviceArray<float> in(x), out(rows * n);
  launch("softmax", softmax, blocksFor(rows, 4), 128, 0, nullptr, in.get(),
         out.get(), rows, n);
  std::vector<float> y = out.host();
  for (int64_t row = 0; row < rows; ++row) {
    const float *from = x.data() + row * n;
    float largest = num::rowMax(from, n);
    float sum =
        num::rowSum(n, [&](size_t i) { return num::exp(from[i] - largest); });
    for (int64_t i = 0; i < n; ++i)
      EXPECT_EQ(y[row * n + i], num::exp(from[i] - largest) / sum);
  }
}

TEST_P(Kernels, WarpMaximumKeepsNaN) {
  std::vector<float> x = randomFloats(64);
  x[45] = NAN;
  DeviceArray<float> in(x), out(64);
  launch("softmax", softmax, 1, 64, 0, nullptr, in.get(), out.get(), int64_t(2),
         int64_t(32));
  std::vector<float> y = out.host();
  for (int i = 0; i < 64; ++i)
    EXPECT_EQ(y[i] != y[i], i >= 32);
}

TEST_P(Kernels, BlockReductionInSharedMemory) {
  std::vector<float> x = randomFloats(1024);
  DeviceArray<float> in(x), out(4);
  launch("blockSum", blockSum, 4, 256, 0, nullptr, in.get(), out.get());
  std::vector<float> y = out.host();
  for (int b = 0; b < 4; ++b) {
    double sum = 0;
    for (int i = 0; i < 256; ++i)
      sum += x[b * 256 + i];
    EXPECT_NEAR(y[b], sum, 1e-4);
  }
}

TEST_P(Kernels, TransposeThroughDynamicSharedMemory) {
  constexpr int rows = 16, columns = 24;
  std::vector<float> x = randomFloats(rows * columns);
  DeviceArray<float> in(x), out(rows * columns);
  launch("transpose", transpose, dim3(columns / 8, rows / 8), dim3(8, 8),
         8 * 9 * sizeof(float), nullptr, in.get(), out.get(), rows, columns);
  std::vector<float> y = out.host();
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c)
      EXPECT_EQ(y[c * rows + r], x[r * columns + c]);
}

TEST_P(Kernels, ScatterWithOneOwnerPerColumn) {
  constexpr int64_t rows = 20, columns = 40, places = 5;
  std::vector<float> x = randomFloats(rows * columns);
  std::vector<int64_t> ids(rows);
  for (int64_t r = 0; r < rows; ++r)
    ids[r] = r * 3 % places;
  DeviceArray<float> in(x), out(places * columns);
  DeviceArray<int64_t> index(ids);
  ASSERT_EQ(cudaMemset(out.get(), 0, places * columns * 4), cudaSuccess);
  launch("scatter", scatter, blocksFor(columns, 32), 32, 0, nullptr, in.get(),
         index.get(), out.get(), rows, columns);
  std::vector<float> expected(places * columns, 0.0f);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      expected[ids[r] * columns + c] += x[r * columns + c];
  EXPECT_EQ(out.host(), expected);
}

TEST_P(Kernels, WarpFunctions) {
  DeviceArray<unsigned> out(32 * 8);
  launch("warp", warpFunctions, 1, 32, 0, nullptr, out.get());
  std::vector<unsigned> y = out.host();
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned *row = y.data() + lane * 8;
    EXPECT_EQ(row[0], lane ^ 5);
    EXPECT_EQ(row[1], lane < 29 ? lane + 3 : lane);
    EXPECT_EQ(row[2], lane % 16 < 3 ? lane : lane - 3);
    EXPECT_EQ(row[3], lane / 8 * 8 + 7);
    EXPECT_EQ(row[4], 0x49249249u);
    EXPECT_EQ(row[5], 3u);
    EXPECT_EQ(row[6], lane < 16 ? lane ^ 1 : lane ^ 2);
    EXPECT_EQ(row[7], (lane < 31 ? lane + 1 : lane) * 2 + 1);
  }
}

TEST_P(Kernels, Atomics) {
  std::vector<float> x = randomFloats(300);
  x[123] = -3.5f;
  DeviceArray<float> in(x), largest(std::vector<float>{0.0f});
  DeviceArray<unsigned> sums(std::vector<unsigned>{0, 0, 0});
  launch("counters", counters, 3, 100, 0, nullptr, sums.get(), largest.get(),
         in.get());
  std::vector<unsigned> y = sums.host();
  EXPECT_EQ(y[0], 300u);
  EXPECT_EQ(y[1], 299u);
  EXPECT_GE(y[2], 1u);
  EXPECT_EQ(largest.host()[0], 3.5f);
}

TEST_P(Kernels, EncodeWithTheSharedNumerics) {
  std::vector<float> x = randomFloats(500);
  DeviceArray<float> in(x);
  DeviceArray<uint8_t> codes(500);
  DeviceArray<uint16_t> halves(500);
  launch("encode", encode, 2, 64, 0, nullptr, in.get(), codes.get(),
         halves.get(), int64_t(500));
  std::vector<uint8_t> y = codes.host();
  std::vector<uint16_t> z = halves.host();
  for (int i = 0; i < 500; ++i) {
    EXPECT_EQ(y[i], num::encodeE4M3(x[i]));
    EXPECT_EQ(z[i], num::encodeBF16(x[i]));
  }
}

} // namespace
