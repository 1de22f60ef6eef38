//===- CApi.cpp - the C API over Package ----------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The boundary: no exception leaves here. Each becomes a status and this
// thread's message.
//
//===----------------------------------------------------------------------===//

#include "Boundary.h"
#include "Package.h"

#include <algorithm>

using namespace mpt::rt;

struct mpt_package {
  mpt_package(const std::string &directory, int threads)
      : package(directory, threads) {}
  Package package;
};

static thread_local std::string lastError;

mpt_status mpt::rt::report(mpt_status status, const char *message) noexcept {
  try {
    lastError = message;
  } catch (...) {
    lastError.clear();
  }
  return status;
}

Package &mpt::rt::packageOf(mpt_package *package) { return package->package; }

static mpt_status describe(const std::vector<Tensor> &tensors, int index,
                           const char *what, mpt_tensor_info *out) {
  return guarded([&] {
    require(out, "out");
    if (index < 0 || index >= static_cast<int>(tensors.size()))
      fail(MPT_ERROR_ARGUMENT, what, " index is ", index,
           ", expected at least 0 and below ", tensors.size());
    const Tensor &tensor = tensors[index];
    *out = {};
    out->name = tensor.name.c_str();
    out->kind = tensor.kind;
    out->dtype = tensor.dtype;
    out->rank = static_cast<int32_t>(tensor.shape.size());
    std::copy(tensor.shape.begin(), tensor.shape.end(), out->shape);
    if (tensor.range) {
      out->has_range = 1;
      out->range_low = tensor.range->first;
      out->range_high = tensor.range->second;
    }
    if (tensor.ignoreIndex) {
      out->has_ignore_index = 1;
      out->ignore_index = *tensor.ignoreIndex;
    }
    out->bytes = static_cast<size_t>(tensor.bytes);
  });
}

const char *mpt_last_error(void) { return lastError.c_str(); }

mpt_status mpt_package_open(const char *directory, int threads,
                            mpt_package **out) {
  return guarded([&] {
    require(directory, "directory");
    require(out, "out");
    *out = nullptr;
    *out = new mpt_package(directory, threads);
  });
}

void mpt_close(mpt_package *package) { delete package; }

const char *mpt_package_graph_hash(const mpt_package *package) {
  return package->package.manifest().graphHash.c_str();
}
const char *mpt_engine(const mpt_package *package) {
  return engineName(package->package.manifest().engine);
}
int mpt_thread_count(const mpt_package *package) {
  return package->package.threads();
}
size_t mpt_arena_bytes(const mpt_package *package) {
  return package->package.arenaBytes();
}
size_t mpt_state_bytes(const mpt_package *package) {
  return package->package.stateBytes();
}

int mpt_argument_count(const mpt_package *package) {
  return static_cast<int>(package->package.manifest().arguments.size());
}
int mpt_result_count(const mpt_package *package) {
  return static_cast<int>(package->package.manifest().results.size());
}
mpt_status mpt_argument_info(const mpt_package *package, int index,
                             mpt_tensor_info *out) {
  return describe(package->package.manifest().arguments, index, "argument",
                  out);
}
mpt_status mpt_result_info(const mpt_package *package, int index,
                           mpt_tensor_info *out) {
  return describe(package->package.manifest().results, index, "result", out);
}

mpt_status mpt_set_argument(mpt_package *package, const char *name,
                            const void *data, int dtype, int rank,
                            const int64_t *shape) {
  return guarded([&] {
    require(name, "name");
    if (rank < 0 || rank > MPT_MAX_RANK)
      fail(MPT_ERROR_ARGUMENT, "'", name, "': rank is ", rank,
           ", expected at most ", MPT_MAX_RANK);
    if (rank != 0)
      require(shape, "shape");
    package->package.setArgument(name, data, dtype,
                                 rank ? Shape(shape, shape + rank) : Shape());
  });
}

mpt_status mpt_argument_data(mpt_package *package, const char *name,
                             void **out) {
  return guarded([&] {
    require(name, "name");
    require(out, "out");
    Package &p = package->package;
    *out = p.expose(p.argumentIndex(name));
  });
}

mpt_status mpt_argument_read(const mpt_package *package, const char *name,
                             const void **out) {
  return guarded([&] {
    require(name, "name");
    require(out, "out");
    const Package &p = package->package;
    const Tensor &tensor = p.argument(p.argumentIndex(name));
    p.requireCurrent(tensor);
    *out = p.data(tensor);
  });
}

mpt_status mpt_step(mpt_package *package) {
  return guarded([&] { package->package.step(); });
}

mpt_status mpt_result(const mpt_package *package, const char *name,
                      const void **out) {
  return guarded([&] {
    require(name, "name");
    require(out, "out");
    const Package &p = package->package;
    const Tensor &result = p.result(name);
    p.requireComputed(result);
    *out = p.data(result);
  });
}

mpt_status mpt_run_gradient(mpt_package *package, int64_t rng_step) {
  return guarded([&] { package->package.runGradient(rng_step); });
}

int mpt_gradient_count(const mpt_package *package) {
  return static_cast<int>(package->package.manifest().gradients.size());
}

mpt_status mpt_gradient_info(const mpt_package *package, int index,
                             mpt_tensor_info *out) {
  const Manifest &manifest = package->package.manifest();
  mpt_status status = guarded([&] {
    if (index < 0 || index >= static_cast<int>(manifest.gradients.size()))
      fail(MPT_ERROR_ARGUMENT, "gradient index is ", index,
           ", expected at least 0 and below ", manifest.gradients.size());
  });
  if (status != MPT_OK)
    return status;
  status = describe(manifest.arguments,
                    static_cast<int>(manifest.gradients[index].parameter),
                    "argument", out);
  if (status == MPT_OK)
    out->kind = MPT_RESULT;
  return status;
}

mpt_status mpt_gradient(const mpt_package *package, const char *parameter,
                        const float **out) {
  return guarded([&] {
    require(parameter, "parameter");
    require(out, "out");
    const Package &p = package->package;
    const Manifest &manifest = p.manifest();
    for (size_t i = 0; i != manifest.gradients.size(); ++i)
      if (manifest.arguments[manifest.gradients[i].parameter].name ==
          parameter) {
        *out = p.gradient(i);
        return;
      }
    fail(MPT_ERROR_ARGUMENT, "the package has no gradient of '", parameter,
         "'; it has those of ", manifest.gradients.size(), " parameters");
  });
}

int64_t mpt_step_number(const mpt_package *package) {
  return package->package.stepNumber();
}

mpt_status mpt_save_checkpoint(const mpt_package *package, const char *path) {
  return guarded([&] {
    require(path, "path");
    package->package.saveCheckpoint(path);
  });
}
mpt_status mpt_load_checkpoint(mpt_package *package, const char *path) {
  return guarded([&] {
    require(path, "path");
    package->package.loadCheckpoint(path);
  });
}
mpt_status mpt_load_parameters(mpt_package *package, const char *path) {
  return guarded([&] {
    require(path, "path");
    package->package.loadParameters(path);
  });
}
mpt_status mpt_export_weights(const mpt_package *package, const char *path) {
  return guarded([&] {
    require(path, "path");
    package->package.exportWeights(path);
  });
}

mpt_status mpt_set_observer(mpt_package *package, mpt_observer observer,
                            void *user) {
  return guarded([&] { package->package.setObserver(observer, user); });
}

mpt_status mpt_profile_launches(mpt_package *package, int enable) {
  return guarded([&] { package->package.profile(enable != 0); });
}

int mpt_launch_count(const mpt_package *package) {
  return static_cast<int>(package->package.launches().size());
}

mpt_status mpt_get_launch_info(const mpt_package *package, int index,
                               mpt_launch_info *out) {
  return guarded([&] {
    require(out, "out");
    const std::vector<BoundLaunch> &launches = package->package.launches();
    if (index < 0 || index >= static_cast<int>(launches.size()))
      fail(MPT_ERROR_ARGUMENT, "launch index is ", index,
           ", expected at least 0 and below ", launches.size());
    const BoundLaunch &launch = launches[index];
    *out = {opName(launch.launch->op),
            launch.launch->name.c_str(),
            launch.launch->role.c_str(),
            launch.launch->symbol.c_str(),
            launch.seconds,
            launch.calls};
  });
}
