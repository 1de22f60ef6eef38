//===- GemmTest.cpp - Own products, simulated -----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt/CUDA/Gemm.h over formats, tails in every dimension and epilogues, under
// several orders of threads and of asynchronous work. Results are compared bit
// by bit with the same order of sums on the host, and with the exact sums
// within the bound of that order.
//
//===----------------------------------------------------------------------===//

#include "GemmSupport.h"

using namespace mpt;
using namespace mpt::gemm;
using namespace mpt::test;
using num::Format;

namespace {

class Gemm : public CudaSimOrders {};
INSTANTIATE_TEST_SUITE_P(Orders, Gemm,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "random:2", "interleaved:1",
                                           "interleaved:2"));
class GemmErrors : public CudaSimTest {};

/// Elements from one row to the next as held: rows of turned operands are
/// padded to 16 bytes, with codes that no product may read.
int strideOf(const Codes &codes, bool turned) {
  return turned ? (codes.rows + 7) / 8 * 8 : codes.columns;
}
std::vector<uint8_t> held(const Codes &codes, bool turned) {
  if (!turned)
    return codes.bytes;
  size_t stride = size_t(strideOf(codes, true));
  std::vector<uint8_t> bytes(2 * stride * size_t(codes.columns), 0xff);
  for (size_t row = 0; row < size_t(codes.rows); ++row)
    for (size_t k = 0; k < size_t(codes.columns); ++k)
      for (size_t byte = 0; byte < 2; ++byte)
        bytes[2 * (k * stride + row) + byte] =
            codes.bytes[2 * (row * size_t(codes.columns) + k) + byte];
  return bytes;
}

/// Operands in device memory, described.
template <typename C> struct Problem {
  Codes a, b;
  DeviceArray<uint8_t> deviceA, deviceB;
  Args args;
  Operands operands;

  Problem(int m, int n, int k)
      : a(C::a, m, k, 1), b(C::b, n, k, 2), deviceA(held(a, C::turnedA)),
        deviceB(held(b, C::turnedB)), args{m, n, k, 1.0f, nullptr, nullptr} {
    EXPECT_EQ(describe<C>(operands, deviceA.get(), strideOf(a, C::turnedA),
                          deviceB.get(), strideOf(b, C::turnedB), args),
              "");
  }
  template <typename E> void run(const E &epilogue, int blocks) {
    gemm::run<C>("product", operands, args, epilogue, blocks, nullptr);
    ASSERT_FALSE(failed()) << firstError();
  }
};

template <typename C> void checkPlain(int m, int n, int k, int blocks) {
  Problem<C> problem(m, n, k);
  DeviceArray<float> d(size_t(m) * n);
  problem.run(chain(Store<float>{{}, d.get(), n}), blocks);
  std::vector<float> result = d.host();
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < n; ++column) {
      Dot expected = dot(problem.a, problem.b, row, column, C::promote);
      float found = result[size_t(row) * n + column];
      ASSERT_EQ(found, expected.value) << row << ", " << column;
      ASSERT_NEAR(found, expected.exact, tolerance(expected, k, C::a));
    }
}

// Tails in m, n and k; k exceeds the ring; blocks take several tiles.
TEST_P(Gemm, E4M3) {
  checkPlain<Config<Format::E4M3, Format::E4M3, 128, 2, true>>(200, 144, 400,
                                                               3);
}
TEST_P(Gemm, MixedFP8) {
  checkPlain<Config<Format::E4M3, Format::E5M2, 128, 3, true>>(65, 130, 528, 1);
  checkPlain<Config<Format::E5M2, Format::E4M3, 128, 3, false>>(65, 130, 528,
                                                                1);
  checkPlain<Config<Format::E5M2, Format::E5M2, 64, 2, true>>(16, 16, 272, 1);
}
TEST_P(Gemm, FastAccumulation) {
  checkPlain<Config<Format::E4M3, Format::E4M3, 256, 2, false>>(130, 300, 400,
                                                                2);
}
TEST_P(Gemm, BF16) {
  checkPlain<Config<Format::BF16, Format::BF16, 128, 4, false>>(190, 136, 336,
                                                                2);
}
/// Operands held as [k, m] and [k, n]: a weight's gradient, and an input's.
TEST_P(Gemm, TurnedBF16) {
  constexpr Format F = Format::BF16;
  checkPlain<Config<F, F, 128, 3, false, true, true>>(190, 136, 337, 2);
  checkPlain<Config<F, F, 128, 3, false, false, true>>(70, 200, 136, 3);
  checkPlain<Config<F, F, 256, 2, false, true, false>>(130, 300, 200, 2);
  checkPlain<Config<F, F, 64, 3, false, true, true>>(5, 37, 65, 132);
}
TEST_P(Gemm, SmallAndOdd) {
  using C = Config<Format::BF16, Format::BF16, 64, 2, false>;
  checkPlain<C>(1, 1, 16, 132);
  checkPlain<C>(5, 37, 48, 132);
  checkPlain<Config<Format::E4M3, Format::E4M3, 128, 4, true>>(3, 131, 16, 132);
}

/// Bias, kept pre-activation, GELU, row sums, amax, scale, FP8 and FP8
/// transposed: the first linear layer of a feed-forward network.
TEST_P(Gemm, ForwardEpilogue) {
  using C = Config<Format::E4M3, Format::E4M3, 128, 2, true>;
  constexpr int m = 144, n = 272, k = 160;
  Problem<C> problem(m, n, k);
  std::vector<float> bias = randomFloats(n, 3), factors = {0.5f, 0.25f, 3.0f};
  DeviceArray<float> deviceBias(bias), deviceFactors(factors),
      amax(std::vector<float>{0.0f}), sums(3 * m);
  DeviceArray<uint16_t> kept(m * n);
  DeviceArray<uint8_t> codes(m * n), transposed(m * n);
  problem.args.alpha = 0.125f;
  problem.args.scaleA = deviceFactors.get();
  problem.args.scaleB = deviceFactors.get() + 1;
  StoreFP8<Format::E4M3> store;
  StoreTransposedFP8<Format::E4M3> storeTransposed;
  ASSERT_EQ(encodeTensorMap(store.map, resultMap(codes.get(), m, n)), "");
  ASSERT_EQ(encodeTensorMap(storeTransposed.map,
                            transposedResultMap(transposed.get(), m, n, 128)),
            "");
  problem.run(
      chain(AddBias{{}, deviceBias.get()}, Store<uint16_t>{{}, kept.get(), n},
            Gelu{}, RowSums{{}, sums.get()}, Amax{{}, amax.get()},
            ScaleBy{{}, deviceFactors.get() + 2}, store, storeTransposed),
      2);
  std::vector<uint16_t> keptHost = kept.host();
  std::vector<uint8_t> codesHost = codes.host(), tHost = transposed.host();
  std::vector<float> sumsHost = sums.host();
  float largest = 0.0f, scale = 0.125f * (0.5f * 0.25f);
  for (int row = 0; row < m; ++row) {
    double rowSum = 0, magnitude = 0;
    for (int column = 0; column < n; ++column) {
      float v = scale * dot(problem.a, problem.b, row, column, true).value;
      v = v + bias[column];
      size_t at = size_t(row) * n + column;
      ASSERT_EQ(keptHost[at], num::encodeBF16(v));
      v = num::gelu(v);
      largest = std::max(largest, std::fabs(v));
      rowSum += v;
      magnitude += std::fabs(v);
      uint32_t code = num::encodeE4M3(v * 3.0f);
      ASSERT_EQ(codesHost[at], code) << row << ", " << column;
      ASSERT_EQ(tHost[size_t(column) * m + row], code) << row << ", " << column;
    }
    float found = sumsHost[row] + sumsHost[m + row] + sumsHost[2 * m + row];
    ASSERT_NEAR(found, rowSum, n * 0x1p-24 * magnitude);
  }
  EXPECT_EQ(amax.host()[0], largest);
}

/// Input gradient of the second layer: dGELU, residual, bias gradient, amax,
/// E5M2 transposed.
TEST_P(Gemm, BackwardEpilogue) {
  using C = Config<Format::E5M2, Format::E4M3, 128, 2, true>;
  constexpr int m = 80, n = 144, k = 144;
  Problem<C> problem(m, n, k);
  std::vector<uint16_t> x;
  for (float one : randomFloats(m * n, 5))
    x.push_back(static_cast<uint16_t>(num::encodeBF16(3.0f * one)));
  std::vector<float> residual = randomFloats(m * n, 6);
  DeviceArray<uint16_t> deviceX(x);
  DeviceArray<float> deviceResidual(residual), d(m * n), sums(2 * n),
      amax(std::vector<float>{0.0f});
  DeviceArray<uint8_t> transposed(m * n);
  StoreTransposedFP8<Format::E5M2> store;
  ASSERT_EQ(encodeTensorMap(store.map,
                            transposedResultMap(transposed.get(), m, n, 128)),
            "");
  problem.run(chain(GeluGrad<uint16_t>{{}, deviceX.get(), n},
                    AddResidual<float>{{}, deviceResidual.get(), n},
                    ColumnSums{{}, sums.get()}, Amax{{}, amax.get()}, store,
                    Store<float>{{}, d.get(), n}),
              1);
  std::vector<float> result = d.host();
  std::vector<uint8_t> codes = transposed.host();
  float largest = 0.0f;
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < n; ++column) {
      size_t at = size_t(row) * n + column;
      float v = dot(problem.a, problem.b, row, column, true).value *
                num::geluGrad(num::decodeBF16(uint32_t(x[at])));
      v = v + residual[at];
      largest = std::max(largest, std::fabs(v));
      ASSERT_EQ(result[at], v);
      ASSERT_EQ(codes[size_t(column) * m + row], num::encodeE5M2(v));
    }
  std::vector<float> sumsHost = sums.host();
  for (int chunk = 0; chunk < 2; ++chunk)
    for (int column = 0; column < n; ++column) {
      double exact = 0, magnitude = 0;
      for (int row = 64 * chunk; row < std::min(m, 64 * (chunk + 1)); ++row) {
        exact += result[size_t(row) * n + column];
        magnitude += std::fabs(result[size_t(row) * n + column]);
      }
      // A tree of seven additions.
      ASSERT_NEAR(sumsHost[chunk * n + column], exact, 7 * 0x1p-24 * magnitude);
    }
  EXPECT_EQ(amax.host()[0], largest);
}

/// An op as the CUDA back end writes them: codes, sums of 64 rows and row
/// maxima of 2 v + row, and v itself.
struct Generated : Op {
  float *product, *sums, *maxima;
  uint8_t *codes;
  TensorMap map;
  struct State {
    float largest[2];
  };
  static constexpr int stagingPerColumn = 64 + 256;
  __device__ void begin(State &state, const Tile &) const {
    state.largest[0] = state.largest[1] = 0.0f;
  }
  __device__ void visit(State &state, const Pair &at, float (&v)[2]) const {
    float y[2] = {};
    uint8_t code[2] = {};
    for (int i = 0; i < 2; ++i) {
      if (!at.inside[i])
        continue;
      y[i] = 2.0f * v[i] + static_cast<float>(at.row);
      code[i] = static_cast<uint8_t>(num::encodeE5M2(y[i]));
    }
    storePair(product + int64_t(at.row) * at.tile.n + at.column, v, at);
    stageCodes(at.tile.staging, at, code);
    stageColumns(at.tile.staging + 64 * at.tile.columns, at, y);
    foldRow(state.largest, at, y);
  }
  __device__ void end(State &state, const Tile &tile) const {
    storeCodes(&map, tile, tile.staging);
    sumColumns(sums, tile, tile.staging + 64 * tile.columns);
    storeRowMaxima(maxima, tile, state.largest);
  }
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(product);
    visit(sums);
    visit(maxima);
    visit(codes);
  }
  std::string describe(int m, int n) {
    return encodeTensorMap(map, resultMap(codes, m, n));
  }
};

/// Through load() and run(): tails in rows and columns, several tiles along n.
TEST_P(Gemm, GeneratedEpilogue) {
  using C = Config<Format::E4M3, Format::E4M3, 128, 3, true>;
  constexpr int m = 150, n = 272, k = 160;
  Problem<C> problem(m, n, k);
  DeviceArray<float> d(m * n), sums(3 * n), maxima(std::vector<float>(m, 0.0f));
  DeviceArray<uint8_t> codes(m * n);
  gemm::Product<Chain<Generated>> product;
  load<C>(
      product, "product", problem.deviceA.get(), k, problem.deviceB.get(), k,
      problem.args,
      chain(Generated{{}, d.get(), sums.get(), maxima.get(), codes.get(), {}}));
  gemm::run<C>("product", kernel<C, Chain<Generated>>, product, nullptr);
  ASSERT_FALSE(failed()) << firstError();
  std::vector<float> result = d.host(), sumsHost = sums.host(),
                     maximaHost = maxima.host();
  std::vector<uint8_t> codesHost = codes.host();
  std::vector<float> expected(3 * n, 0.0f);
  for (int row = 0; row < m; ++row) {
    float largest = 0.0f;
    for (int column = 0; column < n; ++column) {
      size_t at = size_t(row) * n + column;
      float v = dot(problem.a, problem.b, row, column, true).value;
      ASSERT_EQ(result[at], v);
      float y = 2.0f * v + static_cast<float>(row);
      ASSERT_EQ(codesHost[at], num::encodeE5M2(y));
      largest = std::max(largest, std::fabs(y));
      float &sum = expected[size_t(row / 64) * n + column];
      sum = sum + y;
    }
    ASSERT_EQ(maximaHost[size_t(row)], largest);
  }
  ASSERT_EQ(sumsHost, expected);
}

/// What is not a number stays that: in its row and column only, and in amax.
TEST_P(Gemm, NotANumber) {
  using C = Config<Format::E4M3, Format::E4M3, 64, 2, true>;
  Problem<C> problem(16, 32, 144);
  ASSERT_EQ(cudaMemset(problem.deviceA.get() + 3 * 144 + 140, 0x7f, 1),
            cudaSuccess);
  DeviceArray<float> d(16 * 32), amax(std::vector<float>{0.0f});
  problem.run(chain(Amax{{}, amax.get()}, Store<float>{{}, d.get(), 32}), 1);
  std::vector<float> result = d.host();
  for (int i = 0; i < 16 * 32; ++i)
    ASSERT_EQ(std::isnan(result[i]), i / 32 == 3);
  EXPECT_TRUE(std::isnan(amax.host()[0]));
}

TEST_F(GemmErrors, OperandsThatCannotBe) {
  using C = Config<Format::E4M3, Format::E4M3, 128, 2, true>;
  DeviceArray<uint8_t> a(4096), b(4096);
  Operands operands;
  Args args = {16, 16, 0, 1.0f, nullptr, nullptr};
  EXPECT_EQ(describe<C>(operands, a.get(), 32, b.get(), 32, args),
            "product of 16 x 16 x 0, expected positive sizes below 2^30");
  args.k = 24;
  EXPECT_EQ(describe<C>(operands, a.get(), 24, b.get(), 24, args),
            "tensor map with a stride of 24 bytes, expected a multiple of 16 "
            "below 2^40");
  args.k = 32;
  EXPECT_EQ(describe<C>(operands, a.get() + 1, 32, b.get(), 32, args),
            "tensor map of a tensor that is not aligned to 16 bytes");
  EXPECT_EQ(describe<C>(operands, a.get(), 40, b.get(), 32, args),
            "tensor map with a stride of 40 bytes, expected a multiple of 16 "
            "below 2^40");
  TensorMap map;
  EXPECT_EQ(
      encodeTensorMap(map, matrixMap(Format::BF16, a.get(), 8, 128, 128, 8, 128,
                                     Swizzle::Span128)),
      "tensor map with a box of 256 contiguous bytes, expected a multiple "
      "of 16 up to the swizzle's span of 128");
}

TEST_F(GemmErrors, LoadsNameTheProduct) {
  using C = Config<Format::E4M3, Format::E4M3, 128, 2, true>;
  DeviceArray<uint8_t> a(4096);
  DeviceArray<float> d(16 * 16);
  gemm::Product<Chain<Store<float>>> product;
  load<C>(product, "layer/wgrad", a.get(), 40, a.get(), 32,
          {16, 16, 32, 1.0f, nullptr, nullptr},
          chain(Store<float>{{}, d.get(), 16}));
  EXPECT_EQ(takeError(),
            "product 'layer/wgrad': tensor map with a stride of 40 "
            "bytes, expected a multiple of 16 below 2^40");
}

TEST_F(GemmErrors, OperandSmallerThanDescribed) {
  using C = Config<Format::E4M3, Format::E4M3, 128, 2, true>;
  DeviceArray<uint8_t> a(16 * 32), b(16 * 32);
  DeviceArray<float> d(32 * 16);
  Operands operands;
  Args args = {32, 16, 32, 1.0f, nullptr, nullptr};
  ASSERT_EQ(describe<C>(operands, a.get(), 32, b.get(), 32, args), "");
  gemm::run<C>("product", operands, args, chain(Store<float>{{}, d.get(), 16}),
               1, nullptr);
  expectError({"kernel 'product'", "tensor that is out of bounds", "1024 bytes",
               "Gemm.h:"});
}

} // namespace
