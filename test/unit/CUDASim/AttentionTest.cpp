//===- AttentionTest.cpp - Attention, simulated ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt/CUDA/HopperAttention.h against attention in double precision: sequences
// below, at and beyond a tile and the ring, masks, dropout.
//
// Bound: weights are rounded to BF16 (2^-8 relative) and so is the result; the
// rest (scores of 64 products, exp and sums in f32) is below 2^-15 of the sum
// of magnitudes of weight * value here.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/HopperAttention.h"

using namespace mpt;
using namespace mpt::test;

namespace {

class Attention : public CudaSimOrders {};
INSTANTIATE_TEST_SUITE_P(Orders, Attention,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "interleaved:1"));

constexpr int heads = 2, batches = 2, size = attention::headSize;
constexpr float keep = 0.75f;

/// Q, K and V side by side, [batch, sequence, 3, heads, 64], and the rest.
struct Problem {
  int sequence;
  std::vector<uint16_t> qkv;
  std::vector<float> bias;
  DeviceArray<uint16_t> deviceQkv, out;
  DeviceArray<float> deviceBias, logSum;
  DeviceArray<int64_t> random{std::vector<int64_t>{0x123456789abcdef, 7}};

  static std::vector<uint16_t> codes(size_t count) {
    std::vector<uint16_t> result;
    for (float x : randomFloats(count, 11))
      result.push_back(static_cast<uint16_t>(num::encodeBF16(2.0f * x)));
    return result;
  }
  static std::vector<float> padding(int sequence) {
    std::vector<float> result(batches * sequence, 0.0f);
    // The second sequence ends early; a key in the middle is masked, too.
    for (int i = sequence * 3 / 4; i < sequence; ++i)
      result[sequence + i] = -1e30f;
    result[3] = -INFINITY;
    return result;
  }
  explicit Problem(int sequence)
      : sequence(sequence),
        qkv(codes(size_t(batches) * sequence * 3 * heads * size)),
        bias(padding(sequence)), deviceQkv(qkv),
        out(size_t(batches) * sequence * heads * size), deviceBias(bias),
        logSum(size_t(batches) * heads * sequence) {}

  attention::Operand operand(int which) const {
    return {deviceQkv.get() + which * heads * size, 3 * heads * size,
            int64_t(sequence) * 3 * heads * size};
  }
  void run(bool masked, bool dropout) {
    attention::Args args = {sequence,
                            heads,
                            0.125f,
                            masked ? deviceBias.get() : nullptr,
                            out.get(),
                            heads * size,
                            int64_t(sequence) * heads * size,
                            logSum.get(),
                            dropout ? random.get() : nullptr,
                            random.get() + 1,
                            42,
                            num::keepThreshold(keep),
                            1.0f / keep};
    attention::run("attention", operand(0), operand(1), operand(2), args,
                   batches, nullptr);
    ASSERT_FALSE(failed()) << firstError();
  }
  double at(int which, int batch, int row, int head, int i) const {
    size_t index =
        ((size_t(batch) * sequence + row) * 3 + which) * heads * size +
        head * size + i;
    return num::decodeBF16(uint32_t(qkv[index]));
  }
};

/// Whether dropout keeps an element, from the definition.
bool kept(int64_t element) {
  uint64_t seed = 0x123456789abcdef;
  num::Stream<uint32_t> stream = {42, 7, static_cast<uint32_t>(seed),
                                  static_cast<uint32_t>(seed >> 32)};
  return num::draw(static_cast<uint32_t>(element),
                   static_cast<uint32_t>(element >> 32),
                   stream) < num::keepThreshold(keep);
}

void checkRow(const Problem &problem, int batch, int head, int row, bool masked,
              bool dropout, const uint16_t *out, float logSum) {
  int n = problem.sequence;
  std::vector<double> weights(n);
  double largest = -INFINITY, sum = 0;
  for (int key = 0; key < n; ++key) {
    double score = 0;
    for (int i = 0; i < size; ++i)
      score += problem.at(0, batch, row, head, i) *
               problem.at(1, batch, key, head, i);
    weights[key] =
        0.125 * score + (masked ? problem.bias[batch * n + key] : 0.0);
    largest = std::max(largest, weights[key]);
  }
  for (double &weight : weights)
    sum += weight = std::exp(weight - largest);
  ASSERT_NEAR(logSum, largest + std::log(sum), 1e-5);
  for (int key = 0; key < n; ++key) {
    int64_t element = ((int64_t(batch) * heads + head) * n + row) * n + key;
    weights[key] *= !dropout ? 1.0 / sum : kept(element) ? 1.0 / keep / sum : 0;
  }
  for (int i = 0; i < size; ++i) {
    double exact = 0, magnitude = 0;
    for (int key = 0; key < n; ++key) {
      double product = weights[key] * problem.at(2, batch, key, head, i);
      exact += product;
      magnitude += std::fabs(product);
    }
    double bound =
        0x1p-8 * (magnitude + std::fabs(exact)) + 0x1p-15 * magnitude;
    ASSERT_NEAR(num::decodeBF16(uint32_t(out[i])), exact, bound)
        << "batch " << batch << ", head " << head << ", row " << row << ", "
        << i;
  }
}

void check(int sequence, bool masked, bool dropout) {
  Problem problem(sequence);
  problem.run(masked, dropout);
  std::vector<uint16_t> out = problem.out.host();
  std::vector<float> logSum = problem.logSum.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int head = 0; head < heads; ++head)
      for (int row = 0; row < sequence; ++row)
        checkRow(problem, batch, head, row, masked, dropout,
                 out.data() +
                     ((size_t(batch) * sequence + row) * heads + head) * size,
                 logSum[(size_t(batch) * heads + head) * sequence + row]);
}

TEST_P(Attention, ShortSequence) { check(16, true, false); }
TEST_P(Attention, BeyondOneTile) { check(144, false, false); }
TEST_P(Attention, BeyondTheRing) { check(272, true, false); }
TEST_P(Attention, Dropout) { check(144, true, true); }

TEST_P(Attention, NothingToAttendTo) {
  Problem problem(16);
  std::vector<float> bias(batches * 16, -INFINITY);
  ASSERT_EQ(cudaMemcpy(problem.deviceBias.get(), bias.data(), bias.size() * 4,
                       cudaMemcpyHostToDevice),
            cudaSuccess);
  problem.run(true, false);
  for (uint16_t code : problem.out.host())
    ASSERT_TRUE(std::isnan(num::decodeBF16(uint32_t(code))));
}

using AttentionErrors = CudaSimTest;

TEST_F(AttentionErrors, Sequence) {
  Problem problem(16);
  attention::Args args = {};
  args.sequence = 24;
  args.heads = heads;
  attention::run("layer.0/attention", problem.operand(0), problem.operand(1),
                 problem.operand(2), args, batches, nullptr);
  expectError({"layer.0/attention: attention over 2 sequences of 24 with 2 "
               "heads, expected a length that is a multiple of 16"});
}

} // namespace
