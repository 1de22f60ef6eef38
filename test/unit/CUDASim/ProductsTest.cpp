//===- ProductsTest.cpp - Products against double precision ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt::Products on the emulated cuBLASLt: all layouts, batches and formats that
// it accepts, and the refusal, by name, of what it does not.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/Products.h"
#include "mpt/Numerics/Formats.h"

using namespace mpt;
using namespace mpt::test;

namespace {

/// An operand's memory: `values` are what its elements stand for.
struct Data {
  std::vector<double> values;
  std::vector<uint8_t> bytes;
};

Data makeData(ProductType type, size_t count, uint64_t seed) {
  Data data;
  std::vector<float> numbers = randomFloats(count, seed);
  data.bytes.resize(count * static_cast<size_t>(productTypeBytes(type)));
  for (size_t i = 0; i < count; ++i) {
    uint32_t code = num::bits(numbers[i]);
    float value = numbers[i];
    if (type == ProductType::BF16)
      code = num::encodeBF16(value), value = num::decodeBF16(code);
    else if (type == ProductType::E4M3)
      code = num::encodeE4M3(value * 256.0f), value = num::decodeE4M3(code);
    else if (type == ProductType::E5M2)
      code = num::encodeE5M2(value * 256.0f), value = num::decodeE5M2(code);
    data.values.push_back(value);
    size_t width = static_cast<size_t>(productTypeBytes(type));
    std::memcpy(data.bytes.data() + i * width, &code, width);
  }
  return data;
}

/// Elements from the first to the last one that an operand touches.
size_t extent(const ProductOperand &operand, int64_t rows, int64_t columns,
              const int64_t *batch) {
  int64_t ld = operand.ld ? operand.ld : columns;
  return static_cast<size_t>((batch[0] - 1) * operand.batchStride[0] +
                             (batch[1] - 1) * operand.batchStride[1] +
                             (rows - 1) * ld + columns);
}

/// Runs `desc` on random data and compares with sums in double precision.
void runAndCompare(const ProductDesc &desc, bool capture = false) {
  Products products;
  ASSERT_EQ(products.open(1 << 20), "");
  ASSERT_EQ(products.add(desc), "");
  auto rows = [&](int which) {
    return which == 0   ? (desc.a.transposed ? desc.k : desc.m)
           : which == 1 ? (desc.b.transposed ? desc.n : desc.k)
                        : desc.m;
  };
  auto columns = [&](int which) {
    return which == 0   ? (desc.a.transposed ? desc.m : desc.k)
           : which == 1 ? (desc.b.transposed ? desc.k : desc.n)
                        : desc.n;
  };
  Data a = makeData(desc.a.type,
                    extent(desc.a, rows(0), columns(0), desc.batch), 11);
  Data b = makeData(desc.b.type,
                    extent(desc.b, rows(1), columns(1), desc.batch), 12);
  DeviceArray<uint8_t> deviceA(a.bytes), deviceB(b.bytes);
  size_t sizeD = extent(desc.d, rows(2), columns(2), desc.batch);
  std::vector<float> before(sizeD, desc.accumulate ? 2.0f : NAN);
  DeviceArray<float> d(before);
  bool fp8 = isFP8(desc.a.type);
  DeviceArray<float> scales(std::vector<float>{0.25f, 0.125f});
  double scale = fp8 ? 0.25 * 0.125 : 1.0;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamCreate(&stream);
  if (capture)
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  products.run(0, deviceA.get(), deviceB.get(), d.get(),
               fp8 ? scales.get() : nullptr, fp8 ? scales.get() + 1 : nullptr,
               stream);
  if (capture) {
    cudaStreamEndCapture(stream, &graph);
    cudaGraphInstantiate(&exec, graph);
    cudaGraphLaunch(exec, stream);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
  ASSERT_EQ(takeError(), "");
  std::vector<float> y = d.host();
  std::vector<bool> written(sizeD);
  auto at = [&](const ProductOperand &operand, int which, int64_t outer,
                int64_t inner, int64_t r, int64_t c) {
    int64_t ld = operand.ld ? operand.ld : columns(which);
    if (operand.transposed)
      std::swap(r, c);
    return static_cast<size_t>(outer * operand.batchStride[0] +
                               inner * operand.batchStride[1] + r * ld + c);
  };
  for (int64_t o = 0; o < desc.batch[0]; ++o)
    for (int64_t i = 0; i < desc.batch[1]; ++i)
      for (int64_t r = 0; r < desc.m; ++r)
        for (int64_t c = 0; c < desc.n; ++c) {
          double sum = 0, magnitude = 0;
          for (int64_t k = 0; k < desc.k; ++k) {
            double term = a.values[at(desc.a, 0, o, i, r, k)] *
                          b.values[at(desc.b, 1, o, i, k, c)] * scale;
            sum += term;
            magnitude += std::fabs(term);
          }
          if (desc.accumulate)
            sum += 2.0, magnitude += 2.0;
          size_t place = at(desc.d, 2, o, i, r, c);
          written[place] = true;
          ASSERT_NEAR(y[place], sum, 1e-6 * magnitude)
              << o << " " << i << " " << r << " " << c;
        }
  // What lies between the rows stays.
  for (size_t i = 0; i < sizeD; ++i) {
    if (!written[i]) {
      ASSERT_EQ(num::bits(y[i]), num::bits(before[i])) << i;
    }
  }
  cudaStreamDestroy(stream);
}

ProductDesc makeDesc(ProductType a, ProductType b, int64_t m, int64_t n,
                     int64_t k) {
  ProductDesc desc;
  desc.name = "dense/fprop";
  desc.m = m, desc.n = n, desc.k = k;
  desc.a.type = a, desc.b.type = b;
  if (isFP8(a))
    desc.b.transposed = true;
  return desc;
}

using ProductsTest = CudaSimTest;

TEST_F(ProductsTest, F32AndBF16InEveryLayout) {
  for (ProductType type : {ProductType::F32, ProductType::BF16})
    for (int layout = 0; layout < 4; ++layout) {
      ProductDesc desc = makeDesc(type, type, 37, 53, 29);
      desc.a.transposed = layout & 1;
      desc.b.transposed = layout & 2;
      desc.a.alignment = desc.b.alignment = 4;
      runAndCompare(desc);
    }
}

TEST_F(ProductsTest, RowsWithGaps) {
  ProductDesc desc = makeDesc(ProductType::F32, ProductType::F32, 10, 34, 20);
  desc.a.ld = 33, desc.b.ld = 40, desc.d.ld = 35;
  runAndCompare(desc);
  desc.b.transposed = true;
  desc.accumulate = true;
  runAndCompare(desc);
}

TEST_F(ProductsTest, FP8WithScales) {
  for (bool fast : {false, true}) {
    ProductDesc desc =
        makeDesc(ProductType::E4M3, ProductType::E4M3, 40, 48, 64);
    desc.fastAccumulation = fast;
    runAndCompare(desc);
  }
  runAndCompare(makeDesc(ProductType::E5M2, ProductType::E4M3, 33, 64, 32));
  ProductDesc desc = makeDesc(ProductType::E4M3, ProductType::E5M2, 16, 16, 32);
  desc.a.ld = 48;
  desc.accumulate = true;
  runAndCompare(desc);
}

TEST_F(ProductsTest, InAGraph) {
  runAndCompare(makeDesc(ProductType::E4M3, ProductType::E4M3, 16, 32, 32),
                true);
}

TEST_F(ProductsTest, AttentionScoresFromOneProjection) {
  // Q and K as [batch, sequence, heads, size]; scores as [batch, heads, q, k].
  constexpr int64_t batch = 3, sequence = 9, heads = 2, size = 16;
  ProductDesc desc =
      makeDesc(ProductType::F32, ProductType::F32, sequence, sequence, size);
  desc.batch[0] = batch, desc.batch[1] = heads;
  desc.b.transposed = true;
  for (ProductOperand *operand : {&desc.a, &desc.b}) {
    operand->ld = heads * size;
    operand->batchStride[0] = sequence * heads * size;
    operand->batchStride[1] = size;
  }
  desc.d.batchStride[0] = heads * sequence * sequence;
  desc.d.batchStride[1] = sequence * sequence;
  desc.d.alignment = 4;
  runAndCompare(desc);
  // The same with more heads than batches: the loop is over the other one.
  std::swap(desc.batch[0], desc.batch[1]);
  for (ProductOperand *operand : {&desc.a, &desc.b, &desc.d})
    std::swap(operand->batchStride[0], operand->batchStride[1]);
  runAndCompare(desc);
}

TEST_F(ProductsTest, RegularBatchesBecomeOneCall) {
  ProductDesc desc = makeDesc(ProductType::BF16, ProductType::BF16, 5, 6, 7);
  desc.batch[0] = 3, desc.batch[1] = 4;
  desc.a.batchStride[0] = 4 * 35, desc.a.batchStride[1] = 35;
  desc.b.batchStride[0] = 4 * 42, desc.b.batchStride[1] = 42;
  desc.d.batchStride[0] = 4 * 30, desc.d.batchStride[1] = 30;
  EXPECT_EQ(detail::planProduct(desc).inner, 12);
  runAndCompare(desc);
  // A matrix that the whole batch shares stays regular.
  desc.b.batchStride[0] = desc.b.batchStride[1] = 0;
  EXPECT_EQ(detail::planProduct(desc).inner, 12);
  runAndCompare(desc);
  // One that only the inner dimension shares does not.
  desc.b.batchStride[0] = 42;
  EXPECT_EQ(detail::planProduct(desc).outer, 3);
  runAndCompare(desc);
}

/// Expects that `desc` is refused at load with all of `parts` in the message.
void expectRefused(const ProductDesc &desc,
                   std::initializer_list<std::string> parts) {
  Products products;
  ASSERT_EQ(products.open(1 << 20), "");
  std::string error = products.add(desc);
  EXPECT_EQ(products.size(), 0u);
  EXPECT_EQ(error.find("product 'dense/fprop': "), 0u) << error;
  for (const std::string &part : parts)
    EXPECT_NE(error.find(part), std::string::npos)
        << "'" << part << "' is missing in: " << error;
}

TEST_F(ProductsTest, RefusedByName) {
  ProductDesc fp8 = makeDesc(ProductType::E4M3, ProductType::E4M3, 16, 32, 64);
  ProductDesc desc = fp8;
  desc.b.transposed = false;
  expectRefused(desc,
                {"contiguous along K", "B held as [N, K] (found [K, N])"});
  desc = fp8;
  desc.a.transposed = true;
  expectRefused(desc, {"A held as [M, K] (found [K, M])"});
  desc = fp8;
  desc.k = 40;
  expectRefused(desc, {"multiples of 16", "16x32x40"});
  desc = fp8;
  desc.a.ld = 72;
  expectRefused(desc, {"operand A: row stride of 72 f8E4M3FN elements"});
  desc = fp8;
  desc.b.alignment = 8;
  expectRefused(desc, {"operand B: alignment 8"});
  expectRefused(makeDesc(ProductType::E5M2, ProductType::E5M2, 16, 16, 16),
                {"f8E5M2 and f8E5M2 cannot be multiplied"});
  expectRefused(makeDesc(ProductType::F32, ProductType::BF16, 16, 16, 16),
                {"f32 and bf16 cannot be multiplied"});
  desc = makeDesc(ProductType::F32, ProductType::F32, 16, 16, 16);
  desc.fastAccumulation = true;
  expectRefused(desc, {"fast accumulation is for FP8"});
  desc = makeDesc(ProductType::F32, ProductType::F32, 16, 16, 0);
  expectRefused(desc, {"16x16x0", "out of range"});
  desc = makeDesc(ProductType::F32, ProductType::F32, 16, 16, 16);
  desc.a.ld = 15;
  expectRefused(desc, {"operand A: row stride 15 is less than its row of 16"});
  desc = makeDesc(ProductType::F32, ProductType::F32, 16, 16, 16);
  desc.batch[1] = 2;
  expectRefused(desc, {"operand D: batch stride 0 of dimension 1"});
}

TEST_F(ProductsTest, RunChecksItsCall) {
  Products products;
  ASSERT_EQ(products.open(1 << 20), "");
  ASSERT_EQ(products.add(makeDesc(ProductType::F32, ProductType::F32, 8, 8, 8)),
            "");
  ASSERT_EQ(
      products.add(makeDesc(ProductType::E4M3, ProductType::E4M3, 16, 16, 16)),
      "");
  DeviceArray<float> x(randomFloats(64)), d(256);
  products.run(0, x.get() + 1, x.get(), d.get(), nullptr, nullptr, nullptr);
  expectError({"product 'dense/fprop'", "address of A", "16 bytes"});
  products.run(0, x.get(), x.get(), d.get(), x.get(), x.get(), nullptr);
  expectError({"inverse scales are for FP8"});
  products.run(1, x.get(), x.get(), d.get(), x.get(), nullptr, nullptr);
  expectError({"FP8 operands need both inverse scales"});
  // 52 of the 64 elements that A needs.
  products.run(0, x.get() + 12, x.get(), d.get(), nullptr, nullptr, nullptr);
  expectError({"product 'dense/fprop'", "cublasLtMatmul"});
}

} // namespace
