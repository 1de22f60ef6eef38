//===- CApiTest.cpp - tests of the C API ----------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A package of two kernels and a product, opened, stepped, saved and loaded as
// a C program would.
//
//===----------------------------------------------------------------------===//

#include "Boundary.h"
#include "Package.h"
#include "mpt/Runtime/mpt.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace mpt::rt;

namespace {

/// y = x * w; z = y + lr; loss = sum of the first rng.step elements of z. The
/// buffer of y passes for the gradient of w.
const char manifest[] = R"({
  "format": "mpt-package", "version": 1, "function": "step", "target": "cpu",
  "engine": "reference", "graph_hash": "00112233445566aa",
  "kernels_hash": "HASH", "cpu": {"arch": "ARCH", "features": []},
  "arguments": [
    {"name": "w", "kind": "parameter", "dtype": "f32", "shape": [3, 2],
     "buffer": 0, "init": "zero"},
    {"name": "x", "kind": "input", "dtype": "f32", "shape": [2, 3],
     "buffer": 1},
    {"name": "lr", "kind": "hyper", "dtype": "f32", "shape": [], "buffer": 2},
    {"name": "rng.step", "kind": "rng", "dtype": "i64", "shape": [],
     "buffer": 3}],
  "results": [{"name": "loss", "dtype": "f32", "shape": [], "buffer": 6}],
  "arena_bytes": 192,
  "buffers": [
    {"kind": "argument", "bytes": 24}, {"kind": "argument", "bytes": 24},
    {"kind": "argument", "bytes": 4}, {"kind": "argument", "bytes": 8},
    {"kind": "arena", "bytes": 24, "offset": 0},
    {"kind": "arena", "bytes": 16, "offset": 64},
    {"kind": "arena", "bytes": 4, "offset": 128}],
  "launches": [
    {"op": "product", "name": "y", "role": "fprop", "m": 2, "n": 2, "k": 3,
     "batch": [1, 1],
     "lhs": {"buffer": 1, "offset": 0, "rows": 3, "columns": 1, "batch": [0, 0]},
     "rhs": {"buffer": 0, "offset": 0, "rows": 2, "columns": 1, "batch": [0, 0]},
     "result": {"buffer": 4, "offset": 0, "rows": 2, "columns": 1,
                "batch": [0, 0]}},
    {"op": "kernel", "symbol": "add_scalar", "name": "z", "tasks": 4,
     "args": [[4, 0], [2, 0], [5, 0]], "written": 1},
    {"op": "kernel", "symbol": "sum", "name": "loss", "tasks": 1,
     "args": [[5, 0], [3, 0], [6, 0]], "written": 1}],
  "gradients": [{"parameter": "w", "buffer": 4, "offset": 0}]
})";

class CApi : public ::testing::Test {
protected:
  void SetUp() override {
    directory = ::testing::TempDir() + "mpt-capi-" +
                std::to_string(::getpid()) +
                ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(directory);
    fs::create_directories(directory);
    fs::copy_file(MPT_SAMPLE_KERNELS, directory + "/kernels.so");
    std::ifstream in(MPT_SAMPLE_KERNELS, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::string text = manifest;
    auto replace = [&](const std::string &from, const std::string &to) {
      text.replace(text.find(from), from.size(), to);
    };
    replace("HASH", mpt::rt::fnv1a64(bytes.data(), bytes.size()));
#if defined(__aarch64__)
    replace("ARCH", "aarch64");
#else
    replace("ARCH", "x86_64");
#endif
    std::ofstream(directory + "/manifest.json") << text;
    ASSERT_EQ(mpt_package_open(directory.c_str(), 2, &package), MPT_OK)
        << mpt_last_error();
  }
  void TearDown() override {
    mpt_close(package);
    fs::remove_all(directory);
  }

  void setAll() {
    const float w[6] = {1, 2, 3, 4, 5, 6}, x[6] = {1, 0, 0, 0, 1, 0};
    const float lr = 0.5f;
    const int64_t ws[] = {3, 2}, xs[] = {2, 3};
    EXPECT_EQ(mpt_set_argument(package, "w", w, MPT_F32, 2, ws), MPT_OK);
    EXPECT_EQ(mpt_set_argument(package, "x", x, MPT_F32, 2, xs), MPT_OK);
    EXPECT_EQ(mpt_set_argument(package, "lr", &lr, MPT_F32, 0, nullptr),
              MPT_OK);
  }
  float loss() {
    const void *data = nullptr;
    EXPECT_EQ(mpt_result(package, "loss", &data), MPT_OK);
    return *static_cast<const float *>(data);
  }

  std::string directory;
  int count = 0; // of observed products
  mpt_package *package = nullptr;
};

} // namespace

TEST_F(CApi, stepsSeeTheStepNumber) {
  setAll();
  const float wanted[] = {0, 1.5f, 4, 7.5f, 12};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(mpt_step_number(package), i);
    ASSERT_EQ(mpt_step(package), MPT_OK) << mpt_last_error();
    EXPECT_EQ(loss(), wanted[i]);
  }
}

TEST_F(CApi, describes) {
  EXPECT_EQ(mpt_argument_count(package), 4);
  EXPECT_EQ(mpt_result_count(package), 1);
  EXPECT_EQ(mpt_thread_count(package), 2);
  EXPECT_STREQ(mpt_engine(package), "reference");
  EXPECT_STREQ(mpt_package_graph_hash(package), "00112233445566aa");
  EXPECT_EQ(mpt_arena_bytes(package), 192u);
  mpt_tensor_info info;
  ASSERT_EQ(mpt_argument_info(package, 1, &info), MPT_OK);
  EXPECT_STREQ(info.name, "x");
  EXPECT_EQ(info.kind, MPT_INPUT);
  EXPECT_EQ(info.rank, 2);
  EXPECT_EQ(info.shape[1], 3);
  EXPECT_EQ(info.bytes, 24u);
  EXPECT_EQ(info.has_range, 0);
  EXPECT_EQ(mpt_argument_info(package, 4, &info), MPT_ERROR_ARGUMENT);
  EXPECT_STREQ(mpt_last_error(),
               "argument index is 4, expected at least 0 and below 4");
  EXPECT_EQ(mpt_result_info(package, -1, &info), MPT_ERROR_ARGUMENT);
}

TEST_F(CApi, zeroCopy) {
  setAll();
  void *data = nullptr;
  ASSERT_EQ(mpt_argument_data(package, "x", &data), MPT_OK);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
  static_cast<float *>(data)[0] = 10;
  ASSERT_EQ(mpt_step(package), MPT_OK);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  EXPECT_EQ(loss(), 10.5f);
}

TEST_F(CApi, refusesNullAndUnknown) {
  mpt_package *none = nullptr;
  EXPECT_EQ(mpt_package_open(nullptr, 1, &none), MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_package_open("/nowhere", 1, nullptr), MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_package_open("/nowhere", 1, &none), MPT_ERROR_IO);
  EXPECT_EQ(none, nullptr);
  const float x[6] = {};
  const int64_t shape[2] = {2, 3};
  EXPECT_EQ(mpt_set_argument(package, nullptr, x, MPT_F32, 2, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "x", nullptr, MPT_F32, 2, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "x", x, MPT_F32, 2, nullptr),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "x", x, MPT_F32, 9, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "x", x, MPT_F32, -1, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "x", x, 77, 2, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_set_argument(package, "y", x, MPT_F32, 2, shape),
            MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_step(package), MPT_ERROR_STATE);
  EXPECT_STREQ(mpt_last_error(),
               "not set before the step: input 'x', hyper 'lr'");
}

TEST_F(CApi, checkpointHoldsStateAndStepNumber) {
  setAll();
  std::string path = directory + "/checkpoint";
  ASSERT_EQ(mpt_step(package), MPT_OK);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  ASSERT_EQ(mpt_save_checkpoint(package, path.c_str()), MPT_OK)
      << mpt_last_error();
  ASSERT_EQ(mpt_step(package), MPT_OK);
  float third = loss();
  mpt_package *other = nullptr;
  ASSERT_EQ(mpt_package_open(directory.c_str(), 1, &other), MPT_OK);
  std::swap(other, package);
  ASSERT_EQ(mpt_load_checkpoint(package, path.c_str()), MPT_OK)
      << mpt_last_error();
  EXPECT_EQ(mpt_step_number(package), 2);
  const float x[6] = {1, 0, 0, 0, 1, 0}, lr = 0.5f;
  const int64_t xs[] = {2, 3};
  EXPECT_EQ(mpt_set_argument(package, "x", x, MPT_F32, 2, xs), MPT_OK);
  EXPECT_EQ(mpt_set_argument(package, "lr", &lr, MPT_F32, 0, nullptr), MPT_OK);
  ASSERT_EQ(mpt_step(package), MPT_OK) << mpt_last_error();
  EXPECT_EQ(loss(), third);
  mpt_close(other);
}

TEST_F(CApi, observerStops) {
  setAll();
  ASSERT_EQ(mpt_set_observer(
                package,
                [](const mpt_product_view *view, void *user) {
                  EXPECT_STREQ(view->name, "y");
                  EXPECT_EQ(view->lhs.rows, 3);
                  EXPECT_EQ(view->result.data[3], 4);
                  return ++*static_cast<int *>(user) == 2 ? 1 : 0;
                },
                &count),
            MPT_OK);
  EXPECT_EQ(mpt_step(package), MPT_OK);
  EXPECT_EQ(mpt_step(package), MPT_ERROR_STOPPED);
  EXPECT_EQ(mpt_step(package), MPT_ERROR_STATE);
  EXPECT_EQ(mpt_step_number(package), 1);
}

TEST_F(CApi, profilesLaunches) {
  setAll();
  ASSERT_EQ(mpt_profile_launches(package, 1), MPT_OK);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  ASSERT_EQ(mpt_launch_count(package), 3);
  mpt_launch_info info;
  ASSERT_EQ(mpt_get_launch_info(package, 1, &info), MPT_OK);
  EXPECT_STREQ(info.op, "kernel");
  EXPECT_STREQ(info.symbol, "add_scalar");
  EXPECT_EQ(info.calls, 1);
  EXPECT_GT(info.seconds, 0);
  EXPECT_EQ(mpt_get_launch_info(package, 3, &info), MPT_ERROR_ARGUMENT);
}

TEST_F(CApi, gradientKeepsStepNumberAndRngStep) {
  setAll();
  const float *gradient = nullptr;
  EXPECT_EQ(mpt_gradient(package, "w", &gradient), MPT_ERROR_STATE);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  ASSERT_EQ(mpt_run_gradient(package, 3), MPT_OK) << mpt_last_error();
  EXPECT_EQ(loss(), 7.5f);
  ASSERT_EQ(mpt_gradient(package, "w", &gradient), MPT_OK);
  EXPECT_EQ(gradient[3], 4);
  EXPECT_EQ(mpt_step_number(package), 1);
  const void *step = nullptr;
  ASSERT_EQ(mpt_argument_read(package, "rng.step", &step), MPT_OK);
  EXPECT_EQ(*static_cast<const int64_t *>(step), 0);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  EXPECT_EQ(loss(), 1.5f);
  EXPECT_EQ(mpt_gradient(package, "w", &gradient), MPT_ERROR_STATE);
}

TEST_F(CApi, describesGradients) {
  ASSERT_EQ(mpt_gradient_count(package), 1);
  mpt_tensor_info info;
  ASSERT_EQ(mpt_gradient_info(package, 0, &info), MPT_OK);
  EXPECT_STREQ(info.name, "w");
  EXPECT_EQ(info.kind, MPT_RESULT);
  EXPECT_EQ(info.shape[0], 3);
  EXPECT_EQ(mpt_gradient_info(package, 1, &info), MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_gradient_info(package, 0, nullptr), MPT_ERROR_ARGUMENT);
  setAll();
  ASSERT_EQ(mpt_run_gradient(package, 0), MPT_OK);
  const float *gradient = nullptr;
  EXPECT_EQ(mpt_gradient(package, "x", &gradient), MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_gradient(package, nullptr, &gradient), MPT_ERROR_ARGUMENT);
  EXPECT_EQ(mpt_run_gradient(package, -1), MPT_ERROR_ARGUMENT);
}

TEST_F(CApi, runnerReplacesProducts) {
  setAll();
  Package &inside = packageOf(package);
  std::vector<size_t> indices;
  // A product of another left operand: twice the first.
  inside.setProductRunner([&](const BoundLaunch &launch, size_t index) {
    indices.push_back(index);
    EXPECT_EQ(&launch, &inside.launches()[index]);
    Product product = launch.product;
    std::vector<float> doubled(product.lhs.data, product.lhs.data + 6);
    for (float &value : doubled)
      value *= 2;
    product.lhs.data = doubled.data();
    inside.runProduct(product);
  });
  ASSERT_EQ(mpt_run_gradient(package, 4), MPT_OK) << mpt_last_error();
  EXPECT_EQ(loss(), 22);
  ASSERT_EQ(mpt_step(package), MPT_OK);
  EXPECT_EQ(indices, (std::vector<size_t>{0, 0}));
}

TEST_F(CApi, failingRunnerCostsTheGradientOnly) {
  setAll();
  Package &inside = packageOf(package);
  inside.setProductRunner([&](const BoundLaunch &, size_t) {
    inside.setProductRunner(nullptr); // refused while launches run
  });
  EXPECT_EQ(mpt_run_gradient(package, 0), MPT_ERROR_STATE);
  const float *gradient = nullptr;
  EXPECT_EQ(mpt_gradient(package, "w", &gradient), MPT_ERROR_STATE);
  inside.setProductRunner(nullptr);
  EXPECT_EQ(mpt_run_gradient(package, 4), MPT_OK);
  EXPECT_EQ(loss(), 12);
  EXPECT_EQ(mpt_step(package), MPT_OK);
}
