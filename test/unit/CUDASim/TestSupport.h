//===- TestSupport.h - Device arrays and orders for tests -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the simulator's tests share: arrays in simulated device memory, and a
// fixture that begins and ends each test without errors left over.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TEST_UNIT_CUDASIM_TESTSUPPORT_H
#define MPT_TEST_UNIT_CUDASIM_TESTSUPPORT_H

#include "mpt/CUDA/Port.h"

#include "gtest/gtest.h"

#include <vector>

namespace mpt::test {

/// An array in device memory; its content is unknown (NaN) unless given.
template <typename T> class DeviceArray {
public:
  explicit DeviceArray(size_t count) : count(count) {
    EXPECT_EQ(cudaMalloc(&data, count * sizeof(T)), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T> &host) : DeviceArray(host.size()) {
    EXPECT_EQ(cudaMemcpy(data, host.data(), count * sizeof(T),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  DeviceArray(const DeviceArray &) = delete;
  DeviceArray &operator=(const DeviceArray &) = delete;
  ~DeviceArray() { cudaFree(data); }

  T *get() const { return data; }
  std::vector<T> host() const {
    std::vector<T> result(count);
    EXPECT_EQ(cudaMemcpy(result.data(), data, count * sizeof(T),
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    return result;
  }

private:
  T *data = nullptr;
  size_t count;
};

/// `count` numbers in [-1, 1) that depend on `seed` only.
inline std::vector<float> randomFloats(size_t count, uint64_t seed = 1) {
  std::vector<float> result(count);
  for (float &one : result) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    one = static_cast<float>(static_cast<int64_t>(seed) >> 40) / 8388608.0f;
  }
  return result;
}

class CudaSimTest : public ::testing::Test {
protected:
  void SetUp() override {
    mpt::takeError();
    cudaGetLastError();
    sim::clearReport();
    sim::options() = {};
  }
  void TearDown() override {
    EXPECT_EQ(mpt::takeError(), "");
    sim::options() = {};
  }

  /// The recorded error, which must contain every one of `parts`.
  static void expectError(std::initializer_list<std::string> parts) {
    std::string error = mpt::takeError();
    cudaGetLastError();
    for (const std::string &part : parts)
      EXPECT_NE(error.find(part), std::string::npos)
          << "'" << part << "' is missing in: " << error;
  }
};

/// The same test under each order of threads.
class CudaSimOrders : public CudaSimTest,
                      public ::testing::WithParamInterface<const char *> {
protected:
  void SetUp() override {
    CudaSimTest::SetUp();
    ASSERT_TRUE(sim::parseOrder(GetParam(), sim::options()));
  }
};

/// How a report names a line of a test: "<...>Test.cpp:<line>".
inline std::string place(int line) {
  return "Test.cpp:" + std::to_string(line);
}

} // namespace mpt::test

#endif // MPT_TEST_UNIT_CUDASIM_TESTSUPPORT_H
