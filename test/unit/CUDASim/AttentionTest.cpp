//===- AttentionTest.cpp - Attention and its gradient, simulated ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt/CUDA/HopperAttention.h and HopperAttentionGrad.h against attention in
// double precision: sequences below, at and beyond a tile and the ring, masks,
// dropout.
//
// Bounds: every operand of a product that is made on the way (p, dS), O and the
// results are rounded to BF16, 2^-8 relative each; the rest (scores of 64
// products, exp and sums in f32) is below 2^-15 of the sums of magnitudes.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/HopperAttentionGrad.h"

using namespace mpt;
using namespace mpt::test;

namespace {

class Attention : public CudaSimOrders {};
// The checker instruments the reference, too: one order is enough for it.
#if defined(MPT_CHECKED)
INSTANTIATE_TEST_SUITE_P(Orders, Attention, ::testing::Values("interleaved:1"));
#else
INSTANTIATE_TEST_SUITE_P(Orders, Attention,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "interleaved:1"));
#endif

constexpr int heads = 2, batches = 2, size = attention::headSize;
constexpr float keep = 0.75f, scale = 0.125f;
constexpr double bf16 = 0x1p-8, f32 = 0x1p-15;
constexpr uint64_t seed = 0x123456789abcdef;
constexpr int64_t step = 7;
constexpr uint32_t id = 42;

std::vector<uint16_t> codes(size_t count, uint64_t seed) {
  std::vector<uint16_t> result;
  for (float x : randomFloats(count, seed))
    result.push_back(static_cast<uint16_t>(num::encodeBF16(2.0f * x)));
  return result;
}

double decode(uint16_t code) { return num::decodeBF16(uint32_t(code)); }

/// Operands and results; Q, K and V lie side by side, and so do their
/// gradients: [batch, sequence, 3, heads, 64].
struct Problem {
  int sequence;
  bool masked, dropout;
  std::vector<uint16_t> qkv, gradOut;
  std::vector<float> bias;
  DeviceArray<uint16_t> deviceQkv, deviceGradOut, out, gradQkv;
  DeviceArray<float> deviceBias, logSum, delta;
  DeviceArray<int64_t> random{std::vector<int64_t>{int64_t(seed), step}};

  static std::vector<float> padding(int sequence) {
    std::vector<float> result(batches * sequence, 0.0f);
    // The second sequence ends early; a key in the middle is masked, too.
    for (int i = sequence * 3 / 4; i < sequence; ++i)
      result[sequence + i] = -1e30f;
    result[3] = -INFINITY;
    return result;
  }
  Problem(int sequence, bool masked, bool dropout)
      : sequence(sequence), masked(masked), dropout(dropout),
        qkv(codes(size_t(batches) * sequence * 3 * heads * size, 11)),
        gradOut(codes(size_t(batches) * sequence * heads * size, 12)),
        bias(padding(sequence)), deviceQkv(qkv), deviceGradOut(gradOut),
        out(gradOut.size()), gradQkv(qkv.size()), deviceBias(bias),
        logSum(size_t(batches) * heads * sequence),
        delta(size_t(batches) * heads * sequence) {}

  attention::Operand operand(int which) const {
    return {deviceQkv.get() + which * heads * size, 3 * heads * size,
            int64_t(sequence) * 3 * heads * size};
  }
  attention::Operand plain(const DeviceArray<uint16_t> &x) const {
    return {x.get(), heads * size, int64_t(sequence) * heads * size};
  }
  attention::Dropout dropoutArgs() const {
    return {dropout ? random.get() : nullptr, random.get() + 1, id,
            num::keepThreshold(keep), 1.0f / keep};
  }
  void forward() {
    attention::Args args = {sequence,
                            heads,
                            scale,
                            masked ? deviceBias.get() : nullptr,
                            out.get(),
                            heads * size,
                            int64_t(sequence) * heads * size,
                            logSum.get(),
                            dropoutArgs()};
    attention::run("attention", operand(0), operand(1), operand(2), args,
                   batches, nullptr);
    ASSERT_FALSE(failed()) << firstError();
  }
  void backward() {
    attention::GradArgs args = {sequence,
                                heads,
                                scale,
                                masked ? deviceBias.get() : nullptr,
                                logSum.get(),
                                delta.get(),
                                gradQkv.get(),
                                gradQkv.get() + heads * size,
                                gradQkv.get() + 2 * heads * size,
                                3 * heads * size,
                                int64_t(sequence) * 3 * heads * size,
                                dropoutArgs()};
    attention::runGradient("attention/grad", operand(0), operand(1), operand(2),
                           plain(out), plain(deviceGradOut), args, batches,
                           nullptr);
    ASSERT_FALSE(failed()) << firstError();
  }
};

/// One head in double precision.
struct Head {
  int n;
  /// [row][i] of Q, K, V, dO; [row][key] of weights and of m (0 or 1 / keep).
  std::vector<double> q, k, v, g, p, m, logSum;
  size_t firstOut, firstQkv;

  Head(const Problem &problem, int batch, int head) : n(problem.sequence) {
    firstQkv = (size_t(batch) * n * 3 * heads + head) * size;
    firstOut = (size_t(batch) * n * heads + head) * size;
    for (int row = 0; row < n; ++row)
      for (int i = 0; i < size; ++i) {
        q.push_back(decode(problem.qkv[qkvAt(0, row, i)]));
        k.push_back(decode(problem.qkv[qkvAt(1, row, i)]));
        v.push_back(decode(problem.qkv[qkvAt(2, row, i)]));
        g.push_back(decode(problem.gradOut[outAt(row, i)]));
      }
    for (int row = 0; row < n; ++row)
      addRow(problem, row, int64_t(batch) * heads + head,
             problem.bias.data() + batch * n);
  }
  size_t qkvAt(int which, int row, int i) const {
    return firstQkv + (size_t(row) * 3 + which) * heads * size + i;
  }
  size_t outAt(int row, int i) const {
    return firstOut + size_t(row) * heads * size + i;
  }
  /// Weights and dropout of a row, from their definitions.
  void addRow(const Problem &problem, int row, int64_t head,
              const float *bias) {
    double largest = -INFINITY, sum = 0;
    for (int key = 0; key < n; ++key) {
      double score = 0;
      for (int i = 0; i < size; ++i)
        score += q[row * size + i] * k[key * size + i];
      p.push_back(scale * score + (problem.masked ? bias[key] : 0.0));
      largest = std::max(largest, p.back());
      uint64_t element = uint64_t((head * n + row) * n + key);
      uint32_t word = num::draw(
          static_cast<uint32_t>(element), static_cast<uint32_t>(element >> 32),
          num::Stream<uint32_t>{id, uint32_t(step), uint32_t(seed),
                                uint32_t(seed >> 32)});
      m.push_back(!problem.dropout                  ? 1.0
                  : word < num::keepThreshold(keep) ? 1.0 / keep
                                                    : 0.0);
    }
    for (int key = 0; key < n; ++key)
      sum += p[row * n + key] = std::exp(p[row * n + key] - largest);
    for (int key = 0; key < n; ++key)
      p[row * n + key] /= sum;
    logSum.push_back(largest + std::log(sum));
  }
};

/// An exact sum and how far the kernel's may be from it, before its rounding.
struct Sum {
  double exact = 0, bound = 0;
  /// Adds x * y, x being off by `error` at most.
  void add(double x, double y, double error) {
    exact += x * y;
    bound += error * std::fabs(y) + f32 * std::fabs(x * y);
  }
  void check(uint16_t found, double factor) const {
    ASSERT_NEAR(decode(found), factor * exact,
                factor * (bound + bf16 * (std::fabs(exact) + bound)));
  }
};

Sum output(const Head &head, int row, int i) {
  Sum sum;
  for (int key = 0; key < head.n; ++key) {
    double weight = head.p[row * head.n + key] * head.m[row * head.n + key];
    sum.add(weight, head.v[key * size + i], bf16 * weight);
  }
  return sum;
}

void checkForward(const Problem &problem) {
  std::vector<uint16_t> out = problem.out.host();
  std::vector<float> logSum = problem.logSum.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int h = 0; h < heads; ++h) {
      Head head(problem, batch, h);
      for (int row = 0; row < head.n; ++row) {
        ASSERT_NEAR(logSum[(batch * heads + h) * head.n + row],
                    head.logSum[row], 1e-5);
        for (int i = 0; i < size; ++i)
          output(head, row, i).check(out[head.outAt(row, i)], 1.0);
      }
    }
}

/// dS, and how far off the kernel's may be.
void gradientOfScores(const Head &head, std::vector<double> &ds,
                      std::vector<double> &error) {
  int n = head.n;
  for (int row = 0; row < n; ++row) {
    double delta = 0, deltaError = 0;
    for (int i = 0; i < size; ++i) {
      Sum o = output(head, row, i);
      double g = std::fabs(head.g[row * size + i]);
      delta += head.g[row * size + i] * o.exact;
      deltaError += g * (o.bound + bf16 * (std::fabs(o.exact) + o.bound));
    }
    for (int key = 0; key < n; ++key) {
      double dp = 0, magnitude = 0;
      for (int i = 0; i < size; ++i) {
        double product = head.g[row * size + i] * head.v[key * size + i];
        dp += product;
        magnitude += std::fabs(product);
      }
      double p = head.p[row * n + key], m = head.m[row * n + key];
      ds.push_back(p * (dp * m - delta));
      error.push_back(
          p * (deltaError + f32 * (magnitude * m + std::fabs(delta))) +
          bf16 * std::fabs(ds.back()));
    }
  }
}

void checkBackward(const Problem &problem) {
  std::vector<uint16_t> grad = problem.gradQkv.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int h = 0; h < heads; ++h) {
      Head head(problem, batch, h);
      std::vector<double> ds, error;
      gradientOfScores(head, ds, error);
      int n = head.n;
      for (int row = 0; row < n; ++row)
        for (int i = 0; i < size; ++i) {
          Sum q, k, v;
          for (int j = 0; j < n; ++j) {
            q.add(ds[row * n + j], head.k[j * size + i], error[row * n + j]);
            k.add(ds[j * n + row], head.q[j * size + i], error[j * n + row]);
            double weight = head.p[j * n + row] * head.m[j * n + row];
            v.add(weight, head.g[j * size + i], bf16 * weight);
          }
          q.check(grad[head.qkvAt(0, row, i)], scale);
          k.check(grad[head.qkvAt(1, row, i)], scale);
          v.check(grad[head.qkvAt(2, row, i)], 1.0);
        }
    }
}

void check(int sequence, bool masked, bool dropout) {
  Problem problem(sequence, masked, dropout);
  problem.forward();
  checkForward(problem);
  problem.backward();
  checkBackward(problem);
}

TEST_P(Attention, ShortSequence) { check(16, true, false); }
TEST_P(Attention, BeyondOneTile) { check(144, true, false); }
TEST_P(Attention, BeyondTheRing) { check(272, false, false); }
TEST_P(Attention, Dropout) { check(144, true, true); }

TEST_P(Attention, NothingToAttendTo) {
  Problem problem(16, true, false);
  std::vector<float> bias(batches * 16, -INFINITY);
  ASSERT_EQ(cudaMemcpy(problem.deviceBias.get(), bias.data(), bias.size() * 4,
                       cudaMemcpyHostToDevice),
            cudaSuccess);
  problem.forward();
  for (uint16_t code : problem.out.host())
    ASSERT_TRUE(std::isnan(decode(code)));
}

using AttentionErrors = CudaSimTest;

TEST_F(AttentionErrors, Sequence) {
  Problem problem(16, false, false);
  problem.sequence = 24;
  attention::Args args = {};
  args.sequence = 24;
  args.heads = heads;
  attention::run("layer.0/attention", problem.operand(0), problem.operand(1),
                 problem.operand(2), args, batches, nullptr);
  expectError({"layer.0/attention: attention over 2 sequences of 24 with 2 "
               "heads, expected a length that is a multiple of 16"});
}

} // namespace
