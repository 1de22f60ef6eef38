//===- ManifestWriter.cpp - what the manifests of all targets share -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See ManifestWriter.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/Package/ManifestWriter.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mpt;

std::string mpt::hashText(StringRef bytes) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (unsigned char byte : bytes)
    hash = (hash ^ byte) * 0x100000001b3ull;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format_hex_no_prefix(hash, 16);
  return text;
}

StringRef mpt::getDtypeName(Type type) {
  if (type.isF32())
    return "f32";
  if (type.isBF16())
    return "bf16";
  if (isa<Float8E4M3FNType>(type))
    return "f8E4M3FN";
  if (isa<Float8E5M2Type>(type))
    return "f8E5M2";
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return "i1";
  case 8:
    return "i8";
  case 32:
    return "i32";
  default:
    return "i64";
  }
}

void ManifestWriter::typed(RankedTensorType type) {
  json.attribute("dtype", getDtypeName(type.getElementType()));
  json.attributeArray("shape", [&] {
    for (int64_t size : type.getShape())
      json.value(size);
  });
}

void ManifestWriter::accessValues(StepPlan::Access access) {
  json.value(access.buffer);
  json.value(access.offset);
}

void ManifestWriter::batch(const int64_t (&values)[2]) {
  json.attributeArray("batch", [&] {
    json.value(values[0]);
    json.value(values[1]);
  });
}

/// Parameters start in a file, other state at a number, zero without one; what
/// the caller binds has no initial value.
void ManifestWriter::argument(const StepPlan::Argument &argument) {
  json.attribute("name", argument.name);
  json.attribute("kind", stringifyKind(argument.kind));
  typed(argument.type);
  json.attribute("buffer", argument.buffer);
  if (argument.kind == Kind::Parameter)
    json.attribute("init", "file");
  else if (argument.init)
    json.attribute("init", *argument.init);
  else if (argument.kind == Kind::OptimizerState ||
           argument.kind == Kind::ScaleState || argument.kind == Kind::Derived)
    json.attribute("init", "zero");
  if (argument.range)
    json.attributeArray("range", [&] {
      json.value(argument.range->first);
      json.value(argument.range->second);
    });
  if (argument.ignoreIndex)
    json.attribute("ignore_index", *argument.ignoreIndex);
}

void ManifestWriter::signature() {
  json.attributeArray("arguments", [&] {
    for (const StepPlan::Argument &entry : plan.arguments)
      json.object([&] { argument(entry); });
  });
  // Updated state is its argument.
  json.attributeArray("results", [&] {
    for (const StepPlan::Result &result : plan.results)
      if (!result.alias)
        json.object([&] {
          json.attribute("name", result.name);
          typed(result.type);
          json.attribute("buffer", result.access.buffer);
        });
  });
}
