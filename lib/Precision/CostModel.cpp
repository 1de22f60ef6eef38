//===- CostModel.cpp - predicted times on a target ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See CostModel.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/CostModel.h"
#include "JsonReader.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

constexpr double kF32Bytes = 4;

/// Microseconds of the arithmetic: tiles are dealt to the processors in waves,
/// and each costs its contraction and something besides.
double arithmeticOf(const Target &target, const Rate &rate,
                    const ProductShape &shape) {
  double best = HUGE_VAL;
  double flopsPerUnit = rate.getFlopsPerUs() / target.units.value;
  for (auto [tileM, tileN] : target.tiles)
    for (int64_t split : target.splits) {
      if (split > shape.k)
        continue;
      double tiles = static_cast<double>(llvm::divideCeil(shape.m, tileM)) *
                     llvm::divideCeil(shape.n, tileN) * shape.batch * split;
      double waves = std::ceil(tiles / target.units.value);
      double k = llvm::divideCeil(shape.k, split) + rate.overheadK.value;
      double us = waves * 2 * tileM * tileN * k / flopsPerUnit;
      // Parts are written and added up in f32.
      if (split > 1)
        us += 2 * kF32Bytes * split * shape.m * shape.n * shape.batch /
              target.getBytesPerUs();
      best = std::min(best, us);
    }
  return best;
}

void readTable(JsonNode root, const Target &target, TuningTable &table) {
  root.header("mpt-tuning", 1);
  std::string name = root.field("target").nonEmpty();
  if (root && name != target.name)
    root.fail("measured on '" + name + "', expected '" + target.name + "'");
  for (JsonNode entry : root.field("products").items()) {
    ProductShape shape;
    shape.m = entry.field("m").integer(1);
    shape.n = entry.field("n").integer(1);
    shape.k = entry.field("k").integer(1);
    shape.batch = entry.field("batch").integer(1);
    Storage lhs = entry.field("lhs").name(symbolizeStorage);
    Storage rhs = entry.field("rhs").name(symbolizeStorage);
    double us = entry.field("us").positive();
    std::string implementation;
    if (entry && entry.has("implementation")) {
      implementation = entry.field("implementation").nonEmpty();
      if (entry && implementation != "own" && implementation != "cublaslt")
        entry.fail("'implementation' is '" + implementation +
                   "', expected 'own' or 'cublaslt'");
    }
    if (entry &&
        !table.times.try_emplace({shape, lhs, rhs, implementation}, us).second)
      entry.fail("shape and formats are there twice");
  }
}

} // namespace

std::optional<double> TuningTable::find(const ProductShape &shape,
                                        const FormatPair &formats) const {
  std::optional<double> least;
  for (StringRef implementation : {"", "own", "cublaslt"})
    if (auto us = find(shape, formats, implementation))
      least = least ? std::min(*least, *us) : *us;
  return least;
}

std::optional<double> TuningTable::find(const ProductShape &shape,
                                        const FormatPair &formats,
                                        StringRef implementation) const {
  auto it = times.find({shape, formats.lhs.getStorage(),
                        formats.rhs.getStorage(), implementation.str()});
  if (it == times.end())
    return std::nullopt;
  return it->second;
}

llvm::Expected<TuningTable> precision::parseTuningTable(StringRef text,
                                                        StringRef source,
                                                        const Target &target) {
  TuningTable table;
  if (llvm::Error error = readDocument(
          text, source, [&](JsonNode root) { readTable(root, target, table); }))
    return std::move(error);
  return table;
}

llvm::Expected<TuningTable> precision::readTuningTable(StringRef path,
                                                       const Target &target) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError(
        "tuning table '" + path +
        "' cannot be read: " + buffer.getError().message());
  return parseTuningTable((*buffer)->getBuffer(), path, target);
}

ProductTime CostModel::timeOf(const ProductShape &shape,
                              const FormatPair &formats) const {
  ProductTime time;
  if (auto measured = tuning.find(shape, formats)) {
    time.us = *measured;
    time.measured = true;
    return time;
  }
  const Combination *combination = target.find(formats);
  if (!combination) {
    time.us = HUGE_VAL;
    return time;
  }
  double m = shape.m, n = shape.n, k = shape.k;
  double bytes = shape.batch * (m * k * formats.lhs.getBytes() +
                                k * n * formats.rhs.getBytes() +
                                m * n * target.resultBytes.value);
  time.arithmetic =
      arithmeticOf(target, target.rates[combination->rate], shape);
  time.memory = bytes / target.getBytesPerUs();
  time.us = std::max(time.arithmetic, time.memory) + target.launch.value;
  return time;
}

std::vector<Work> CostModel::workOf(const Tensor &tensor, FormatAttr format,
                                    bool turned) const {
  std::vector<Work> result;
  if (format.getStorage() == Storage::F32)
    return result;
  auto add = [&](const std::string &name, double bytes, double launches) {
    result.push_back(
        {name, bytes / target.getBytesPerUs() + launches * target.launch.value,
         bytes});
  };
  double wide = kF32Bytes * tensor.elements;
  double narrow = static_cast<double>(format.getBytes()) * tensor.elements;
  Recipe recipe = format.getRecipe();
  // A fixed scale's amax is looked at too: it says whether a step is skipped.
  if (format.isScaled()) {
    bool fused = tensor.hasProducer && target.amax == Place::Producer;
    add(tensor.name + "/amax", fused ? 0 : wide,
        target.amaxLaunches + (fused ? 0 : 1));
  }
  std::string cast = tensor.name + "/cast." + nameOf(format);
  bool fused = tensor.hasProducer &&
               target.casts[static_cast<size_t>(recipe)] == Place::Producer;
  add(cast, fused ? narrow : wide + narrow, fused ? 0 : 1);
  if (turned) {
    fused = tensor.hasProducer && target.transposed == Place::Producer;
    add(cast + "/transposed", fused ? narrow : 2 * narrow, fused ? 0 : 1);
  }
  return result;
}
