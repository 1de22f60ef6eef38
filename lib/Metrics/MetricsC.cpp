//===- MetricsC.cpp - the C API of the profiler ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Ties a profiler to a package through the package's own C API. What goes wrong
// inside the observer cannot cross the step as an exception: it waits in
// `failure` for the caller to ask.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/MetricsC.h"

#include "Boundary.h"
#include "ThreadPool.h"
#include "mpt/Metrics/Profiler.h"

#include <cstdlib>
#include <cstring>

using namespace mpt;
using mpt::rt::fail;
using mpt::rt::guarded;
using mpt::rt::require;

/// Of a sample; far more than is of use.
static constexpr int64_t kMostRows = 1 << 20, kMostThreads = 1024;

struct mpt_profiler {
  mpt_profiler(mpt_package *package, metrics::ProfilerOptions options,
               const char *graphHash, const char *engine)
      : package(package), profiler(std::move(options), graphHash, engine) {}
  mpt_package *package;
  metrics::Profiler profiler;
  std::string failure;
};

static metrics::ProfilerOptions optionsOf(const mpt_profiler_options *given) {
  require(given, "options");
  auto check = [](int64_t value, const char *what, int64_t most) {
    if (value < 0 || value > most)
      fail(MPT_ERROR_ARGUMENT, "profile: ", what, " is ", value,
           ", expected 0 to ", most);
  };
  check(given->rows, "rows", kMostRows);
  check(given->columns, "columns", kMostRows);
  check(given->threads, "threads", kMostThreads);
  if (given->seed > uint64_t(INT64_MAX))
    fail(MPT_ERROR_ARGUMENT, "profile: seed is ", given->seed,
         ", expected below 2^63");
  metrics::ProfilerOptions options;
  options.sampling = {given->rows, given->columns, given->seed};
  options.threads = given->threads ? given->threads : rt::availableCpus();
  options.stopOnNonfinite = given->stop_on_nonfinite != 0;
  if (given->candidates)
    options.candidates = metrics::parseCandidates(given->candidates,
                                                  metrics::GradientSide::None);
  return options;
}

/// Whether the package's launch list has a product.
static bool hasProducts(const mpt_package *package) {
  for (int i = 0, n = mpt_launch_count(package); i < n; ++i) {
    mpt_launch_info info;
    if (mpt_get_launch_info(package, i, &info) == MPT_OK &&
        std::strcmp(info.op, "product") == 0)
      return true;
  }
  return false;
}

static int observe(const mpt_product_view *product, void *user) {
  auto *self = static_cast<mpt_profiler *>(user);
  try {
    self->profiler.observe(*product);
    return 0;
  } catch (const std::exception &error) {
    self->failure = error.what();
  } catch (...) {
    self->failure = "unknown failure";
  }
  return 1;
}

/// The message is already set where a package's function has failed.
static void pass(mpt_status status) {
  if (status != MPT_OK)
    throw rt::Failure(status, mpt_last_error());
}

mpt_status mpt_profiler_create(mpt_package *package,
                               const mpt_profiler_options *options,
                               mpt_profiler **out) {
  return guarded([&] {
    require(package, "package");
    require(out, "out");
    *out = nullptr;
    metrics::ProfilerOptions parsed = optionsOf(options);
    if (!hasProducts(package))
      fail(MPT_ERROR_ARGUMENT, "profile: the package has no products");
    *out =
        new mpt_profiler(package, std::move(parsed),
                         mpt_package_graph_hash(package), mpt_engine(package));
  });
}

void mpt_profiler_destroy(mpt_profiler *profiler) { delete profiler; }

mpt_status mpt_profiler_begin_point(mpt_profiler *profiler, int64_t step) {
  return guarded([&] {
    require(profiler, "profiler");
    profiler->profiler.beginPoint(step);
    pass(mpt_set_observer(profiler->package, observe, profiler));
  });
}

mpt_status mpt_profiler_end_batch(mpt_profiler *profiler) {
  return guarded([&] {
    require(profiler, "profiler");
    profiler->profiler.endBatch();
  });
}

mpt_status mpt_profiler_discard_batch(mpt_profiler *profiler) {
  return guarded([&] {
    require(profiler, "profiler");
    profiler->profiler.discardBatch();
  });
}

mpt_status mpt_profiler_end_point(mpt_profiler *profiler) {
  return guarded([&] {
    require(profiler, "profiler");
    pass(mpt_set_observer(profiler->package, nullptr, nullptr));
  });
}

const char *mpt_profiler_failure(const mpt_profiler *profiler) {
  return profiler ? profiler->failure.c_str() : "";
}

mpt_status mpt_profiler_write(const mpt_profiler *profiler, const char *path,
                              int complete) {
  return guarded([&] {
    require(profiler, "profiler");
    require(path, "path");
    profiler->profiler.write(path, complete != 0);
  });
}

mpt_status mpt_metrics_product(const mpt_product_view *product,
                               const mpt_profiler_options *options,
                               char **json) {
  return guarded([&] {
    require(product, "product");
    require(json, "json");
    *json = nullptr;
    metrics::Profiler profiler(optionsOf(options), "", "");
    profiler.beginPoint(0);
    profiler.observe(*product);
    profiler.endBatch();
    std::string text = profiler.productText();
    auto *copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (!copy)
      throw std::bad_alloc();
    *json =
        static_cast<char *>(std::memcpy(copy, text.c_str(), text.size() + 1));
  });
}

void mpt_metrics_free(char *json) { std::free(json); }
