//===- ThreadPoolTest.cpp - tests of the thread pool ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Every element of a region is visited once, whatever the sizes; thousands of
// regions in a row, with pauses in which workers fall asleep.
//
//===----------------------------------------------------------------------===//

#include "ThreadPool.h"

#include <chrono>
#include <gtest/gtest.h>
#include <thread>

using namespace mpt::rt;

TEST(ThreadPool, coversEveryElementOnce) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int64_t count : {0, 1, 2, 3, 15, 16, 17, 100, 1000})
      for (int64_t grain : {1, 4, 16})
        for (int pieces : {1, 4}) {
          std::vector<std::atomic<int>> visits(count);
          std::atomic<int> calls{0};
          pool.forEach(count, grain, pieces, [&](int64_t begin, int64_t end) {
            ++calls;
            EXPECT_LT(begin, end);
            EXPECT_EQ(begin % grain, 0);
            for (int64_t i = begin; i < end; ++i)
              ++visits[i];
          });
          EXPECT_LE(calls, threads * pieces);
          for (auto &visit : visits)
            EXPECT_EQ(visit, 1);
        }
  }
}

TEST(ThreadPool, manyRegionsWithSleepsBetween) {
  ThreadPool pool(4);
  int64_t total = 0;
  for (int region = 0; region < 20000; ++region) {
    std::atomic<int64_t> sum{0};
    int64_t count = region % 13 + 1;
    pool.forEach(count, 1, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        sum += i;
    });
    EXPECT_EQ(sum, count * (count - 1) / 2);
    total += sum;
    if (region % 2000 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_GT(total, 0);
}

TEST(ThreadPool, startsAndStops) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(3);
    if (i % 2)
      pool.forEach(10, 1, 1, [](int64_t, int64_t) {});
  }
}
