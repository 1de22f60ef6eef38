//===- CheckerTest.cpp - What only the checker sees -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Compiled with -fsanitize=thread and linked to the simulator's checker, as is
// KernelsTest.cpp (whose kernels must pass without a report). Each kernel here
// has one planted error of memory, found with its line.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/Products.h"

using namespace mpt;
using namespace mpt::test;

namespace {

/// The line of the planted error in the kernel that was launched last.
int badLine = 0;

__global__ void missingBarrier(float *x) {
  MPT_SHARED(float, tile, 64);
  tile[threadIdx.x] = 1.0f;
  badLine = __LINE__ + 1;
  x[threadIdx.x] = tile[63 - threadIdx.x];
}

/// A buffer is used again while others may still read it.
__global__ void reuseWithoutBarrier(float *x) {
  MPT_SHARED(float, total, 2);
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x % 32 == 0)
      total[threadIdx.x / 32] = 1.0f;
    __syncthreads();
    badLine = __LINE__ + 1;
    x[threadIdx.x] = total[0] + total[1];
  }
}

__global__ void missingWarpBarrier(float *x, bool wait) {
  MPT_SHARED(float, tile, 32);
  tile[threadIdx.x] = 1.0f;
  if (wait)
    __syncwarp();
  badLine = __LINE__ + 1;
  x[threadIdx.x] = tile[threadIdx.x ^ 1];
}

__global__ void blocksCollide(float *x) {
  badLine = __LINE__ + 1;
  x[threadIdx.x] = 1.0f;
}

__global__ void plainReadOfAtomic(unsigned *x, unsigned *y) {
  badLine = __LINE__ + 1;
  atomicAdd(x, 1u);
  y[threadIdx.x] = *x;
}

__global__ void copy(const float *from, float *to) {
  badLine = __LINE__ + 1;
  to[threadIdx.x] = from[threadIdx.x];
}

__global__ void unwrittenShared(float *x) {
  MPT_SHARED(float, tile, 32);
  if (threadIdx.x < 31)
    tile[threadIdx.x] = 1.0f;
  __syncthreads();
  badLine = __LINE__ + 1;
  x[threadIdx.x] = tile[31 - threadIdx.x];
}

__global__ void sharedReadBehind(float *x) {
  MPT_SHARED(float, tile, 32);
  tile[threadIdx.x] = 1.0f;
  __syncwarp();
  badLine = __LINE__ + 1;
  x[threadIdx.x] = tile[threadIdx.x + 1];
}

__global__ void readHidden(uint64_t address, float *x) {
  badLine = __LINE__ + 1;
  x[0] = *reinterpret_cast<const float *>(address);
}

using Checker = CudaSimTest;

std::string badPlace() { return "CheckerTest.cpp:" + std::to_string(badLine); }

TEST_F(Checker, MissingBarrier) {
  DeviceArray<float> x(64);
  launch("kernel", missingBarrier, 1, 64, 0, nullptr, x.get());
  expectError({"kernel 'kernel'", "race: reads", "of shared array 'tile'",
               "wrote with no barrier in between", badPlace()});
}

TEST_F(Checker, ReuseWithoutBarrier) {
  DeviceArray<float> x(64);
  launch("kernel", reuseWithoutBarrier, 1, 64, 0, nullptr, x.get());
  // The first warp is in its second round when the other threads read.
  expectError({"race: reads", "shared array 'total'",
               "wrote with no barrier in between", badPlace()});
}

TEST_F(Checker, MissingWarpBarrier) {
  DeviceArray<float> x(32);
  launch("kernel", missingWarpBarrier, 1, 32, 0, nullptr, x.get(), true);
  EXPECT_EQ(takeError(), "");
  launch("kernel", missingWarpBarrier, 1, 32, 0, nullptr, x.get(), false);
  expectError({"race: reads", "shared array 'tile'", badPlace()});
}

TEST_F(Checker, BlocksCollide) {
  DeviceArray<float> x(32);
  launch("kernel", blocksCollide, 1, 32, 0, nullptr, x.get());
  launch("kernel", blocksCollide, 1, 32, 0, nullptr, x.get());
  EXPECT_EQ(takeError(), "") << "launches are ordered";
  launch("kernel", blocksCollide, 3, 32, 0, nullptr, x.get());
  expectError({"block (1,0,0), thread (0,0,0): race: writes",
               "which thread 0 of block (0,0,0) wrote", badPlace()});
}

TEST_F(Checker, PlainReadOfAnAtomic) {
  DeviceArray<unsigned> x(std::vector<unsigned>{0}), y(32);
  launch("kernel", plainReadOfAtomic, 1, 32, 0, nullptr, x.get(), y.get());
  expectError({"thread (1,0,0): race: updates atomically",
               "which thread (0,0,0) read with no barrier", badPlace()});
  sim::options().order = sim::Order::Interleaved;
  launch("kernel", plainReadOfAtomic, 1, 32, 0, nullptr, x.get(), y.get());
  expectError({"race: "});
}

TEST_F(Checker, UnwrittenDeviceMemory) {
  DeviceArray<float> from(32), to(32);
  ASSERT_EQ(cudaMemset(from.get(), 0, 31 * 4), cudaSuccess);
  launch("kernel", copy, 1, 32, 0, nullptr, from.get(), to.get());
  expectError({"thread (31,0,0): reads", "byte 124 of an allocation of 128",
               "which was never written", badPlace()});
  ASSERT_EQ(cudaMemset(from.get(), 0, 128), cudaSuccess);
  launch("kernel", copy, 1, 32, 0, nullptr, from.get(), to.get());
}

TEST_F(Checker, UnwrittenSharedMemory) {
  DeviceArray<float> x(32);
  launch("kernel", unwrittenShared, 1, 32, 0, nullptr, x.get());
  expectError({"thread (0,0,0): reads", "byte 124 of shared array 'tile'",
               "which was never written", badPlace()});
}

TEST_F(Checker, ReadBehindASharedArray) {
  DeviceArray<float> x(32);
  launch("kernel", sharedReadBehind, 1, 32, 0, nullptr, x.get());
  expectError({"thread (31,0,0): out of bounds: reads",
               "byte 128 of shared array 'tile' of 128", badPlace()});
}

TEST_F(Checker, OneBufferIntoTheNext) {
  DeviceArray<float> arena(std::vector<float>(128, 1.0f));
  float *first = arena.get(), *second = arena.get() + 31;
  nameBuffer(first, 31 * 4, "first");
  nameBuffer(second, 32 * 4, "second");
  launch("kernel", copy, 1, 32, 0, nullptr, first, second + 32);
  expectError({"thread (31,0,0): not a buffer that the kernel was given: reads",
               "byte 0 of buffer 'second' of 128", badPlace()});
  launch("kernel", copy, 1, 31, 0, nullptr, first, second + 32);
  EXPECT_EQ(takeError(), "") << "unnamed parts of an arena are free";
  launch("kernel", copy, 1, 32, 0, nullptr, second, second + 32);
  EXPECT_EQ(takeError(), "");
}

TEST_F(Checker, PlacesThatLifetimesShare) {
  DeviceArray<float> arena(std::vector<float>(128, 1.0f));
  nameBuffer(arena.get(), 16 * 4, "early");
  nameBuffer(arena.get(), 32 * 4, "late");
  launch("kernel", copy, 1, 32, 0, nullptr, arena.get(), arena.get() + 32);
}

TEST_F(Checker, HostMemory) {
  DeviceArray<float> x(1);
  auto host = std::make_unique<float>(1.0f);
  launch("kernel", readHidden, 1, 1, 0, nullptr,
         reinterpret_cast<uint64_t>(host.get()), x.get());
  expectError({"reads host memory", badPlace()});
}

TEST_F(Checker, ProductsReadAndWrite) {
  Products products;
  ASSERT_EQ(products.open(1 << 20), "");
  ProductDesc desc;
  desc.name = "dense/fprop";
  desc.m = desc.n = desc.k = 4;
  ASSERT_EQ(products.add(desc), "");
  DeviceArray<float> x(16), y(16), z(16);
  launch("fill", blocksCollide, 1, 15, 0, nullptr, x.get());
  products.run(0, x.get(), x.get(), y.get(), nullptr, nullptr, nullptr);
  EXPECT_NE(sim::report().find("product 'dense/fprop' reads bytes that were "
                               "never written"),
            std::string::npos);
  cudaGetLastError();
  launch("fill", blocksCollide, 1, 16, 0, nullptr, x.get());
  products.run(0, x.get(), x.get(), y.get(), nullptr, nullptr, nullptr);
  launch("kernel", copy, 1, 16, 0, nullptr, y.get(), z.get());
  EXPECT_EQ(z.host()[0], 4.0f);
}

} // namespace
