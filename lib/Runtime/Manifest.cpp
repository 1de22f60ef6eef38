//===- Manifest.cpp - manifest.json as checked data -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Parses version 1 of the manifest (docs/package.md) and checks it whole: sizes
// against buffers, strides against sizes, names for uniqueness. Extents come
// from outside, so all arithmetic on them notices overflow.
//
//===----------------------------------------------------------------------===//

#include "Manifest.h"
#include "Dataflow.h"
#include "Json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace mpt::rt {

const char *opName(LaunchOp op) {
  switch (op) {
  case LaunchOp::Kernel:
    return "kernel";
  case LaunchOp::Product:
    return "product";
  case LaunchOp::ScatterAdd:
    return "scatter_add";
  case LaunchOp::Copy:
    return "copy";
  case LaunchOp::Fill:
    return "fill";
  }
  return "?";
}

const char *engineName(Engine engine) {
  return engine == Engine::Blas ? "blas" : "reference";
}

namespace {

constexpr int64_t kAlignment = 64;
/// Beyond this no product of checked sizes can overflow 64 bits in use.
constexpr int64_t kMaxBytes = int64_t(1) << 46;

class Parser {
public:
  explicit Parser(const JsonCursor &root) : root(root) {}
  Manifest parse();

private:
  void parseHeader();
  void parseBuffer(const JsonCursor &json);
  Tensor parseTensor(const JsonCursor &json);
  Tensor parseArgument(const JsonCursor &json);
  void parseInit(const JsonCursor &json, Tensor &tensor);
  void parseRange(const JsonCursor &json, Tensor &tensor);
  void checkRng(const JsonCursor &json, const Tensor &tensor);
  void checkArgumentBuffers();
  Launch parseLaunch(const JsonCursor &json);
  void parseInitLaunches();
  void checkInitLaunch(const JsonCursor &json, const Launch &launch,
                       std::set<int64_t> &derived);
  void parseProduct(const JsonCursor &json, Launch &launch);
  Matrix parseMatrix(const JsonCursor &json, const Launch &launch, int64_t rows,
                     int64_t columns, bool isResult);
  void parseScatterAdd(const JsonCursor &json, Launch &launch);
  void parseGradients();
  int64_t parseBufferIndex(const JsonCursor &json);
  Place parsePlace(const JsonCursor &json, int64_t bytes);
  int64_t multiply(const JsonCursor &json,
                   std::initializer_list<int64_t> factors);

  const JsonCursor &root;
  Manifest manifest;
};

Manifest Parser::parse() {
  parseHeader();
  JsonCursor buffers = root.at("buffers");
  for (size_t i = 0, e = buffers.size(); i != e; ++i)
    parseBuffer(buffers.at(i));

  std::set<std::string> names;
  auto unique = [&](const JsonCursor &json, const std::string &name) {
    if (name.empty() || name.find('\0') != std::string::npos)
      json.at("name").expected("a name");
    if (!names.insert(name).second)
      json.at("name").expected("a name that no other tensor has");
  };
  JsonCursor arguments = root.at("arguments");
  for (size_t i = 0, e = arguments.size(); i != e; ++i) {
    manifest.arguments.push_back(parseArgument(arguments.at(i)));
    unique(arguments.at(i), manifest.arguments.back().name);
  }
  checkArgumentBuffers();

  JsonCursor results = root.at("results");
  for (size_t i = 0, e = results.size(); i != e; ++i) {
    manifest.results.push_back(parseTensor(results.at(i)));
    unique(results.at(i), manifest.results.back().name);
  }
  JsonCursor launches = root.at("launches");
  for (size_t i = 0, e = launches.size(); i != e; ++i)
    manifest.launches.push_back(parseLaunch(launches.at(i)));
  parseInitLaunches();
  if (root.has("gradients"))
    parseGradients();
  return std::move(manifest);
}

void Parser::parseHeader() {
  auto mustBe = [&](const char *key, const std::string &wanted) {
    std::string found = root.at(key).string();
    if (found != wanted)
      fail(MPT_ERROR_MISMATCH, root.location(), ".", key, " is '", found,
           "', expected '", wanted, "'");
  };
  mustBe("format", "mpt-package");
  if (int64_t version = root.at("version").integer(); version != 1)
    fail(MPT_ERROR_MISMATCH, root.location(), ".version is ", version,
         ", this runtime reads version 1");
  mustBe("target", "cpu");
  manifest.function = root.at("function").string();

  JsonCursor engine = root.at("engine");
  if (engine.string() == "blas")
    manifest.engine = Engine::Blas;
  else if (engine.string() == "reference")
    manifest.engine = Engine::Reference;
  else
    engine.expected("'blas' or 'reference'");

  auto hash = [&](const char *key) {
    JsonCursor json = root.at(key);
    const std::string &text = json.string();
    if (text.size() != 16 ||
        text.find_first_not_of("0123456789abcdef") != std::string::npos)
      json.expected("16 lower-case hex digits");
    return text;
  };
  manifest.graphHash = hash("graph_hash");
  manifest.kernelsHash = hash("kernels_hash");

  JsonCursor cpu = root.at("cpu");
  manifest.arch = cpu.at("arch").string();
  JsonCursor features = cpu.at("features");
  for (size_t i = 0, e = features.size(); i != e; ++i)
    manifest.features.push_back(features.at(i).string());

  JsonCursor arena = root.at("arena_bytes");
  manifest.arenaBytes = arena.integer(0);
  if (manifest.arenaBytes > kMaxBytes)
    arena.expected("at most " + std::to_string(kMaxBytes) + " bytes");
}

void Parser::parseBuffer(const JsonCursor &json) {
  Buffer buffer;
  JsonCursor bytes = json.at("bytes");
  buffer.bytes = bytes.integer(0);
  if (buffer.bytes > kMaxBytes)
    bytes.expected("at most " + std::to_string(kMaxBytes));
  JsonCursor kind = json.at("kind");
  if (kind.string() == "argument") {
    buffer.kind = BufferKind::Argument;
  } else if (kind.string() == "arena") {
    buffer.kind = BufferKind::Arena;
    JsonCursor offset = json.at("offset");
    buffer.offset = offset.integer(0);
    if (buffer.offset % kAlignment != 0)
      offset.expected("a multiple of " + std::to_string(kAlignment));
    if (buffer.offset > manifest.arenaBytes ||
        buffer.bytes > manifest.arenaBytes - buffer.offset)
      fail(MPT_ERROR_FORMAT, json.location(), " covers bytes ", buffer.offset,
           " to ", buffer.offset + buffer.bytes,
           ", beyond arena_bytes = ", manifest.arenaBytes);
  } else if (kind.string() == "constant") {
    buffer.kind = BufferKind::Constant;
    JsonCursor data = json.at("data");
    const std::string &hex = data.string();
    if (hex.size() / 2 != static_cast<size_t>(buffer.bytes) ||
        hex.size() % 2 != 0 ||
        hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      data.expected("two hex digits for each of " +
                    std::to_string(buffer.bytes) + " bytes");
    for (size_t i = 0; i != hex.size(); i += 2)
      buffer.content.push_back(
          static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  } else {
    kind.expected("'argument', 'arena' or 'constant'");
  }
  manifest.buffers.push_back(std::move(buffer));
}

int64_t Parser::parseBufferIndex(const JsonCursor &json) {
  int64_t index = json.integer(0);
  if (index >= static_cast<int64_t>(manifest.buffers.size()))
    json.expected("a buffer index below " +
                  std::to_string(manifest.buffers.size()));
  return index;
}

Tensor Parser::parseTensor(const JsonCursor &json) {
  Tensor tensor;
  tensor.name = json.at("name").string();
  JsonCursor dtype = json.at("dtype");
  std::optional<mpt_dtype> known = dtypeFromName(dtype.string());
  if (!known)
    dtype.expected("one of f32, bf16, f8E4M3FN, f8E5M2, i8, i32, i64, i1");
  tensor.dtype = *known;
  JsonCursor shape = json.at("shape");
  if (shape.size() > MPT_MAX_RANK)
    shape.expected("a rank of at most " + std::to_string(MPT_MAX_RANK));
  for (size_t i = 0, e = shape.size(); i != e; ++i)
    tensor.shape.push_back(shape.at(i).integer(0));
  std::optional<int64_t> bytes = denseBytes(tensor.shape, tensor.dtype);
  if (!bytes)
    shape.expected("a shape whose bytes fit 64 bits");
  tensor.bytes = *bytes;
  tensor.buffer = parseBufferIndex(json.at("buffer"));
  int64_t available = manifest.buffers[tensor.buffer].bytes;
  if (tensor.bytes > available)
    fail(MPT_ERROR_FORMAT, json.location(), ": tensor '", tensor.name,
         "' needs ", tensor.bytes, " bytes, but buffer ", tensor.buffer,
         " has ", available);
  return tensor;
}

Tensor Parser::parseArgument(const JsonCursor &json) {
  Tensor tensor = parseTensor(json);
  JsonCursor kind = json.at("kind");
  std::optional<mpt_kind> known = kindFromName(kind.string());
  if (!known)
    kind.expected("one of parameter, optimizer_state, scale_state, derived, "
                  "input, label, rng, hyper");
  tensor.kind = *known;
  if (isState(tensor.kind) || tensor.kind == MPT_DERIVED)
    parseInit(json.at("init"), tensor);
  parseRange(json, tensor);
  if (tensor.kind == MPT_RNG)
    checkRng(json, tensor);
  return tensor;
}

void Parser::parseInit(const JsonCursor &json, Tensor &tensor) {
  if (json.isNumber()) {
    bool scalar = tensor.dtype == MPT_I64 && tensor.shape.empty();
    if (tensor.dtype != MPT_F32 && !scalar)
      json.expected("'file' or 'zero' (a number initialises only f32 or a "
                    "scalar i64)");
    tensor.init = Init::Number;
    tensor.initNumber = json.number();
    constexpr double largest = std::numeric_limits<float>::max();
    if (tensor.dtype == MPT_F32 &&
        !(tensor.initNumber >= -largest && tensor.initNumber <= largest))
      json.expected("a number that f32 can hold");
    if (tensor.dtype == MPT_I64)
      json.integer();
  } else if (json.string() == "zero") {
    tensor.init = Init::Zero;
  } else if (json.string() == "file" && tensor.kind != MPT_DERIVED) {
    tensor.init = Init::File;
  } else if (json.string() == "launches" && tensor.kind == MPT_DERIVED) {
    tensor.init = Init::Launches;
  } else {
    json.expected(tensor.kind == MPT_DERIVED ? "'launches', 'zero' or a number"
                                             : "'file', 'zero' or a number");
  }
}

void Parser::parseRange(const JsonCursor &json, Tensor &tensor) {
  bool isInteger = tensor.dtype == MPT_I64 || tensor.dtype == MPT_I32;
  if (json.has("range")) {
    JsonCursor range = json.at("range");
    if (range.size() != 2 || !isInteger)
      range.expected("[low, high] on an i32 or i64 tensor");
    tensor.range = {range.at(size_t(0)).integer(), range.at(1).integer()};
    if (tensor.range->first >= tensor.range->second)
      range.expected("a range that is not empty");
  }
  if (json.has("ignore_index")) {
    if (!tensor.range)
      json.at("ignore_index").expected("a range beside it");
    tensor.ignoreIndex = json.at("ignore_index").integer();
  }
}

void Parser::checkRng(const JsonCursor &json, const Tensor &tensor) {
  if (tensor.name != "rng.seed" && tensor.name != "rng.step")
    json.at("name").expected("'rng.seed' or 'rng.step'");
  if (tensor.dtype != MPT_I64 || !tensor.shape.empty())
    fail(MPT_ERROR_FORMAT, json.location(), ": '", tensor.name, "' is ",
         toString(tensor.shape), " ", dtypeInfo(tensor.dtype).name,
         ", expected scalar i64");
}

void Parser::checkArgumentBuffers() {
  std::vector<bool> taken(manifest.buffers.size());
  for (const Tensor &tensor : manifest.arguments) {
    if (manifest.buffers[tensor.buffer].kind != BufferKind::Argument)
      fail(MPT_ERROR_FORMAT, root.location(), ": argument '", tensor.name,
           "' is in buffer ", tensor.buffer,
           ", which is not of kind 'argument'");
    if (taken[tensor.buffer])
      fail(MPT_ERROR_FORMAT, root.location(), ": argument '", tensor.name,
           "' shares buffer ", tensor.buffer, " with another argument");
    taken[tensor.buffer] = true;
  }
}

int64_t Parser::multiply(const JsonCursor &json,
                         std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product))
      fail(MPT_ERROR_FORMAT, json.location(), ": sizes overflow 64 bits");
  return product;
}

Place Parser::parsePlace(const JsonCursor &json, int64_t bytes) {
  if (json.size() != 2)
    json.expected("[buffer, offset]");
  Place place;
  place.buffer = parseBufferIndex(json.at(size_t(0)));
  place.offset = json.at(1).integer(0);
  int64_t available = manifest.buffers[place.buffer].bytes;
  if (place.offset > available || bytes > available - place.offset)
    fail(MPT_ERROR_FORMAT, json.location(), " needs ", bytes,
         " bytes at offset ", place.offset, ", but buffer ", place.buffer,
         " has ", available);
  return place;
}

Launch Parser::parseLaunch(const JsonCursor &json) {
  Launch launch;
  JsonCursor op = json.at("op");
  if (json.has("name"))
    launch.name = json.at("name").string();
  if (op.string() == "kernel") {
    launch.op = LaunchOp::Kernel;
    launch.symbol = json.at("symbol").string();
    launch.tasks = json.at("tasks").integer(0);
    JsonCursor args = json.at("args");
    for (size_t i = 0, e = args.size(); i != e; ++i)
      launch.args.push_back(parsePlace(args.at(i), 0));
    if (json.has("written")) {
      launch.written = json.at("written").integer(0);
      if (launch.written > static_cast<int64_t>(launch.args.size()))
        json.at("written").expected("at most the number of args, " +
                                    std::to_string(launch.args.size()));
    }
  } else if (op.string() == "product") {
    launch.op = LaunchOp::Product;
    parseProduct(json, launch);
  } else if (op.string() == "scatter_add") {
    launch.op = LaunchOp::ScatterAdd;
    parseScatterAdd(json, launch);
  } else if (op.string() == "copy" || op.string() == "fill") {
    launch.op = op.string() == "copy" ? LaunchOp::Copy : LaunchOp::Fill;
    launch.bytes = json.at("bytes").integer(0);
    if (launch.op == LaunchOp::Copy)
      launch.source = parsePlace(json.at("source"), launch.bytes);
    launch.result = parsePlace(json.at("result"), launch.bytes);
  } else {
    op.expected("kernel, product, scatter_add, copy or fill");
  }
  return launch;
}

/// What `init` may do: read parameters, scale state and what it computed,
/// write into the arena and into derived arguments that ask for it.
void Parser::checkInitLaunch(const JsonCursor &json, const Launch &launch,
                             std::set<int64_t> &derived) {
  if (launch.op == LaunchOp::Product || launch.op == LaunchOp::ScatterAdd)
    json.at("op").expected("kernel, copy or fill in 'init'");
  if (launch.op == LaunchOp::Kernel && launch.written < 0)
    json.expected("'written' beside the args of a kernel in 'init'");
  LaunchAccesses accesses = accessesOf(manifest, launch);
  auto argumentIn = [&](int64_t buffer) -> const Tensor * {
    for (const Tensor &tensor : manifest.arguments)
      if (tensor.buffer == buffer)
        return &tensor;
    return nullptr;
  };
  for (const BufferAccess &read : accesses.reads)
    if (const Tensor *tensor = argumentIn(read.buffer);
        tensor && tensor->kind != MPT_PARAMETER &&
        tensor->kind != MPT_SCALE_STATE && derived.count(read.buffer) == 0)
      fail(MPT_ERROR_FORMAT, json.location(), ": launch '", launch.name,
           "' reads ", kindName(tensor->kind), " '", tensor->name,
           "', expected a parameter, scale state, or what an earlier launch of "
           "'init' wrote");
  for (const BufferAccess &write : accesses.writes) {
    const Tensor *tensor = argumentIn(write.buffer);
    bool isDerived = tensor && tensor->init == Init::Launches;
    if (!isDerived && manifest.buffers[write.buffer].kind != BufferKind::Arena)
      fail(MPT_ERROR_FORMAT, json.location(), ": launch '", launch.name,
           "' writes ", tensor ? "'" + tensor->name + "'" : "a constant",
           ", expected a derived argument whose init is 'launches'");
    if (isDerived && write.whole)
      derived.insert(write.buffer);
  }
}

void Parser::parseInitLaunches() {
  std::set<int64_t> derived;
  if (root.has("init")) {
    JsonCursor init = root.at("init");
    for (size_t i = 0, e = init.size(); i != e; ++i) {
      manifest.init.push_back(parseLaunch(init.at(i)));
      checkInitLaunch(init.at(i), manifest.init.back(), derived);
    }
  }
  for (const Tensor &tensor : manifest.arguments)
    if (tensor.init == Init::Launches && derived.count(tensor.buffer) == 0)
      fail(MPT_ERROR_FORMAT, root.location(), ": derived '", tensor.name,
           "' is initialised by launches, but none in 'init' writes it");
}

void Parser::parseProduct(const JsonCursor &json, Launch &launch) {
  launch.role = json.at("role").string();
  constexpr int64_t most = INT32_MAX; // what BLAS takes
  auto extent = [&](const JsonCursor &value) {
    int64_t result = value.integer(1);
    if (result > most)
      value.expected("at most " + std::to_string(most));
    return result;
  };
  launch.m = extent(json.at("m"));
  launch.n = extent(json.at("n"));
  launch.k = extent(json.at("k"));
  JsonCursor batch = json.at("batch");
  if (batch.size() != 2)
    batch.expected("two batch extents");
  launch.batch[0] = extent(batch.at(size_t(0)));
  launch.batch[1] = extent(batch.at(1));
  launch.lhs = parseMatrix(json.at("lhs"), launch, launch.m, launch.k, false);
  launch.rhs = parseMatrix(json.at("rhs"), launch, launch.k, launch.n, false);
  launch.product =
      parseMatrix(json.at("result"), launch, launch.m, launch.n, true);
}

Matrix Parser::parseMatrix(const JsonCursor &json, const Launch &launch,
                           int64_t rows, int64_t columns, bool isResult) {
  Matrix matrix;
  matrix.buffer = parseBufferIndex(json.at("buffer"));
  matrix.offset = json.at("offset").integer(0);
  matrix.rows = json.at("rows").integer(0);
  matrix.columns = json.at("columns").integer(0);
  JsonCursor batch = json.at("batch");
  if (batch.size() != 2)
    batch.expected("two batch strides");
  matrix.batch[0] = batch.at(size_t(0)).integer(0);
  matrix.batch[1] = batch.at(1).integer(0);

  // The last element must lie in the buffer. The 128-bit sum cannot overflow:
  // extents are below 2^31 and strides below 2^63.
  __int128 last = matrix.offset;
  last += static_cast<__int128>(rows - 1) * matrix.rows;
  last += static_cast<__int128>(columns - 1) * matrix.columns;
  for (int i = 0; i != 2; ++i)
    last += static_cast<__int128>(launch.batch[i] - 1) * matrix.batch[i];
  int64_t available = manifest.buffers[matrix.buffer].bytes / 4;
  if (last >= available)
    fail(MPT_ERROR_FORMAT, json.location(), " of product '", launch.name,
         "' reaches beyond the ", available, " elements of buffer ",
         matrix.buffer);

  // One matrix has to be dense along one axis, with a leading dimension that
  // BLAS accepts; an axis of extent 1 has no stride to speak of.
  auto dense = [](int64_t inner, int64_t innerExtent, int64_t outer,
                  int64_t outerExtent) {
    return (innerExtent == 1 || inner == 1) &&
           (outerExtent == 1 || (outer >= innerExtent && outer <= INT32_MAX));
  };
  if (!dense(matrix.columns, columns, matrix.rows, rows) &&
      !dense(matrix.rows, rows, matrix.columns, columns))
    fail(MPT_ERROR_FORMAT, json.location(), " of product '", launch.name,
         "' has strides ", matrix.rows, " and ", matrix.columns, " for ", rows,
         "x", columns,
         "; expected one of them 1 and the other at least the extent along it");
  if (!isResult)
    return matrix;

  // Elements of the result must not overlap: going up through the strides,
  // each one steps over all that lies below.
  std::array<std::pair<int64_t, int64_t>, 4> axes = {
      {{matrix.rows, rows},
       {matrix.columns, columns},
       {matrix.batch[0], launch.batch[0]},
       {matrix.batch[1], launch.batch[1]}}};
  std::sort(axes.begin(), axes.end());
  __int128 below = 1;
  for (auto [stride, extent] : axes) {
    if (extent == 1)
      continue;
    if (stride < below)
      fail(MPT_ERROR_FORMAT, json.location(), " of product '", launch.name,
           "' has strides that let its elements overlap");
    below = static_cast<__int128>(stride) * extent;
  }
  return matrix;
}

void Parser::parseScatterAdd(const JsonCursor &json, Launch &launch) {
  launch.rows = json.at("rows").integer(0);
  launch.columns = json.at("columns").integer(0);
  launch.table = json.at("table").integer(0);
  JsonCursor idType = json.at("id_dtype");
  std::optional<mpt_dtype> dtype = dtypeFromName(idType.string());
  if (!dtype || (*dtype != MPT_I64 && *dtype != MPT_I32))
    idType.expected("'i64' or 'i32'");
  launch.idType = *dtype;
  int64_t tableBytes = multiply(json, {launch.table, launch.columns, 4});
  launch.init = parsePlace(json.at("init"), tableBytes);
  launch.result = parsePlace(json.at("result"), tableBytes);
  launch.ids = parsePlace(
      json.at("ids"), multiply(json, {launch.rows, dtypeInfo(*dtype).bytes}));
  launch.updates = parsePlace(json.at("updates"),
                              multiply(json, {launch.rows, launch.columns, 4}));
  auto aligned = [&](const char *key, const Place &place, int64_t to) {
    if (place.offset % to != 0)
      json.at(key).expected("an offset that is a multiple of " +
                            std::to_string(to));
  };
  aligned("init", launch.init, 4);
  aligned("result", launch.result, 4);
  aligned("updates", launch.updates, 4);
  aligned("ids", launch.ids, dtypeInfo(*dtype).bytes);
}

void Parser::parseGradients() {
  JsonCursor gradients = root.at("gradients");
  std::set<size_t> seen;
  for (size_t i = 0, e = gradients.size(); i != e; ++i) {
    JsonCursor json = gradients.at(i);
    JsonCursor parameter = json.at("parameter");
    const std::string &name = parameter.string();
    auto it =
        std::find_if(manifest.arguments.begin(), manifest.arguments.end(),
                     [&](const Tensor &tensor) { return tensor.name == name; });
    if (it == manifest.arguments.end() || it->kind != MPT_PARAMETER ||
        it->dtype != MPT_F32)
      parameter.expected("the name of an f32 parameter");
    Gradient gradient;
    gradient.parameter = static_cast<size_t>(it - manifest.arguments.begin());
    if (!seen.insert(gradient.parameter).second)
      parameter.expected("a parameter that no other gradient has");
    gradient.place.buffer = parseBufferIndex(json.at("buffer"));
    gradient.place.offset = json.at("offset").integer(0);
    if (gradient.place.offset % 4 != 0)
      json.at("offset").expected("a multiple of 4");
    // Bytes from the first element to the end of the last one.
    __int128 span = it->bytes;
    if (json.has("strides")) {
      JsonCursor strides = json.at("strides");
      if (strides.size() != it->shape.size())
        strides.expected("one stride for each dim of " + toString(it->shape));
      __int128 last = 0;
      for (size_t d = 0; d != it->shape.size(); ++d) {
        gradient.strides.push_back(strides.at(d).integer(0));
        last += static_cast<__int128>(it->shape[d] - 1) * gradient.strides[d];
      }
      span = it->bytes == 0 ? 0 : (last + 1) * 4;
    }
    int64_t available = manifest.buffers[gradient.place.buffer].bytes;
    if (gradient.place.offset + span > available)
      fail(MPT_ERROR_FORMAT, json.location(), ": the gradient of '", name,
           "' (", toString(it->shape), ") at offset ", gradient.place.offset,
           " reaches beyond the ", available, " bytes of buffer ",
           gradient.place.buffer);
    manifest.gradients.push_back(gradient);
  }
}

} // namespace

Manifest parseManifest(const char *text, size_t bytes,
                       const std::string &path) {
  Json json;
  try {
    json = Json::parse(text, text + bytes);
  } catch (const Json::exception &error) {
    fail(MPT_ERROR_FORMAT, "'", path, "' is not valid JSON: ", error.what());
  }
  JsonCursor root(json, path);
  return Parser(root).parse();
}

} // namespace mpt::rt
