//===- HostApiTest.cpp - Copies, streams and graphs -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What a static host plan relies on: a captured graph freezes its arguments and
// runs when it is launched, and misuse of copies and captures is refused.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

using namespace mpt;
using namespace mpt::test;

namespace {

__global__ void add(float *x, float value) { x[threadIdx.x] += value; }

using HostApi = CudaSimTest;

TEST_F(HostApi, CopiesCheckDirectionAndSize) {
  DeviceArray<float> x(std::vector<float>{1, 2, 3, 4});
  float host[8] = {};
  EXPECT_EQ(cudaMemcpy(host, x.get(), 16, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(host[3], 4.0f);
  EXPECT_EQ(cudaMemcpy(host, x.get(), 32, cudaMemcpyDeviceToHost),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, x.get(), 16, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(x.get(), host, 16, cudaMemcpyDeviceToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(x.get() + 2, 0, 12), cudaErrorInvalidValue);
  EXPECT_FALSE(check(cudaGetLastError(), "memset"));
  expectError({"memset: cudaErrorInvalidValue", "12 bytes at",
               "byte 8 of an allocation of 16 bytes"});
}

TEST_F(HostApi, AGraphRunsWhenLaunchedWithTheArgumentsOfItsCapture) {
  DeviceArray<float> x(std::vector<float>{0, 10});
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  float value = 1.0f;
  launch("add", add, 1, 2, 0, stream, x.get(), value);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(x.host()[0], 0.0f) << "a captured launch ran";
  value = 100.0f;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (int i = 0; i < 3; ++i)
    ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(x.host(), (std::vector<float>{3, 13}));
  cudaGraphExecDestroy(exec);
  cudaStreamDestroy(stream);
}

TEST_F(HostApi, SynchronisingWhileCapturingIsRefused) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph),
            cudaErrorStreamCaptureUnsupported);
  cudaGetLastError();
  cudaStreamDestroy(stream);
}

TEST_F(HostApi, AFaultInAGraphNamesTheKernel) {
  DeviceArray<float> x(64);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal),
            cudaSuccess);
  launch("late", add, 1, 128, 0, stream, x.get(), 1.0f);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  EXPECT_FALSE(failed());
  EXPECT_FALSE(check(cudaGraphLaunch(exec, stream), "step"));
  expectError({"step: ", "kernel 'late'", "thread (64,0,0)"});
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

std::vector<std::string> seen;

TEST_F(HostApi, HooksSeeEveryKernelAndMayChangeItsInput) {
  DeviceArray<float> x(std::vector<float>{0.0f});
  static float *data;
  data = x.get();
  seen.clear();
  mpt_sim_set_hook([](const char *name, uint64_t ordinal, int after) {
    seen.push_back(name + std::to_string(ordinal) + (after ? "+" : "-"));
    if (!after)
      *data = 40.0f;
  });
  launch("a", add, 1, 1, 0, nullptr, x.get(), 1.0f);
  launch("b", add, 1, 1, 0, nullptr, x.get(), 2.0f);
  mpt_sim_set_hook(nullptr);
  EXPECT_EQ(seen, (std::vector<std::string>{"a0-", "a0+", "b1-", "b1+"}));
  EXPECT_EQ(x.host()[0], 42.0f);
}

TEST_F(HostApi, OrdersHaveATextForm) {
  EXPECT_EQ(mpt_sim_set_order("random:12"), 0);
  EXPECT_EQ(sim::options().order, sim::Order::Random);
  EXPECT_EQ(sim::options().seed, 12u);
  EXPECT_EQ(mpt_sim_set_order("sideways"), 1);
  EXPECT_EQ(mpt_sim_set_order("random:x"), 1);
  EXPECT_EQ(mpt_sim_set_order("forwards"), 1);
}

} // namespace
