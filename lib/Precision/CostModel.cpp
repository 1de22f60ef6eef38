//===- CostModel.cpp - predicted times on a target ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See CostModel.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/CostModel.h"
#include "JsonReader.h"
#include "mpt/Support/Json.h"
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

struct TableReader : JsonReader {
  TuningTable table;

  using JsonReader::JsonReader;

  bool storage(const llvm::json::Object &entry, const std::string &place,
               StringRef key, Storage &result) {
    std::string name;
    if (!string(entry, place, key, name))
      return false;
    auto known = symbolizeStorage(name);
    if (!known)
      return fail(place, "'" + key + "' is '" + name + "', which is unknown");
    result = *known;
    return true;
  }

  bool readEntry(const llvm::json::Value &value, const std::string &place) {
    const llvm::json::Object *entry = asObject(value, place);
    ProductShape shape;
    Storage lhs, rhs;
    double us;
    if (!entry || !count(*entry, place, "m", shape.m) ||
        !count(*entry, place, "n", shape.n) ||
        !count(*entry, place, "k", shape.k) ||
        !count(*entry, place, "batch", shape.batch) ||
        !storage(*entry, place, "lhs", lhs) ||
        !storage(*entry, place, "rhs", rhs) || !number(*entry, place, "us", us))
      return false;
    if (us == 0)
      return fail(place, "'us' is 0, expected more");
    if (!table.times.try_emplace({shape, lhs, rhs}, us).second)
      return fail(place, "shape and formats are there twice");
    return true;
  }

  bool read(const llvm::json::Value &root, const Target &target) {
    const llvm::json::Object *object = asObject(root, "");
    std::string name;
    if (!object || !header(*object, "mpt-tuning", 1) ||
        !string(*object, "", "target", name))
      return false;
    if (name != target.name)
      return fail("",
                  "measured on '" + name + "', expected '" + target.name + "'");
    const llvm::json::Array *products = array(*object, "", "products");
    if (!products)
      return false;
    for (const auto &[i, value] : llvm::enumerate(*products))
      if (!readEntry(value, "products[" + std::to_string(i) + "]"))
        return false;
    return true;
  }
};

} // namespace

std::optional<double> TuningTable::find(const ProductShape &shape,
                                        const FormatPair &formats) const {
  auto it =
      times.find({shape, formats.lhs.getStorage(), formats.rhs.getStorage()});
  if (it == times.end())
    return std::nullopt;
  return it->second;
}

llvm::Expected<TuningTable> precision::parseTuningTable(StringRef text,
                                                        StringRef source,
                                                        const Target &target) {
  TableReader reader(source);
  auto root = parseJson(text);
  if (!root)
    return llvm::createStringError(source + ": " +
                                   llvm::toString(root.takeError()));
  if (!reader.read(*root, target))
    return llvm::createStringError(reader.error);
  return std::move(reader.table);
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
