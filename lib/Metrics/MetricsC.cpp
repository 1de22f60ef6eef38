//===- MetricsC.cpp - the C API of the profiler ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The boundary of the profiler: checks what comes from outside, and turns
// exceptions into status.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/MetricsC.h"

#include "Boundary.h"
#include "Profiler.h"
#include "ThreadPool.h"

using namespace mpt;
using mpt::rt::fail;
using mpt::rt::guarded;
using mpt::rt::require;

/// Far more than is of use.
static constexpr int64_t kMostRows = 1 << 20, kMostThreads = 1024;
static constexpr int64_t kMostBatches = 1 << 20, kMostSketch = 1 << 26;

struct mpt_profiler {
  mpt_profiler(rt::Package &package, metrics::ProfilerOptions options)
      : profiler(package, std::move(options)) {}
  metrics::Profiler profiler;
};

static metrics::ProfilerOptions optionsOf(const mpt_profiler_options *given) {
  require(given, "options");
  auto check = [](int64_t value, const char *what, int64_t least,
                  int64_t most) {
    if (value < least || value > most)
      fail(MPT_ERROR_ARGUMENT, "profile: ", what, " is ", value, ", expected ",
           least, " to ", most);
  };
  check(given->rows, "rows", 0, kMostRows);
  check(given->columns, "columns", 0, kMostRows);
  check(given->threads, "threads", 0, kMostThreads);
  check(given->batches, "batches", 1, kMostBatches);
  check(given->sketch, "sketch", 0, kMostSketch);
  if (given->seed > uint64_t(INT64_MAX))
    fail(MPT_ERROR_ARGUMENT, "profile: seed is ", given->seed,
         ", expected below 2^63");
  metrics::ProfilerOptions options;
  options.sampling = {given->rows, given->columns, given->seed};
  options.threads = given->threads ? given->threads : rt::availableCpus();
  options.stopOnNonfinite = given->stop_on_nonfinite != 0;
  options.batches = static_cast<size_t>(given->batches);
  options.sketch = static_cast<size_t>(given->sketch);
  options.candidates = given->candidates ? given->candidates : "";
  options.probes = given->probes ? given->probes : "";
  if (given->candidates && options.candidates.empty())
    fail(MPT_ERROR_ARGUMENT, "profile: the list of candidates is empty");
  return options;
}

mpt_status mpt_profiler_create(mpt_package *package,
                               const mpt_profiler_options *options,
                               mpt_profiler **out) {
  return guarded([&] {
    require(package, "package");
    require(out, "out");
    *out = nullptr;
    *out = new mpt_profiler(rt::packageOf(package), optionsOf(options));
  });
}

void mpt_profiler_destroy(mpt_profiler *profiler) { delete profiler; }

/// Runs `body` on the profiler, which must be one.
template <typename Body>
static mpt_status with(mpt_profiler *profiler, const Body &body) {
  return guarded([&] {
    require(profiler, "profiler");
    body(profiler->profiler);
  });
}

mpt_status mpt_profiler_begin_point(mpt_profiler *profiler, int64_t step) {
  return with(profiler, [&](metrics::Profiler &p) { p.beginPoint(step); });
}

mpt_status mpt_profiler_measure(mpt_profiler *profiler, int64_t rng_step) {
  return with(profiler, [&](metrics::Profiler &p) { p.measure(rng_step); });
}

int64_t mpt_profiler_probe_count(const mpt_profiler *profiler) {
  return profiler ? static_cast<int64_t>(profiler->profiler.probeCount()) : 0;
}

mpt_status mpt_profiler_probe(mpt_profiler *profiler, int64_t index,
                              int64_t rng_step) {
  return with(profiler, [&](metrics::Profiler &p) {
    p.probe(static_cast<size_t>(index), rng_step);
  });
}

mpt_status mpt_profiler_end_batch(mpt_profiler *profiler) {
  return with(profiler, [](metrics::Profiler &p) { p.endBatch(); });
}

mpt_status mpt_profiler_discard_batch(mpt_profiler *profiler) {
  return with(profiler, [](metrics::Profiler &p) { p.discardBatch(); });
}

mpt_status mpt_profiler_end_point(mpt_profiler *profiler) {
  return with(profiler, [](metrics::Profiler &p) { p.endPoint(); });
}

mpt_status mpt_profiler_write(const mpt_profiler *profiler, const char *path,
                              int complete) {
  return guarded([&] {
    require(profiler, "profiler");
    require(path, "path");
    if (!profiler->profiler.isReady())
      fail(MPT_ERROR_STATE, "profile: no batch has been measured, or a point "
                            "is open");
    metrics::writeMetricsFile(path, profiler->profiler.text(complete != 0));
  });
}
