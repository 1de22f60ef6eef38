//===- CuteLayoutTest.cpp - Layouts against CUTLASS's ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The simulator and the wrappers could agree on a layout that no GPU has. So
// fragments, swizzled tiles and descriptors are compared with CuTe's, and wgmma
// is simulated on tiles that were written where CuTe says.
//
//===----------------------------------------------------------------------===//

#include "CuteLayouts.h"
#include "GemmSupport.h"

using namespace mpt;
using namespace mpt::test;
using num::Format;

namespace {

using CuteLayout = CudaSimTest;

/// Row + 64 * column by our formula, for `count` elements of 128 threads.
std::vector<int> fragments(int count) {
  std::vector<int> result;
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < count; ++i)
      result.push_back(thread / 32 * 16 + fragmentRow(thread % 32, i) +
                       64 * fragmentColumn(thread % 32, i));
  return result;
}

TEST_F(CuteLayout, Fragments) {
  EXPECT_EQ(cuteAccumulators128(), fragments(64));
  EXPECT_EQ(cuteAccumulators256(), fragments(128));
  EXPECT_EQ(cuteFragmentA(), fragments(8));
}

/// Tiles as the copy engine leaves them: rows of 128 bytes, swizzled.
TEST_F(CuteLayout, SwizzledTiles) {
  std::vector<int> fp8 = cuteTileFP8(), bf16 = cuteTileBF16();
  std::vector<int> transposed = cuteTileBF16Transposed();
  for (int i = 0; i < 64 * 128; ++i)
    ASSERT_EQ(fp8[i], swizzled<Swizzle::Span128>(i));
  for (int i = 0; i < 64 * 64; ++i)
    ASSERT_EQ(bf16[i], swizzled<Swizzle::Span128>(2 * i));
  // Boxes of 64 columns, in each 64 rows along k.
  for (int mn = 0; mn < 128; ++mn)
    for (int k = 0; k < 64; ++k)
      ASSERT_EQ(transposed[mn * 64 + k],
                mn / 64 * 8192 +
                    swizzled<Swizzle::Span128>(k * 128 + mn % 64 * 2));
}

/// D[64, 64] = A * B^T of operands written byte by byte where a table says.
template <Format F, bool Transposed>
__global__ void multiply(const uint8_t *a, const uint8_t *b, const int *places,
                         int elements, float *out) {
  MPT_SHARED_DYN(unsigned char, dynamic);
  unsigned char *tileA =
      dynamic + (1024 - reinterpret_cast<uintptr_t>(dynamic) % 1024) % 1024;
  unsigned char *tileB = tileA + 8192;
  constexpr int bytes = F == Format::BF16 ? 2 : 1;
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += 128)
    for (int j = 0; j < bytes; ++j) {
      tileA[places[i] + j] = a[i * bytes + j];
      tileB[places[i] + j] = b[i * bytes + j];
    }
  fenceAsyncProxy();
  __syncthreads();
  uint64_t descA = operandDescriptor(tileA, 1024, 8192);
  uint64_t descB = operandDescriptor(tileB, 1024, 8192);
  float d[32];
  fenceMma();
  for (int i = 0; i < 4; ++i)
    issueMma<F, F, 64, Transposed, Transposed>(
        d, advanced(descA, (Transposed ? 2048 : 32) * i),
        advanced(descB, (Transposed ? 2048 : 32) * i), i > 0);
  commitMma();
  waitMma<0>(d);
  for (int i = 0; i < 32; ++i)
    out[(warpId() * 16 + fragmentRow(laneId(), i)) * 64 +
        fragmentColumn(laneId(), i)] = d[i];
}

template <Format F, bool Transposed>
void checkMultiply(const std::vector<int> &places, int k) {
  Codes a(F, 64, k, 1), b(F, 64, k, 2);
  DeviceArray<uint8_t> deviceA(a.bytes), deviceB(b.bytes);
  DeviceArray<int> devicePlaces(places);
  DeviceArray<float> d(64 * 64);
  launch("multiply", multiply<F, Transposed>, 1, 128, 1024 + 2 * 8192, nullptr,
         deviceA.get(), deviceB.get(), devicePlaces.get(), 64 * k, d.get());
  ASSERT_EQ(takeError(), "");
  std::vector<float> result = d.host();
  for (int i = 0; i < 64 * 64; ++i)
    ASSERT_EQ(result[i], dot(a, b, i / 64, i % 64, false).value) << i;
}

TEST_F(CuteLayout, Products) {
  checkMultiply<Format::E4M3, false>(cuteTileFP8(), 128);
  checkMultiply<Format::BF16, false>(cuteTileBF16(), 64);
  checkMultiply<Format::BF16, true>(cuteTileBF16Transposed(), 64);
}

constexpr uint64_t address = 0x3fff, leading = uint64_t(0x3fff) << 16;

/// Our descriptor of an operand.
uint64_t describe(unsigned stride, unsigned leadingBytes,
                  Swizzle swizzle = Swizzle::Span128) {
  static uint64_t bits;
  bits = 0;
  launch(
      "describe",
      +[](unsigned stride, unsigned leadingBytes, Swizzle swizzle) {
        MPT_SHARED_DYN(unsigned char, tile);
        bits = operandDescriptor(tile, stride, leadingBytes, swizzle);
      },
      1, 1, 1024, nullptr, stride, leadingBytes, swizzle);
  return bits;
}

/// All but the address, which CuTe takes on a GPU only.
TEST_F(CuteLayout, Descriptors) {
  // The leading offset of a swizzled K-major operand has no meaning.
  EXPECT_EQ(describe(1024, 16) & ~(address | leading),
            cuteDescriptorFP8() & ~(address | leading));
  EXPECT_EQ(describe(1024, 8192) & ~address,
            cuteDescriptorBF16Transposed() & ~address);
}

/// Panels of a head's rows, as attention has them: read along the head for
/// scores, across it for the context.
template <Swizzle S> void checkPanels() {
  constexpr int span = static_cast<int>(S), columns = span / 2;
  CuteOperand rows = cuteRows(span), across = cuteColumns(span);
  auto place = [](int row, int column) {
    return column / columns * 64 * span +
           swizzled<S>(row * span + column % columns * 2);
  };
  for (int mn = 0; mn < 64; ++mn)
    for (int k = 0; k < 64; ++k) {
      ASSERT_EQ(rows.offsets[mn * 64 + k], place(mn, k)) << mn << " " << k;
      ASSERT_EQ(across.offsets[mn * 64 + k], place(k, mn)) << mn << " " << k;
    }
  EXPECT_EQ(describe(8 * span, 16, S) & ~(address | leading),
            rows.descriptor & ~(address | leading));
  // A single panel has no next one.
  const uint64_t known = span == 128 ? ~(address | leading) : ~address;
  EXPECT_EQ(describe(8 * span, 64 * span, S) & known,
            across.descriptor & known);
}

TEST_F(CuteLayout, Panels) {
  checkPanels<Swizzle::Span32>();
  checkPanels<Swizzle::Span64>();
  checkPanels<Swizzle::Span128>();
}

} // namespace
