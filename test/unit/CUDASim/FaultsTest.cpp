//===- FaultsTest.cpp - Wrong kernels and launches are reported -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Each kernel has one planted error. The report must name the kernel, say what
// is wrong and give the line.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

using namespace mpt;
using namespace mpt::test;

namespace {

int divergentLine = 0;

__global__ void divergentBarrier(float *x) {
  divergentLine = __LINE__ + 2;
  if (threadIdx.x < 16)
    __syncthreads();
  x[threadIdx.x] = 1.0f;
}

__global__ void twoBarriers(float *x) {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    __syncthreads();
  x[threadIdx.x] = 1.0f;
}

__global__ void earlyReturn(float *x, int n) {
  if (static_cast<int>(threadIdx.x) >= n)
    return;
  x[threadIdx.x] = 1.0f;
  __syncthreads();
}

__global__ void missingLanes(float *x, int n) {
  if (static_cast<int>(threadIdx.x) < n)
    x[threadIdx.x] = warpSum(1.0f);
}

__global__ void twoShuffles(float *x) {
  float v = 1.0f;
  if (threadIdx.x < 16)
    v = __shfl_xor_sync(0xffffffffu, v, 1);
  else
    v = __shfl_xor_sync(0xffffffffu, v, 1);
  x[threadIdx.x] = v;
}

__global__ void laneNotInMask(float *x) {
  float v = 1.0f;
  if (threadIdx.x < 16)
    v = __shfl_sync(0x0000ffffu, v, 20);
  x[threadIdx.x] = v;
}

__global__ void writeAt(float *x, int64_t index) { x[index] = 1.0f; }

__global__ void sharedAt(float *x, int index) {
  MPT_SHARED(float, tile, 40);
  tile[index] = 1.0f;
  x[0] = tile[0];
}

__global__ void dynamicAt(float *x, int index) {
  MPT_SHARED_DYN(float, tile);
  tile[index] = 1.0f;
  x[0] = tile[0];
}

__global__ void divide(int *x) { x[0] = x[1] / x[0]; }

__global__ void unwrittenShared(float *x) {
  MPT_SHARED(float, tile, 32);
  x[threadIdx.x] = tile[threadIdx.x];
}

__global__ void tooMuchShared(float *x) {
  MPT_SHARED(float, tile, 20000);
  x[0] = tile[0];
}

__global__ void nothing() {}

using Faults = CudaSimTest;

TEST_F(Faults, BarrierInADivergentBranch) {
  DeviceArray<float> x(32);
  launch("divergent", divergentBarrier, 1, 32, 0, nullptr, x.get());
  expectError({"divergent: cudaErrorLaunchFailure", "kernel 'divergent'",
               "block (0,0,0)", "16 threads in __syncthreads() at",
               place(divergentLine), "16 threads returned from the kernel"});
}

TEST_F(Faults, TwoBarriersMeet) {
  DeviceArray<float> x(32);
  launch("two", twoBarriers, 1, 32, 0, nullptr, x.get());
  expectError({"kernel 'two'", "meet at different barriers",
               "thread (31,0,0) in __syncthreads() at", "thread (0,0,0)"});
}

TEST_F(Faults, ReturnInFrontOfABarrier) {
  DeviceArray<float> x(64);
  launch("early", earlyReturn, 2, 64, 0, nullptr, x.get(), 50);
  expectError({"kernel 'early'", "50 threads in __syncthreads()",
               "14 threads returned from the kernel (first thread (50,0,0))"});
}

TEST_F(Faults, ShuffleWithMissingLanes) {
  DeviceArray<float> x(32);
  launch("lanes", missingLanes, 1, 32, 0, nullptr, x.get(), 20);
  expectError({"kernel 'lanes'", "20 threads in __shfl_xor_sync() at",
               "FaultsTest.cpp:", "12 threads returned"});
}

TEST_F(Faults, TwoShufflesMeet) {
  DeviceArray<float> x(32);
  launch("shuffles", twoShuffles, 1, 32, 0, nullptr, x.get());
  expectError({"kernel 'shuffles'", "meet in different warp functions",
               "thread (31,0,0)", "thread (0,0,0)"});
}

TEST_F(Faults, ShuffleFromALaneThatIsNotThere) {
  DeviceArray<float> x(32);
  launch("lane", laneNotInMask, 1, 32, 0, nullptr, x.get());
  expectError({"kernel 'lane'", "reads lane 20", "not in the mask"});
}

TEST_F(Faults, WriteBehindAnAllocation) {
  DeviceArray<float> x(64); // 256 bytes: the next is an inaccessible page
  launch("behind", writeAt, 1, 1, 0, nullptr, x.get(), int64_t(64));
  expectError({"kernel 'behind'", "thread (0,0,0) accesses illegal address",
               "byte 256 of an allocation of 256 bytes"});
}

TEST_F(Faults, WriteShortlyBehindAnAllocation) {
  float *x = nullptr; // freed before the canary is looked at again
  ASSERT_EQ(cudaMalloc(&x, 40), cudaSuccess);
  launch("shortly", writeAt, 1, 1, 0, nullptr, x, int64_t(11));
  expectError({"kernel 'shortly'", "behind an allocation of 40 bytes",
               "4 bytes behind its end"});
  EXPECT_EQ(cudaFree(x), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(Faults, WriteBeforeAnAllocation) {
  float *x = nullptr;
  ASSERT_EQ(cudaMalloc(&x, 40), cudaSuccess);
  launch("before", writeAt, 1, 1, 0, nullptr, x, int64_t(-2));
  expectError({"kernel 'before'", "8 bytes before its start"});
  cudaFree(x);
  cudaGetLastError();
}

TEST_F(Faults, FreedMemory) {
  float *x = nullptr;
  ASSERT_EQ(cudaMalloc(&x, 4096), cudaSuccess);
  ASSERT_EQ(cudaFree(x), cudaSuccess);
  launch("freed", writeAt, 1, 1, 0, nullptr, x, int64_t(0));
  expectError({"freed: cudaErrorInvalidValue", "pointer argument 0",
               "freed allocation of 4096 bytes"});
}

TEST_F(Faults, HostPointerAsArgument) {
  float x[4];
  launch("host", writeAt, 1, 1, 0, nullptr, &x[0], int64_t(0));
  expectError({"host: cudaErrorInvalidValue", "pointer argument 0",
               "not device memory"});
}

TEST_F(Faults, WriteBesideASharedArray) {
  DeviceArray<float> x(1);
  launch("shared", sharedAt, 1, 1, 0, nullptr, x.get(), 41);
  expectError({"kernel 'shared'", "byte 164 of shared array 'tile' of 160"});
  launch("shared", sharedAt, 1, 1, 0, nullptr, x.get(), -1);
  expectError({"kernel 'shared'", "byte -4 of shared array 'tile'"});
}

TEST_F(Faults, WriteBehindDynamicSharedMemory) {
  DeviceArray<float> x(1);
  launch("dynamic", dynamicAt, 1, 1, 100, nullptr, x.get(), 25);
  expectError({"kernel 'dynamic'", "byte 100 of the dynamic part of 100"});
}

TEST_F(Faults, DivisionByZero) {
  DeviceArray<int> x(std::vector<int>{0, 1});
  launch("divide", divide, 1, 1, 0, nullptr, x.get());
  expectError({"kernel 'divide'", "divides an integer by zero"});
}

TEST_F(Faults, SharedMemoryBeginsAsNaN) {
  DeviceArray<float> x(32);
  launch("unwritten", unwrittenShared, 1, 32, 0, nullptr, x.get());
  for (float one : x.host())
    EXPECT_TRUE(one != one);
}

TEST_F(Faults, TooMuchStaticSharedMemory) {
  DeviceArray<float> x(1);
  launch("large", tooMuchShared, 1, 1, 0, nullptr, x.get());
  expectError({"kernel 'large'", "'tile' of 80000 bytes does not fit"});
}

TEST_F(Faults, TooManyThreads) {
  launch("threads", nothing, 1, 1025, 0, nullptr);
  expectError({"threads: cudaErrorInvalidConfiguration", "block of 1025x1x1"});
}

TEST_F(Faults, EmptyGrid) {
  launch("grid", nothing, 0, 32, 0, nullptr);
  expectError({"grid: cudaErrorInvalidConfiguration", "grid of 0x1x1"});
}

TEST_F(Faults, DynamicSharedMemoryIsLimited) {
  launch("shared", nothing, 1, 32, 200 * 1024, nullptr);
  EXPECT_FALSE(failed());
  launch("shared", nothing, 1, 32, 228 * 1024, nullptr);
  expectError({"shared: cudaErrorInvalidValue", "233472", "232448"});
}

TEST_F(Faults, TheFirstErrorStays) {
  DeviceArray<float> x(std::vector<float>{0.0f});
  launch("first", nothing, 1, 2000, 0, nullptr);
  launch("second", nothing, 1, 3000, 0, nullptr);
  launch("third", writeAt, 1, 1, 0, nullptr, x.get(), int64_t(0));
  EXPECT_EQ(x.host()[0], 0.0f) << "launched behind an error";
  expectError({"first: ", "2000"});
}

TEST_F(Faults, TheSimulatorRunsOnAfterAFault) {
  DeviceArray<float> x(64);
  launch("early", earlyReturn, 1, 64, 0, nullptr, x.get(), 50);
  EXPECT_NE(takeError(), "");
  EXPECT_NE(sim::report().find("kernel 'early'"), std::string::npos);
  launch("well", earlyReturn, 1, 64, 0, nullptr, x.get(), 64);
  EXPECT_EQ(x.host()[63], 1.0f);
}

} // namespace
