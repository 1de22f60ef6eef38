//===- Package.cpp - opening a package and binding its arguments ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Opening checks in this order: manifest, CPU, hash of the kernels, symbols; so
// that no code of the package runs before its description was found sound.
//
//===----------------------------------------------------------------------===//

#include "Package.h"
#include "CpuFeatures.h"
#include "MappedFile.h"
#include "SafeTensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <unistd.h>

namespace mpt::rt {

namespace {

struct OpenLibrary {
  std::string hash;
  int count = 0;
};
std::mutex openLibrariesMutex;
std::map<std::string, OpenLibrary> &openLibraries() {
  static std::map<std::string, OpenLibrary> map;
  return map;
}

std::string absolute(const std::string &path) {
  char *resolved = ::realpath(path.c_str(), nullptr);
  if (!resolved)
    fail(MPT_ERROR_IO, "cannot open '", path, "': ", std::strerror(errno));
  std::string result = resolved;
  std::free(resolved);
  return result;
}

} // namespace

KernelLibrary::KernelLibrary(const std::string &name,
                             const std::string &kernelsHash,
                             const std::string &graphHash)
    : path(absolute(name)) {
  {
    MappedFile file(path);
    std::string found = fnv1a64(file.data(), file.size());
    if (found != kernelsHash)
      fail(MPT_ERROR_MISMATCH, "hash of '", name, "' is ", found,
           ", the manifest's kernels_hash is ", kernelsHash,
           " (truncated, or of another build)");
  }
  std::lock_guard<std::mutex> lock(openLibrariesMutex);
  auto known = openLibraries().find(path);
  if (known != openLibraries().end() && known->second.hash != kernelsHash)
    fail(MPT_ERROR_STATE, "'", name,
         "' was rebuilt while this process has an "
         "older build of it open; close that package first");
  handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    fail(MPT_ERROR_FORMAT, "cannot load '", name, "': ", ::dlerror());
  const auto *hash =
      static_cast<const char *>(::dlsym(handle, "mpt_graph_hash"));
  if (!hash || graphHash != hash) {
    std::string found = hash ? hash : "missing";
    ::dlclose(handle);
    fail(MPT_ERROR_MISMATCH, "mpt_graph_hash in '", name, "' is ", found,
         ", the manifest's graph_hash is ", graphHash);
  }
  OpenLibrary &entry = openLibraries()[path];
  entry.hash = kernelsHash;
  ++entry.count;
}

KernelLibrary::~KernelLibrary() {
  std::lock_guard<std::mutex> lock(openLibrariesMutex);
  ::dlclose(handle);
  if (--openLibraries()[path].count == 0)
    openLibraries().erase(path);
}

KernelFunction KernelLibrary::find(const std::string &symbol) const {
  void *address = ::dlsym(handle, symbol.c_str());
  if (!address)
    fail(MPT_ERROR_MISMATCH, "'", path, "' lacks kernel '", symbol,
         "', which the manifest launches");
  return reinterpret_cast<KernelFunction>(address);
}

static Manifest readManifest(const std::string &path) {
  MappedFile file(path);
  return parseManifest(file.data(), file.size(), path);
}

Package::Package(const std::string &directory, int threads)
    : description(readManifest(directory + "/manifest.json")),
      pool(threads > 0 ? std::min(threads, 1024) : availableCpus()) {
  requireCpu(description.arch, description.features);
  kernels = std::make_unique<KernelLibrary>(directory + "/kernels.so",
                                            description.kernelsHash,
                                            description.graphHash);
  gemm = description.engine == Engine::Blas ? blasGemm() : referenceGemm();
  allocate();
  for (size_t i = 0; i != description.arguments.size(); ++i)
    argumentByName[description.arguments[i].name] = i;
  for (size_t i = 0; i != description.results.size(); ++i)
    resultByName[description.results[i].name] = i;
  isSet.resize(description.arguments.size());
  for (size_t i = 0; i != description.arguments.size(); ++i)
    initialize(description.arguments[i], i);
  std::string initial = directory + "/init.safetensors";
  if (::access(initial.c_str(), F_OK) == 0)
    loadInitialValues(initial);
  bound.reserve(description.launches.size());
  for (const Launch &launch : description.launches)
    bound.push_back(bind(launch));
  for (const Launch &launch : description.init)
    boundInit.push_back(bind(launch));
}

void Package::allocate() {
  arena = Memory(static_cast<size_t>(description.arenaBytes), "arena");
  constexpr size_t alignment = 64;
  auto align = [](size_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  };
  size_t total = 0;
  for (const Buffer &buffer : description.buffers)
    if (buffer.kind != BufferKind::Arena)
      total += align(static_cast<size_t>(buffer.bytes));
  state = Memory(total, "arguments");
  size_t offset = 0;
  for (const Buffer &buffer : description.buffers) {
    if (buffer.kind == BufferKind::Arena) {
      addresses.push_back(arena.data() + buffer.offset);
      continue;
    }
    addresses.push_back(state.data() + offset);
    offset += align(static_cast<size_t>(buffer.bytes));
    if (!buffer.content.empty())
      std::memcpy(addresses.back(), buffer.content.data(),
                  buffer.content.size());
  }
}

void Package::initialize(const Tensor &tensor, size_t index) {
  // Memory starts as zeros.
  if (tensor.init == Init::Number && tensor.dtype == MPT_F32) {
    auto value = static_cast<float>(tensor.initNumber);
    std::fill_n(reinterpret_cast<float *>(data(tensor)), tensor.bytes / 4,
                value);
  } else if (tensor.init == Init::Number) {
    auto value = static_cast<int64_t>(tensor.initNumber);
    std::memcpy(data(tensor), &value, sizeof value);
  }
  isSet[index] = tensor.init == Init::Zero || tensor.init == Init::Number ||
                 tensor.init == Init::Launches || tensor.kind == MPT_RNG;
}

void Package::loadInitialValues(const std::string &path) {
  SafeTensorsFile file(path);
  std::vector<std::pair<size_t, const StoredTensor *>> found;
  for (size_t i = 0; i != description.arguments.size(); ++i) {
    const Tensor &tensor = description.arguments[i];
    if (tensor.init == Init::File)
      found.emplace_back(
          i, &file.require(tensor.name, tensor.dtype, tensor.shape));
  }
  for (auto [index, stored] : found) {
    if (stored->bytes != 0)
      std::memcpy(data(description.arguments[index]), stored->data,
                  static_cast<size_t>(stored->bytes));
    isSet[index] = true;
  }
}

BoundLaunch Package::bind(const Launch &launch) const {
  BoundLaunch b;
  b.launch = &launch;
  auto place = [&](const Place &p) { return addresses[p.buffer] + p.offset; };
  auto matrix = [&](auto &operand, const Matrix &m) {
    operand.data = reinterpret_cast<float *>(addresses[m.buffer]) + m.offset;
    operand.rows = m.rows;
    operand.columns = m.columns;
    std::copy_n(m.batch, 2, operand.batch);
  };
  switch (launch.op) {
  case LaunchOp::Kernel:
    b.kernel = kernels->find(launch.symbol);
    for (const Place &arg : launch.args)
      b.args.push_back(place(arg));
    break;
  case LaunchOp::Product:
    b.product.m = launch.m;
    b.product.n = launch.n;
    b.product.k = launch.k;
    std::copy_n(launch.batch, 2, b.product.batch);
    matrix(b.product.lhs, launch.lhs);
    matrix(b.product.rhs, launch.rhs);
    matrix(b.product.result, launch.product);
    break;
  case LaunchOp::ScatterAdd:
    b.init = place(launch.init);
    b.ids = place(launch.ids);
    b.updates = place(launch.updates);
    b.result = place(launch.result);
    break;
  case LaunchOp::Copy:
    b.source = place(launch.source);
    b.result = place(launch.result);
    break;
  case LaunchOp::Fill:
    b.result = place(launch.result);
    break;
  }
  return b;
}

void Package::noteChange(size_t index) {
  mpt_kind kind = argument(index).kind;
  if (kind == MPT_PARAMETER || kind == MPT_SCALE_STATE)
    stale = true;
}

/// A derived argument would be computed again, over what was written.
static void refuseDerived(const Tensor &tensor, const char *what) {
  if (tensor.init == Init::Launches)
    fail(MPT_ERROR_ARGUMENT, "cannot ", what, " derived '", tensor.name,
         "': it is computed from parameters and scale state");
}

void *Package::expose(size_t index) {
  const Tensor &tensor = argument(index);
  refuseDerived(tensor, "write");
  if (tensor.kind == MPT_PARAMETER || tensor.kind == MPT_SCALE_STATE)
    exposed = true;
  isSet[index] = true;
  return data(tensor);
}

void Package::requireCurrent(const Tensor &tensor) const {
  if (tensor.init == Init::Launches && (stale || exposed))
    fail(
        MPT_ERROR_STATE, "derived '", tensor.name,
        "' may not fit the state, which was set or can be written in place: it "
        "is computed when the next step begins");
}

size_t Package::argumentIndex(const std::string &name) const {
  auto it = argumentByName.find(name);
  if (it != argumentByName.end())
    return it->second;
  // Parameters are too many to list; what a batch consists of is what is asked.
  std::string known;
  for (const Tensor &tensor : description.arguments)
    if (!isState(tensor.kind))
      known += (known.empty() ? "" : ", ") + tensor.name;
  fail(MPT_ERROR_ARGUMENT, "the package has no argument '", name,
       "'; besides its state it has: ", known);
}

const Tensor &Package::argument(size_t index) const {
  return description.arguments[index];
}

const Tensor &Package::result(const std::string &name) const {
  auto it = resultByName.find(name);
  if (it != resultByName.end())
    return description.results[it->second];
  std::string known;
  for (const Tensor &tensor : description.results)
    known += (known.empty() ? "" : ", ") + tensor.name;
  fail(MPT_ERROR_ARGUMENT, "the package has no result '", name,
       "'; it has: ", known);
}

void Package::refuseDuringStep(const char *what) const {
  if (stepping)
    fail(MPT_ERROR_STATE, "cannot ", what, " while a step runs");
}

/// Index of an element in words: "[3, 17]".
static std::string position(int64_t index, const Shape &shape) {
  std::string text;
  for (size_t axis = shape.size(); axis-- != 0; index /= shape[axis])
    text =
        std::to_string(index % shape[axis]) + (text.empty() ? "" : ", ") + text;
  return shape.empty() ? "" : "[" + text + "]";
}

template <typename T>
static void checkRange(const Tensor &tensor, const void *data) {
  const auto *values = static_cast<const T *>(data);
  auto [low, high] = *tensor.range;
  for (int64_t i = 0, e = tensor.bytes / int64_t(sizeof(T)); i != e; ++i) {
    int64_t value = values[i];
    if ((value >= low && value < high) || tensor.ignoreIndex == value)
      continue;
    std::string but =
        tensor.ignoreIndex
            ? " or ignore_index " + std::to_string(*tensor.ignoreIndex)
            : "";
    fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", tensor.name,
         "' has the value ", value, " at ", position(i, tensor.shape),
         ", expected at least ", low, " and below ", high, but);
  }
}

void Package::checkValues(const Tensor &tensor, const void *data) const {
  if (tensor.range && tensor.dtype == MPT_I64)
    checkRange<int64_t>(tensor, data);
  else if (tensor.range)
    checkRange<int32_t>(tensor, data);
  bool fromCaller = tensor.kind == MPT_INPUT || tensor.kind == MPT_LABEL ||
                    tensor.kind == MPT_HYPER;
  if (tensor.dtype == MPT_F32 && fromCaller) {
    const auto *values = static_cast<const float *>(data);
    for (int64_t i = 0, e = tensor.bytes / 4; i != e; ++i)
      if (!std::isfinite(values[i]))
        fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", tensor.name,
             "' has the value ", values[i], " at ", position(i, tensor.shape),
             ", expected finite values");
  }
  if (tensor.dtype == MPT_I1 && fromCaller) {
    const auto *values = static_cast<const unsigned char *>(data);
    for (int64_t i = 0; i != tensor.bytes; ++i)
      if (values[i] > 1)
        fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", tensor.name,
             "' has the byte ", int(values[i]), " at ",
             position(i, tensor.shape), ", expected 0 or 1");
  }
}

void Package::setArgument(const std::string &name, const void *source,
                          int dtype, const Shape &shape) {
  refuseDuringStep("set an argument");
  size_t index = argumentIndex(name);
  const Tensor &tensor = argument(index);
  if (!isValidDType(dtype))
    fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", name,
         "': unknown dtype ", dtype, ", expected ",
         dtypeInfo(tensor.dtype).name);
  if (dtype != tensor.dtype || shape != tensor.shape)
    fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", name, "' is ",
         toString(shape), " ", dtypeInfo(static_cast<mpt_dtype>(dtype)).name,
         ", expected ", toString(tensor.shape), " ",
         dtypeInfo(tensor.dtype).name);
  if (!source && tensor.bytes != 0)
    fail(MPT_ERROR_ARGUMENT, kindName(tensor.kind), " '", name,
         "': no data was given");
  refuseDerived(tensor, "set");
  checkValues(tensor, source);
  if (tensor.bytes != 0)
    std::memmove(data(tensor), source, static_cast<size_t>(tensor.bytes));
  isSet[index] = true;
  noteChange(index);
}

void Package::setObserver(mpt_observer function, void *user) {
  refuseDuringStep("change the observer");
  observer = function;
  observerUser = user;
}

void Package::profile(bool enable) {
  profiling = enable;
  if (!enable)
    return;
  for (BoundLaunch &launch : bound) {
    launch.seconds = 0;
    launch.calls = 0;
  }
}

} // namespace mpt::rt
