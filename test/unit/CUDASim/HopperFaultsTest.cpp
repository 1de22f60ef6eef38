//===- HopperFaultsTest.cpp - Planted errors in a product -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A small product in the form of mpt/CUDA/Gemm.h (a ring of two stages, one
// producer thread, one consumer warpgroup) with one error at a time: in
// barriers, phases, bytes, fences, waits, descriptors and maps. Each must be
// caught in every order of threads and of asynchronous work: by a report that
// says what is wrong, or, where the program is in order but computes something
// else, by its numbers.
//
//===----------------------------------------------------------------------===//

#include "GemmSupport.h"

using namespace mpt;
using namespace mpt::test;
using num::Format;

namespace {

enum class Error {
  None,
  // Barriers and phases.
  InitFence,
  InitBarrier,
  FullParity,
  EmptyParity,
  EmptyIgnored,
  NoRelease,
  DoubleRelease,
  BarrierOverwritten,
  // Bytes.
  TooFewBytes,
  TooManyBytes,
  NoBytes,
  // wgmma's order.
  NoMmaFence,
  NoCommit,
  NoWait,
  ReleaseBeforeWait,
  ReleaseTooEarly,
  TouchedInFlight,
  ReadInFlight,
  WarpsDiffer,
  // Layout: numbers.
  Stride,
  Step,
  DescriptorSwizzle,
  MapSwizzle,
  OtherRows,
  FragmentRow
};

constexpr int size = 64, steps = 5, stageBytes = 2 * size * 128;

struct Ring {
  unsigned char *tiles;
  uint64_t *full, *empty;
};

template <Error E>
void produce(const Ring &ring, const TensorMap &mapA, const TensorMap &mapB) {
  for (int i = 0; i < steps; ++i) {
    const int stage = i % 2;
    const unsigned phase = i / 2 % 2;
    if (E != Error::EmptyIgnored)
      wait(ring.empty + stage, E == Error::EmptyParity ? phase : phase ^ 1);
    if (E == Error::NoBytes)
      arrive(ring.full + stage);
    else
      arriveExpecting(ring.full + stage,
                      E == Error::TooFewBytes    ? stageBytes / 2
                      : E == Error::TooManyBytes ? stageBytes + 16
                                                 : stageBytes);
    unsigned char *to = ring.tiles + stage * stageBytes;
    copyTile(to, &mapA, 128 * i, 0, ring.full + stage);
    copyTile(to + stageBytes / 2, &mapB, 128 * i, 0, ring.full + stage);
  }
}

template <Error E>
void issueStage(const unsigned char *tile, float (&d)[size / 2],
                bool accumulate) {
  unsigned stride = E == Error::Stride ? 512 : 1024;
  uint64_t a =
      operandDescriptor(tile + (E == Error::OtherRows ? 1024 : 0), stride);
  uint64_t b = operandDescriptor(tile + stageBytes / 2, 1024);
  if (E == Error::DescriptorSwizzle)
    b ^= uint64_t(3) << 62; // 64 bytes in place of 128
  if (E != Error::NoMmaFence)
    fenceMma();
  for (int j = 0; j < 4; ++j)
    issueMma<Format::E4M3, Format::E4M3, size>(
        d, advanced(a, (E == Error::Step ? 16 : 32) * j), advanced(b, 32 * j),
        accumulate || j || (E == Error::WarpsDiffer && warpId() == 5));
  if (E != Error::NoCommit)
    commitMma();
}

template <Error E> void consume(const Ring &ring, float *out) {
  float d[size / 2];
  auto release = [&](int stage) {
    if (E != Error::NoRelease && laneId() == 0)
      arrive(ring.empty + stage);
    if (E == Error::DoubleRelease && threadIdx.x == 128)
      arrive(ring.empty + stage);
  };
  float early = 0.0f;
  for (int i = 0; i < steps; ++i) {
    const int stage = i % 2;
    const unsigned phase = i / 2 % 2;
    wait(ring.full + stage, E == Error::FullParity ? phase ^ 1 : phase);
    issueStage<E>(ring.tiles + stage * stageBytes, d, i > 0);
    if (E == Error::ReleaseBeforeWait)
      release(stage);
    if (E == Error::ReadInFlight)
      early = d[0];
    if (E == Error::TouchedInFlight)
      d[3] = 0.0f;
    // The order of Gemm.h: the stage before is free when one group is left.
    if (E != Error::NoWait)
      waitMma<1>(d);
    if (E == Error::ReleaseTooEarly)
      release(stage);
    else if (E != Error::ReleaseBeforeWait && i > 0)
      release((i - 1) % 2);
    if (E == Error::BarrierOverwritten && i == 2 && threadIdx.x == 128)
      ring.full[1] = 0;
  }
  if (E != Error::NoWait)
    waitMma<0>(d);
  if (E == Error::ReadInFlight)
    d[0] = early;
  const int lane = laneId(), warpRow = (warpId() - 4) * 16;
  for (int i = 0; i < size / 2; ++i) {
    int row = E == Error::FragmentRow ? lane / 4 * 2 + i / 2 % 2
                                      : fragmentRow(lane, i);
    out[(warpRow + row) * size + fragmentColumn(lane, i)] = d[i];
  }
}

template <Error E>
__global__ void product(const TensorMap mapA, const TensorMap mapB,
                        float *out) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  unsigned char *tiles =
      dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
  uint64_t *barriers = reinterpret_cast<uint64_t *>(tiles + 2 * stageBytes);
  Ring ring = {tiles, barriers, barriers + 2};
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      initBarrier(ring.full + i, 1);
      initBarrier(ring.empty + i, 4);
    }
    if (E != Error::InitFence)
      fenceBarrierInit();
  }
  if (E != Error::InitBarrier)
    __syncthreads();
  if (threadIdx.x == 0)
    produce<E>(ring, mapA, mapB);
  else if (threadIdx.x >= 128)
    consume<E>(ring, out);
}

class HopperFaults : public CudaSimOrders {
protected:
  Codes a{Format::E4M3, size, 128 * steps, 1};
  Codes b{Format::E4M3, size, 128 * steps, 2};
  DeviceArray<uint8_t> deviceA{a.bytes}, deviceB{b.bytes};
  DeviceArray<float> d{size * size};

  template <Error E> void launchProduct() {
    TensorMap mapA, mapB;
    auto describe = [](const DeviceArray<uint8_t> &x, Swizzle swizzle) {
      return matrixMap(Format::E4M3, x.get(), size, 128 * steps, 128 * steps,
                       size, 128, swizzle);
    };
    ASSERT_EQ(encodeTensorMap(mapA, describe(deviceA, Swizzle::Span128)), "");
    ASSERT_EQ(encodeTensorMap(mapB, describe(deviceB, E == Error::MapSwizzle
                                                          ? Swizzle::None
                                                          : Swizzle::Span128)),
              "");
    launch("product", product<E>, 1, 256, 1024 + 2 * stageBytes + 32, nullptr,
           mapA, mapB, d.get());
  }
  /// How many elements are not what they should be.
  int wrongElements() {
    std::vector<float> result = d.host();
    int wrong = 0;
    for (int i = 0; i < size * size; ++i)
      wrong += !(result[i] == dot(a, b, i / size, i % size, false).value);
    return wrong;
  }
  template <Error E>
  void expectReport(std::initializer_list<std::string> parts) {
    launchProduct<E>();
    expectError({"kernel 'product'", "HopperFaultsTest.cpp:"});
    for (const std::string &part : parts)
      EXPECT_NE(sim::report().find(part), std::string::npos)
          << "'" << part << "' is missing in: " << sim::report();
  }
  template <Error E> void expectWrongNumbers() {
    launchProduct<E>();
    ASSERT_EQ(takeError(), "");
    EXPECT_GT(wrongElements(), size);
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, HopperFaults,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "random:2", "random:3",
                                           "interleaved:1", "interleaved:2",
                                           "interleaved:3"));

TEST_P(HopperFaults, NoError) {
  launchProduct<Error::None>();
  ASSERT_EQ(takeError(), "");
  EXPECT_EQ(wrongElements(), 0);
}

TEST_P(HopperFaults, BarrierSetup) {
  expectReport<Error::InitFence>({"cp.async.bulk.tensor to an mbarrier whose "
                                  "initialisation at",
                                  "no fence.mbarrier_init followed"});
  expectReport<Error::InitBarrier>({"initialised"});
}

TEST_P(HopperFaults, Phases) {
  // What is found first depends on who comes first.
  expectReport<Error::FullParity>({});
  expectReport<Error::EmptyParity>({"threads wait for each other for ever",
                                    "mbarrier.try_wait at", "parity 0",
                                    "lacks 4 arrivals of 4 and 0 bytes"});
  expectReport<Error::EmptyIgnored>({});
  expectReport<Error::NoRelease>({"threads wait for each other for ever",
                                  "lacks 4 arrivals of 4 and 0 bytes"});
  expectReport<Error::DoubleRelease>({});
  expectReport<Error::BarrierOverwritten>({"which something wrote over"});
}

TEST_P(HopperFaults, Bytes) {
  expectReport<Error::TooFewBytes>(
      {"copy of 8192 bytes to an mbarrier that expects 0 more"});
  expectReport<Error::TooManyBytes>({"threads wait for each other for ever",
                                     "lacks 0 arrivals of 1 and 16 bytes"});
  expectReport<Error::NoBytes>(
      {"copy of 8192 bytes to an mbarrier that expects 0 more"});
}

TEST_P(HopperFaults, OrderOfProducts) {
  expectReport<Error::NoMmaFence>({"wgmma without a wgmma.fence"});
  expectReport<Error::NoWait>({});
  expectReport<Error::ReleaseBeforeWait>(
      {"cp.async.bulk.tensor overwrites", "wgmma at", "still reads"});
  expectReport<Error::ReleaseTooEarly>(
      {"cp.async.bulk.tensor overwrites", "wgmma at", "still reads"});
  expectReport<Error::TouchedInFlight>(
      {"accumulators were written while wgmma had them"});
  expectReport<Error::WarpsDiffer>({"issue different products"});
}

/// Without a commit the waits have nothing to wait for.
TEST_P(HopperFaults, NoCommit) { expectReport<Error::NoCommit>({}); }

TEST_P(HopperFaults, ReadInFlight) {
  launchProduct<Error::ReadInFlight>();
  ASSERT_EQ(takeError(), "");
  EXPECT_EQ(wrongElements(), 128) << "d[0] of every thread is NaN";
}

TEST_P(HopperFaults, Layouts) {
  expectWrongNumbers<Error::Stride>();
  expectWrongNumbers<Error::Step>();
  expectWrongNumbers<Error::DescriptorSwizzle>();
  expectWrongNumbers<Error::MapSwizzle>();
  expectWrongNumbers<Error::FragmentRow>();
  // Eight rows further on the last rows are those of B's tile.
  expectWrongNumbers<Error::OtherRows>();
}

} // namespace
