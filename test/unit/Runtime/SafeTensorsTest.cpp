//===- SafeTensorsTest.cpp - tests of the safetensors container -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Round trip, what a reader must refuse, and random damage.
//
//===----------------------------------------------------------------------===//

#include "SafeTensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

using namespace mpt::rt;

namespace {

class SafeTensors : public ::testing::Test {
protected:
  void SetUp() override {
    std::string name =
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    path = ::testing::TempDir() + "mpt-safetensors-" +
           std::to_string(::getpid()) + name;
  }
  void TearDown() override { std::filesystem::remove(path); }

  void write(const std::string &bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  /// A file with this header, padded with `data` zero bytes.
  void writeHeader(const std::string &header, size_t data) {
    std::string bytes(8, '\0');
    uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    write(bytes + header + std::string(data, '\0'));
  }
  std::string message() {
    try {
      SafeTensorsFile file(path);
    } catch (const Failure &failure) {
      return failure.what();
    }
    return "accepted";
  }
  void refuses(const std::string &header, size_t data,
               const std::string &wanted) {
    writeHeader(header, data);
    std::string found = message();
    EXPECT_NE(found.find(wanted), std::string::npos) << found;
  }

  std::string path;
};

} // namespace

TEST_F(SafeTensors, roundTrip) {
  float f[6] = {1, 2, 3, 4, 5, 6};
  int64_t i = -7;
  writeSafeTensors(path,
                   {{"a/b \"quoted\"", MPT_F32, {2, 3}, f, sizeof f},
                    {"scalar", MPT_I64, {}, &i, sizeof i},
                    {"empty", MPT_BF16, {0, 4}, nullptr, 0}},
                   {{"key", "value"}});
  SafeTensorsFile file(path);
  EXPECT_EQ(file.metadata("key"), "value");
  EXPECT_EQ(file.metadata("other"), std::nullopt);
  const StoredTensor &a = file.require("a/b \"quoted\"", MPT_F32, {2, 3});
  EXPECT_EQ(std::memcmp(a.data, f, sizeof f), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data) % 8, 0u);
  EXPECT_EQ(std::memcmp(file.require("scalar", MPT_I64, {}).data, &i, 8), 0);
  EXPECT_EQ(file.require("empty", MPT_BF16, {0, 4}).bytes, 0);
  EXPECT_THROW(file.require("scalar", MPT_I32, {}), Failure);
  EXPECT_THROW(file.require("scalar", MPT_I64, {1}), Failure);
  EXPECT_THROW(file.require("none", MPT_I64, {}), Failure);
}

TEST_F(SafeTensors, refusesBadHeaders) {
  const char *a = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  writeHeader(a, 8);
  EXPECT_EQ(message(), "accepted");
  refuses(a, 7, "offsets within the 7 bytes");
  refuses(a, 9, "has 9 bytes after the header, its tensors have 8");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12,
          "belongs to no tensor");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
          R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          8, "belongs to two");
  refuses(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
          "12 bytes for 3 F32");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8,
          "offsets within");
  refuses(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8,
          "a safetensors dtype");
  refuses(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],)"
          R"("data_offsets":[0,0]}})",
          0, "fit 64 bits");
  refuses(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8,
          "at least 0");
  refuses(R"({"a":{"dtype":"F32","shape":[2]}})", 8,
          "'data_offsets' is missing");
  refuses(R"({"a":3})", 0, "expected an object");
  refuses(R"([])", 0, "expected an object");
  refuses(R"({"__metadata__":{"k":1}})", 0, "expected a string");
  refuses(R"({"a":)", 0, "not valid JSON");
  refuses(std::string(200000, '['), 0, "not valid JSON");
}

TEST_F(SafeTensors, refusesBadLengths) {
  write("");
  EXPECT_NE(message().find("0 bytes"), std::string::npos);
  write(std::string(8, '\xff') + "{}");
  EXPECT_NE(message().find("announces a header of"), std::string::npos);
}

TEST_F(SafeTensors, randomDamageIsRefusedOrHarmless) {
  float f[6] = {};
  writeSafeTensors(path,
                   {{"a", MPT_F32, {1, 3}, f, 12}, {"b", MPT_F32, {3}, f, 12}},
                   {{"k", "v"}});
  std::ifstream in(path, std::ios::binary);
  std::string whole((std::istreambuf_iterator<char>(in)), {});
  std::mt19937 random(3);
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = whole;
    for (unsigned i = 0; i < 1 + random() % 3; ++i)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    if (random() % 4 == 0)
      damaged.resize(random() % damaged.size());
    write(damaged);
    message();
  }
}

TEST_F(SafeTensors, aFailedWriteLeavesNothing) {
  std::filesystem::create_directory(path);
  EXPECT_THROW(writeSafeTensors(path, {}, {}), Failure);
  for (const auto &entry :
       std::filesystem::directory_iterator(::testing::TempDir()))
    EXPECT_EQ(entry.path().string().find(path + ".tmp"), std::string::npos);
}
