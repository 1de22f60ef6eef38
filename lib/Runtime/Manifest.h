//===- Manifest.h - manifest.json as checked data ---------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The manifest of a package (docs/package.md) as plain structs. Whoever holds a
// Manifest holds a valid one: parseManifest checks every index, size, stride
// and name, so that the executor has nothing left to check.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_MANIFEST_H
#define MPT_LIB_RUNTIME_MANIFEST_H

#include "Types.h"

#include <cstddef>
#include <string>
#include <vector>

namespace mpt::rt {

enum class Engine { Blas, Reference };
enum class Init { None, File, Zero, Number, Launches };
enum class BufferKind { Argument, Arena, Constant };
enum class LaunchOp { Kernel, Product, ScatterAdd, Copy, Fill };

struct Tensor {
  std::string name;
  mpt_kind kind = MPT_RESULT;
  mpt_dtype dtype = MPT_F32;
  Shape shape;
  int64_t buffer = 0;
  int64_t bytes = 0;
  Init init = Init::None;
  double initNumber = 0;
  std::optional<std::pair<int64_t, int64_t>> range; // half open
  std::optional<int64_t> ignoreIndex;
};

struct Buffer {
  BufferKind kind = BufferKind::Arena;
  int64_t bytes = 0;
  int64_t offset = 0;        // in the arena
  std::vector<char> content; // of a constant
};

/// A place in a buffer; the offset is in bytes.
struct Place {
  int64_t buffer = 0;
  int64_t offset = 0;
};

/// An operand of a product; offset and strides are in f32 elements.
struct Matrix {
  int64_t buffer = 0;
  int64_t offset = 0;
  int64_t rows = 0, columns = 0;
  int64_t batch[2] = {0, 0};
};

struct Launch {
  LaunchOp op = LaunchOp::Kernel;
  std::string name, role, symbol;
  // kernel
  std::vector<Place> args;
  /// How many of `args`, from the back, are written; -1: not said.
  int64_t written = -1;
  int64_t tasks = 0;
  // product
  int64_t m = 0, n = 0, k = 0, batch[2] = {1, 1};
  Matrix lhs, rhs, product;
  // scatter_add
  int64_t rows = 0, columns = 0, table = 0;
  mpt_dtype idType = MPT_I64;
  Place init, ids, updates;
  // copy, fill
  int64_t bytes = 0;
  Place source, result;
};

/// Where the gradient of a parameter lies once the backward pass is done.
struct Gradient {
  size_t parameter = 0; ///< Index in `arguments`.
  Place place;
  std::vector<int64_t> strides; ///< In elements; none: dense, row-major.
};

struct Manifest {
  Engine engine = Engine::Reference;
  std::string function, graphHash, kernelsHash, arch;
  std::vector<std::string> features;
  std::vector<Tensor> arguments, results;
  std::vector<Buffer> buffers;
  int64_t arenaBytes = 0;
  std::vector<Launch> launches;
  /// Kernels, copies and fills that compute derived arguments from parameters
  /// and scale state.
  std::vector<Launch> init;
  std::vector<Gradient> gradients;
};

const char *opName(LaunchOp op);
const char *engineName(Engine engine);

/// Parses and checks a manifest's text; `path` is for messages.
Manifest parseManifest(const char *text, size_t bytes, const std::string &path);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_MANIFEST_H
