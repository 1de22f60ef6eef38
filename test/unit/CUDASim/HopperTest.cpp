//===- HopperTest.cpp - sm_90a's instructions, simulated ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Copies and stores of two and three dimensions with tails and swizzles, wgmma
// with transposed operands and with A in registers, named barriers, setmaxnreg,
// and what the simulator says about their misuse.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/Hopper.h"

#include <numeric>

using namespace mpt;
using namespace mpt::test;
using num::Format;

namespace {

class Hopper : public CudaSimOrders {};
INSTANTIATE_TEST_SUITE_P(Orders, Hopper,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "random:2", "interleaved:1",
                                           "interleaved:2"));

/// Dynamic shared memory from a multiple of 1024 on.
unsigned char *aligned(unsigned char *dynamic) {
  return dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
}

/// One thread's use of an mbarrier for one copy.
void setUp(uint64_t *full) {
  if (threadIdx.x == 0) {
    initBarrier(full, 1);
    fenceBarrierInit();
  }
  __syncthreads();
}

//===----------------------------------------------------------------------===//
// Copies and stores
//===----------------------------------------------------------------------===//

/// Loads the box [2, 4, 16] at (x, y, z) and stores it elsewhere, plus 1.
__global__ void copyBox(const TensorMap from, const TensorMap to, int x, int y,
                        int z, float *seen) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  float *tile = reinterpret_cast<float *>(aligned(dynamic));
  MPT_SHARED(uint64_t, full, 1);
  setUp(full);
  if (threadIdx.x == 0) {
    expectBytes(full, 128 * 4);
    copyTile(tile, &from, x, y, z, full);
    arrive(full);
  }
  wait(full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < 128; i += 64) {
    int at = swizzled<Swizzle::Span64>(4 * i) / 4;
    seen[i] = tile[at];
    tile[at] = tile[at] + 1.0f;
  }
  fenceAsyncProxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    storeTile(&to, x, y, z, tile);
    commitStores();
    waitStores<0>();
  }
}

TEST_P(Hopper, BoxesOfThreeDimensions) {
  // [3, 6, 20], rows of 20 floats.
  std::vector<float> source(3 * 6 * 20);
  std::iota(source.begin(), source.end(), 0.0f);
  DeviceArray<float> from(source), to(std::vector<float>(source.size(), -1.0f)),
      seen(128);
  TensorMapDesc desc;
  desc.format = Format::F32;
  desc.rank = 3;
  desc.base = from.get();
  desc.size[0] = 20, desc.size[1] = 6, desc.size[2] = 3;
  desc.strideBytes[0] = 80, desc.strideBytes[1] = 480;
  desc.box[0] = 16, desc.box[1] = 4, desc.box[2] = 2;
  desc.swizzle = Swizzle::Span64;
  TensorMap fromMap, toMap;
  ASSERT_EQ(encodeTensorMap(fromMap, desc), "");
  desc.base = to.get();
  ASSERT_EQ(encodeTensorMap(toMap, desc), "");
  constexpr int x = 8, y = -1, z = 2;
  launch("copy", copyBox, 1, 64, 2048, nullptr, fromMap, toMap, x, y, z,
         seen.get());
  ASSERT_EQ(takeError(), "");
  std::vector<float> found = seen.host(), stored = to.host();
  auto inBox = [](int at, int from, int count, int size) {
    return at >= from && at < from + count && at < size;
  };
  for (int i = 0; i < 128; ++i) {
    int bx = i % 16 + x, by = i / 16 % 4 + y, bz = i / 64 + z;
    bool inside = bx < 20 && by >= 0 && bz < 3;
    EXPECT_EQ(found[i], inside ? source[(bz * 6 + by) * 20 + bx] : 0.0f) << i;
  }
  for (int i = 0; i < 3 * 6 * 20; ++i) {
    bool inside = inBox(i % 20, x, 16, 20) && inBox(i / 20 % 6, y, 4, 6) &&
                  inBox(i / 120, z, 2, 3);
    EXPECT_EQ(stored[i], inside ? source[i] + 1.0f : -1.0f) << i;
  }
}

//===----------------------------------------------------------------------===//
// wgmma with operands along m and n, and with A in registers
//===----------------------------------------------------------------------===//

/// D[64, 128] = A * B, A[64, 64] (Transposed: held as [64 k, 64 m]), B held as
/// [64 k, 128 n] in two boxes of 64 columns. FromRegisters: A is loaded there.
template <bool Transposed, bool FromRegisters>
__global__ void multiply(const TensorMap mapA, const TensorMap mapB,
                         const uint16_t *a, float *out) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  unsigned char *tileA = aligned(dynamic), *tileB = tileA + 8192;
  MPT_SHARED(uint64_t, full, 1);
  setUp(full);
  if (threadIdx.x == 0) {
    arriveExpecting(full, 3 * 8192);
    copyTile(tileA, &mapA, 0, 0, full);
    copyTile(tileB, &mapB, 0, 0, full);
    copyTile(tileB + 8192, &mapB, 64, 0, full);
  }
  wait(full, 0);
  float d[64];
  uint64_t descA = operandDescriptor(tileA, 1024, 8192);
  uint64_t descB = operandDescriptor(tileB, 1024, 8192);
  const int row = warpId() * 16;
  fenceMma();
  uint32_t fragment[4][4];
  for (int step = 0; step < 4; ++step)
    for (int i = 0; i < 8 && FromRegisters; i += 2) {
      const uint16_t *from = a + (row + fragmentRow(laneId(), i)) * 64 +
                             16 * step + fragmentColumn(laneId(), i);
      fragment[step][i / 2] = from[0] | static_cast<uint32_t>(from[1]) << 16;
    }
  for (int step = 0; step < 4; ++step) {
    // 16 k further on: two groups of 8 rows along k, or 32 bytes of a row.
    uint64_t b = advanced(descB, 2048 * step);
    if (FromRegisters)
      issueMmaA<128, true>(d, fragment[step], b, step > 0);
    else
      issueMma<Format::BF16, Format::BF16, 128, Transposed, true>(
          d, advanced(descA, (Transposed ? 2048 : 32) * step), b, step > 0);
  }
  commitMma();
  waitMma<0>(d);
  for (int i = 0; i < 64; ++i)
    out[(row + fragmentRow(laneId(), i)) * 128 + fragmentColumn(laneId(), i)] =
        d[i];
}

template <bool Transposed, bool FromRegisters> void checkMultiply() {
  auto codes = [](size_t count, uint64_t seed) {
    std::vector<uint16_t> result;
    for (float x : randomFloats(count, seed))
      result.push_back(static_cast<uint16_t>(num::encodeBF16(x)));
    return result;
  };
  std::vector<uint16_t> a = codes(64 * 64, 1), b = codes(64 * 128, 2);
  DeviceArray<uint16_t> deviceA(a), deviceB(b);
  DeviceArray<float> d(64 * 128);
  TensorMap mapA, mapB;
  ASSERT_EQ(encodeTensorMap(mapA, matrixMap(Format::BF16, deviceA.get(), 64, 64,
                                            64, 64, 64, Swizzle::Span128)),
            "");
  ASSERT_EQ(
      encodeTensorMap(mapB, matrixMap(Format::BF16, deviceB.get(), 64, 128, 128,
                                      64, 64, Swizzle::Span128)),
      "");
  launch("multiply", multiply<Transposed, FromRegisters>, 1, 128,
         1024 + 3 * 8192, nullptr, mapA, mapB, deviceA.get(), d.get());
  ASSERT_EQ(takeError(), "");
  std::vector<float> result = d.host();
  for (int row = 0; row < 64; ++row)
    for (int column = 0; column < 128; ++column) {
      double exact = 0, magnitude = 0;
      for (int k = 0; k < 64; ++k) {
        uint16_t code = Transposed ? a[k * 64 + row] : a[row * 64 + k];
        double product = double(num::decodeBF16(uint32_t(code))) *
                         num::decodeBF16(uint32_t(b[k * 128 + column]));
        exact += product;
        magnitude += std::fabs(product);
      }
      // Four roundings of partial sums.
      ASSERT_NEAR(result[row * 128 + column], exact, 4 * 0x1p-24 * magnitude)
          << row << ", " << column;
    }
}

TEST_P(Hopper, OperandsAlongMAndN) { checkMultiply<true, false>(); }
TEST_P(Hopper, OperandAlongN) { checkMultiply<false, false>(); }
TEST_P(Hopper, FragmentInRegisters) { checkMultiply<false, true>(); }

//===----------------------------------------------------------------------===//
// Named barriers and registers
//===----------------------------------------------------------------------===//

/// Warp 0 hands numbers to warps 2 and 3, who do not wait for warp 1.
__global__ void handOver(float *out) {
  MPT_SHARED(float, numbers, 32);
  if (warpId() == 0) {
    numbers[laneId()] = 1.0f;
    arriveNamed(3, 96);
  } else if (warpId() > 1) {
    syncNamed(3, 96);
    out[threadIdx.x - 64] = numbers[31 - laneId()];
  }
}

TEST_P(Hopper, NamedBarrier) {
  DeviceArray<float> out(64);
  launch("kernel", handOver, 1, 128, 0, nullptr, out.get());
  EXPECT_EQ(out.host(), std::vector<float>(64, 1.0f));
}

__global__ void misuseNamed(unsigned id, unsigned threads, unsigned others) {
  syncNamed(id, threadIdx.x < 32 ? threads : others);
}

TEST_P(Hopper, NamedBarrierMisuse) {
  launch("kernel", misuseNamed, 1, 64, 0, nullptr, 0, 64, 64);
  expectError({"named barrier 0, expected 1 to 15", "HopperTest.cpp:"});
  launch("kernel", misuseNamed, 1, 64, 0, nullptr, 1, 48, 48);
  expectError({"named barrier for 48 threads, expected a multiple of 32"});
  launch("kernel", misuseNamed, 1, 96, 0, nullptr, 1, 96, 64);
  expectError({"named barrier 1 for"});
  launch("kernel", misuseNamed, 1, 64, 0, nullptr, 1, 64, 64);
  EXPECT_EQ(takeError(), "");
  launch("kernel", misuseNamed, 1, 96, 0, nullptr, 1, 64, 64);
  expectError({"threads wait for each other for ever", "named barrier at",
               "barrier 1, 32 of 64 threads came"});
}

template <int Lower, int Raise> __global__ void moveRegisters() {
  if (threadIdx.x < 128)
    lowerRegisters<Lower>();
  else
    raiseRegisters<Raise>();
}

TEST_P(Hopper, Registers) {
  launch("kernel", moveRegisters<40, 232>, 1, 384, 0, nullptr);
  EXPECT_EQ(takeError(), "");
  launch("kernel", moveRegisters<40, 240>, 1, 384, 0, nullptr);
  expectError({"threads wait for each other for ever", "setmaxnreg.inc at"});
  launch("kernel", moveRegisters<40, 100>, 1, 384, 0, nullptr);
  expectError({"setmaxnreg.inc to 100, expected a multiple of 8"});
  launch("kernel", moveRegisters<200, 232>, 1, 384, 0, nullptr);
  expectError({"setmaxnreg"});
}

//===----------------------------------------------------------------------===//
// Stores that are not waited for
//===----------------------------------------------------------------------===//

enum class StoreError { None, NoWait, NoCommit, Overwrite };

template <StoreError E>
__global__ void storeOnce(const TensorMap to, const TensorMap from) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  unsigned char *tile = aligned(dynamic);
  MPT_SHARED(uint64_t, full, 1);
  setUp(full);
  if (threadIdx.x)
    return;
  for (int i = 0; i < 256; ++i)
    tile[i] = static_cast<unsigned char>(i);
  fenceAsyncProxy();
  storeTile(&to, 0, 0, tile);
  if (E != StoreError::NoCommit)
    commitStores();
  if (E == StoreError::Overwrite) {
    arriveExpecting(full, 256);
    copyTile(tile, &from, 0, 0, full);
    wait(full, 0);
  }
  if (E != StoreError::NoWait)
    waitStoresRead<0>();
}

TEST_P(Hopper, Stores) {
  DeviceArray<uint8_t> to(256), from(std::vector<uint8_t>(256, 7));
  TensorMap toMap, fromMap;
  ASSERT_EQ(encodeTensorMap(toMap, matrixMap(Format::E4M3, to.get(), 8, 32, 32,
                                             8, 32, Swizzle::None)),
            "");
  ASSERT_EQ(encodeTensorMap(fromMap, matrixMap(Format::E4M3, from.get(), 8, 32,
                                               32, 8, 32, Swizzle::None)),
            "");
  auto run = [&](auto kernel) {
    launch("kernel", kernel, 1, 32, 2048, nullptr, toMap, fromMap);
  };
  run(storeOnce<StoreError::None>);
  ASSERT_EQ(takeError(), "");
  std::vector<uint8_t> expected(256);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(to.host(), expected);
  run(storeOnce<StoreError::NoWait>);
  expectError({"returns from the kernel while a store at",
               "may still read shared memory"});
  run(storeOnce<StoreError::NoCommit>);
  expectError({"returns from the kernel while a store at"});
  run(storeOnce<StoreError::Overwrite>);
  expectError(
      {"cp.async.bulk.tensor overwrites", "the store at", "still reads"});
}

} // namespace
