//===- Formats.cpp - pairs of formats that products run in ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Formats.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Formats.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {
std::optional<Storage> parseStorage(StringRef text) {
  return text == "fp32" ? Storage::F32 : symbolizeStorage(text);
}
} // namespace

std::string precision::nameOf(FormatAttr format) {
  std::string name = stringifyStorage(format.getStorage()).str();
  FormatAttr defaults =
      FormatAttr::get(format.getContext(), format.getStorage());
  SmallVector<StringRef> properties;
  if (format.getScale() != defaults.getScale())
    properties.push_back(stringifyGranularity(format.getScale()));
  if (format.getRecipe() != defaults.getRecipe())
    properties.push_back(stringifyRecipe(format.getRecipe()));
  if (format.getRounding() != defaults.getRounding())
    properties.push_back(stringifyRounding(format.getRounding()));
  return properties.empty() ? name
                            : name + " [" + llvm::join(properties, ", ") + "]";
}

FormatPair precision::pairOf(MLIRContext *context, Storage storage) {
  return pairOf(context, storage, storage);
}
FormatPair precision::pairOf(MLIRContext *context, Storage lhs, Storage rhs) {
  return {FormatAttr::get(context, lhs), FormatAttr::get(context, rhs)};
}

std::string precision::nameOf(const FormatPair &formats) {
  return nameOf(formats.lhs) + " x " + nameOf(formats.rhs);
}

llvm::Expected<FormatPair> precision::parseFormats(MLIRContext *context,
                                                   StringRef text) {
  auto [left, right] = text.split('/');
  auto lhs = parseStorage(left);
  auto rhs = text.contains('/') ? parseStorage(right) : lhs;
  if (!lhs || !rhs)
    return llvm::createStringError(
        "unknown format '" + text +
        "', expected bf16, fp32, f8E4M3FN, or a pair such as f8E5M2/f8E4M3FN");
  return pairOf(context, *lhs, *rhs);
}
