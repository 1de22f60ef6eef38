//===- Step.cpp - running the launch list ---------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One step: check everything that came from outside, then walk the launches.
// Each launch is spread over the threads and ends before the next begins.
//
//===----------------------------------------------------------------------===//

#include "Package.h"

#include <atomic>
#include <chrono>
#include <cstring>

namespace mpt::rt {

/// Bytes below which copying on one thread is faster than waking another.
static constexpr int64_t kCopyGrain = 1 << 16;

void Package::checkReady(const GradientPlan *plan) const {
  if (stepping)
    fail(MPT_ERROR_STATE, "a step is already running in this package");
  if (damaged)
    fail(MPT_ERROR_STATE, "an earlier step failed halfway and left the state "
                          "undefined; load a checkpoint first");
  constexpr int most = 5;
  std::string missing;
  int count = 0;
  auto needed = [&](const Tensor &tensor) {
    return !plan || tensor.kind != MPT_HYPER || plan->reads[tensor.buffer];
  };
  for (size_t i = 0; i != description.arguments.size(); ++i) {
    const Tensor &tensor = description.arguments[i];
    if (!isSet[i] && needed(tensor) && ++count <= most)
      missing += (count == 1 ? "" : ", ") + std::string(kindName(tensor.kind)) +
                 " '" + tensor.name + "'";
  }
  if (count > most)
    missing += " and " + std::to_string(count - most) + " more";
  if (count != 0)
    fail(MPT_ERROR_STATE, "not set before the step: ", missing);
  for (const Tensor &tensor : description.arguments)
    if (!isState(tensor.kind) && needed(tensor))
      checkValues(tensor, data(tensor));
}

std::optional<int64_t> Package::rngStep() const {
  auto it = argumentByName.find("rng.step");
  if (it == argumentByName.end() ||
      description.arguments[it->second].kind != MPT_RNG)
    return std::nullopt;
  int64_t step = 0;
  std::memcpy(&step, data(description.arguments[it->second]), sizeof step);
  return step;
}

void Package::setRngStep(int64_t step) {
  if (rngStep())
    std::memcpy(data(argument(argumentIndex("rng.step"))), &step, sizeof step);
}

void Package::step() {
  checkReady();
  setRngStep(steps);
  struct Guard {
    Package &package;
    bool finished = false;
    explicit Guard(Package &p) : package(p) {
      p.stepping = true;
      p.hasGradients = false;
    }
    ~Guard() {
      package.stepping = false;
      package.damaged = !finished;
    }
  } guard(*this);
  derive();
  for (size_t i = 0; i != bound.size(); ++i)
    runLaunch(i);
  guard.finished = true;
  ++steps;
}

/// A pointer that the caller holds could be written through at any time.
void Package::derive() {
  if (!stale && !exposed)
    return;
  for (const BoundLaunch &launch : boundInit)
    run(launch);
  stale = false;
}

void Package::runLaunch(size_t index) {
  using Clock = std::chrono::steady_clock;
  BoundLaunch &launch = bound[index];
  if (profiling) {
    Clock::time_point begin = Clock::now();
    run(launch);
    launch.seconds +=
        std::chrono::duration<double>(Clock::now() - begin).count();
    ++launch.calls;
  } else {
    run(launch);
  }
  if (observer && launch.launch->op == LaunchOp::Product)
    observe(launch, static_cast<int64_t>(index));
}

void Package::run(const BoundLaunch &b) {
  const Launch &launch = *b.launch;
  switch (launch.op) {
  case LaunchOp::Kernel:
    pool.forEach(launch.tasks, 1, 4, [&](int64_t begin, int64_t end) {
      b.kernel(b.args.data(), begin, end);
    });
    break;
  case LaunchOp::Product:
    if (productRunner)
      productRunner(b, static_cast<size_t>(&b - bound.data()));
    else
      runProduct(b.product);
    break;
  case LaunchOp::ScatterAdd:
    scatterAdd(b);
    break;
  case LaunchOp::Copy:
    if (b.result != b.source)
      pool.forEach(launch.bytes, kCopyGrain, 1,
                   [&](int64_t begin, int64_t end) {
                     std::memmove(b.result + begin, b.source + begin,
                                  static_cast<size_t>(end - begin));
                   });
    break;
  case LaunchOp::Fill:
    pool.forEach(launch.bytes, kCopyGrain, 1, [&](int64_t begin, int64_t end) {
      std::memset(b.result + begin, 0, static_cast<size_t>(end - begin));
    });
    break;
  }
}

static int64_t idAt(const BoundLaunch &b, int64_t row) {
  if (b.launch->idType == MPT_I64)
    return reinterpret_cast<const int64_t *>(b.ids)[row];
  return reinterpret_cast<const int32_t *>(b.ids)[row];
}

void Package::scatterAdd(const BoundLaunch &b) {
  const Launch &launch = *b.launch;
  for (int64_t r = 0; r != launch.rows; ++r)
    if (int64_t id = idAt(b, r); id < 0 || id >= launch.table)
      fail(MPT_ERROR_ARGUMENT, "scatter_add '", launch.name, "': id ", id,
           " at row ", r, ", expected at least 0 and below ", launch.table);
  int64_t columns = launch.columns;
  if (b.result != b.init)
    pool.forEach(launch.table * columns * 4, kCopyGrain, 1,
                 [&](int64_t begin, int64_t end) {
                   std::memcpy(b.result + begin, b.init + begin,
                               static_cast<size_t>(end - begin));
                 });
  auto *table = reinterpret_cast<float *>(b.result);
  const auto *updates = reinterpret_cast<const float *>(b.updates);
  pool.forEach(columns, 16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r != launch.rows; ++r) {
      float *__restrict to = table + idAt(b, r) * columns;
      const float *__restrict from = updates + r * columns;
      for (int64_t c = begin; c != end; ++c)
        to[c] += from[c];
    }
  });
}

void Package::observe(const BoundLaunch &b, int64_t index) {
  const Product &p = b.product;
  auto view = [](const auto &o) {
    return mpt_matrix_view{o.data, o.rows, o.columns, {o.batch[0], o.batch[1]}};
  };
  mpt_product_view product = {b.launch->name.c_str(),
                              b.launch->role.c_str(),
                              index,
                              p.m,
                              p.n,
                              p.k,
                              {p.batch[0], p.batch[1]},
                              view(p.lhs),
                              view(p.rhs),
                              view(p.result)};
  if (observer(&product, observerUser) != 0)
    fail(MPT_ERROR_STOPPED, "the observer stopped the step at product '",
         b.launch->name, "'");
}

} // namespace mpt::rt
