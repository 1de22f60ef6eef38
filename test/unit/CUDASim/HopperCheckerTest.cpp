//===- HopperCheckerTest.cpp - Ordinary accesses beside async work --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Compiled for the checker, which sees ordinary loads and stores: those that
// collide with a copy, a store or wgmma are found with their line, whatever the
// order.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/Hopper.h"

using namespace mpt;
using namespace mpt::test;

namespace {

class HopperChecker : public CudaSimOrders {
protected:
  DeviceArray<uint8_t> from{std::vector<uint8_t>(4096, 1)}, to{4096};
  DeviceArray<float> out{128};
  TensorMap fromMap, toMap;

  void SetUp() override {
    CudaSimOrders::SetUp();
    auto describe = [](const DeviceArray<uint8_t> &x) {
      return matrixMap(num::Format::E4M3, x.get(), 32, 128, 128, 32, 128,
                       Swizzle::None);
    };
    ASSERT_EQ(encodeTensorMap(fromMap, describe(from)), "");
    ASSERT_EQ(encodeTensorMap(toMap, describe(to)), "");
  }
  template <typename Kernel> void run(Kernel kernel) {
    launch("kernel", kernel, 1, 128, 4096, nullptr, fromMap, toMap, out.get());
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, HopperChecker,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "random:2", "interleaved:1",
                                           "interleaved:2"));

/// The line of the planted error in the kernel that was launched last.
int badLine = 0;
std::string badPlace() {
  return "HopperCheckerTest.cpp:" + std::to_string(badLine);
}

void setUp(uint64_t *full) {
  if (threadIdx.x == 0) {
    initBarrier(full, 1);
    fenceBarrierInit();
  }
  __syncthreads();
}

template <bool Wait>
__global__ void readTile(const TensorMap from, const TensorMap, float *out) {
  MPT_SHARED_DYN(unsigned char, tile);
  MPT_SHARED(uint64_t, full, 1);
  setUp(full);
  if (threadIdx.x == 0) {
    arriveExpecting(full, 4096);
    copyTile(tile, &from, 0, 0, full);
  }
  __syncthreads();
  if (Wait)
    wait(full, 0);
  badLine = __LINE__ + 1;
  out[threadIdx.x] = tile[threadIdx.x];
}

TEST_P(HopperChecker, ReadBeforeLanding) {
  run(readTile<true>);
  EXPECT_EQ(takeError(), "");
  run(readTile<false>);
  expectError({"reads", "the copy at",
               "fills, and its mbarrier was not waited "
               "for",
               badPlace()});
}

/// One thread waits and the others meet it: they know then, too.
__global__ void readBehindOther(const TensorMap from, const TensorMap,
                                float *out) {
  MPT_SHARED_DYN(unsigned char, tile);
  MPT_SHARED(uint64_t, full, 1);
  setUp(full);
  if (threadIdx.x == 0) {
    arriveExpecting(full, 4096);
    copyTile(tile, &from, 0, 0, full);
    wait(full, 0);
  }
  if (threadIdx.x < 64)
    syncNamed(1, 64);
  if (threadIdx.x < 64)
    out[threadIdx.x] = tile[threadIdx.x];
}

TEST_P(HopperChecker, ReadBehindAnother) {
  run(readBehindOther);
  EXPECT_EQ(takeError(), "");
}

template <bool Fence, bool Barrier>
__global__ void storeTileOfAll(const TensorMap, const TensorMap to, float *) {
  MPT_SHARED_DYN(unsigned char, tile);
  for (unsigned i = threadIdx.x; i < 4096; i += 128)
    tile[i] = static_cast<unsigned char>(i);
  if (Fence)
    fenceAsyncProxy();
  if (Barrier)
    syncNamed(2, 128);
  if (threadIdx.x == 0) {
    badLine = __LINE__ + 1;
    storeTile(&to, 0, 0, tile);
    commitStores();
    waitStoresRead<0>();
  }
}

TEST_P(HopperChecker, StoresNeedAFenceAndABarrier) {
  run(storeTileOfAll<true, true>);
  EXPECT_EQ(takeError(), "");
  run(storeTileOfAll<false, true>);
  expectError({"through the async proxy", "with no fence.proxy.async behind it",
               badPlace()});
  run(storeTileOfAll<true, false>);
  expectError({"thread (0,0,0)", badPlace()});
}

__global__ void overwriteWhileStoring(const TensorMap, const TensorMap to,
                                      float *) {
  MPT_SHARED_DYN(unsigned char, tile);
  for (unsigned i = threadIdx.x; i < 4096; i += 128)
    tile[i] = 1;
  fenceAsyncProxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    storeTile(&to, 0, 0, tile);
    commitStores();
  }
  __syncthreads();
  badLine = __LINE__ + 1;
  tile[threadIdx.x] = 2;
  if (threadIdx.x == 0)
    waitStoresRead<0>();
}

TEST_P(HopperChecker, OverwriteWhileStoring) {
  run(overwriteWhileStoring);
  expectError({"writes", "which the store at", "still reads", badPlace()});
}

/// Reads a tile, then lets the copy engine fill it again without saying so.
template <bool Arrive>
__global__ void refill(const TensorMap from, const TensorMap, float *out) {
  MPT_SHARED_DYN(unsigned char, tile);
  MPT_SHARED(uint64_t, barriers, 2);
  if (threadIdx.x == 0) {
    initBarrier(barriers, 1);
    initBarrier(barriers + 1, 96);
    fenceBarrierInit();
  }
  __syncthreads();
  for (unsigned round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) {
      if (round && Arrive)
        wait(barriers + 1, 0);
      arriveExpecting(barriers, 4096);
      badLine = __LINE__ + 1;
      copyTile(tile, &from, 0, 0, barriers);
    }
    if (threadIdx.x >= 32) {
      wait(barriers, round);
      out[threadIdx.x] = tile[threadIdx.x];
      arrive(barriers + 1);
    } else if (!Arrive) {
      wait(barriers, round);
    }
  }
  if (threadIdx.x == 0)
    wait(barriers, 1);
}

TEST_P(HopperChecker, RefillWhatIsBeingRead) {
  run(refill<true>);
  EXPECT_EQ(takeError(), "");
  run(refill<false>);
  std::string error = takeError();
  cudaGetLastError();
  // In some orders the readers miss a phase first: then they wait for ever.
  EXPECT_NE(error, "");
}

/// Operands of wgmma by ordinary stores.
template <bool Fence>
__global__ void multiplyStored(const TensorMap, const TensorMap, float *out) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  unsigned char *tile =
      dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
  for (unsigned i = threadIdx.x; i < 8192; i += 128)
    tile[i] = 0x38; // 1 in E4M3
  if (Fence)
    fenceAsyncProxy();
  __syncthreads();
  float d[32];
  uint64_t operand = operandDescriptor(tile, 1024);
  fenceMma();
  badLine = __LINE__ + 1;
  issueMma<num::Format::E4M3, num::Format::E4M3, 64>(d, operand, operand,
                                                     false);
  commitMma();
  waitMma<0>(d);
  out[threadIdx.x] = d[threadIdx.x % 32];
}

TEST_P(HopperChecker, OperandsByOrdinaryStores) {
  launch("kernel", multiplyStored<true>, 1, 128, 9216, nullptr, fromMap, toMap,
         out.get());
  EXPECT_EQ(takeError(), "");
  EXPECT_EQ(out.host(), std::vector<float>(128, 32.0f));
  launch("kernel", multiplyStored<false>, 1, 128, 9216, nullptr, fromMap, toMap,
         out.get());
  expectError({"through the async proxy", "with no fence.proxy.async behind it",
               badPlace()});
}

} // namespace
