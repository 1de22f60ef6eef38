//===- Formats.cpp - pairs of formats that products run in ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Formats.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Formats.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include <set>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

/// `fixed=16`, with as many digits as say the same f32.
std::string fixedText(float value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("fixed=%.9g", value);
  return text;
}

/// What an option says something about; a format has one of each kind.
enum class OptionKind { Scale, Recipe, Margin, Rounding };

/// The parts of a format that are read one by one.
struct FormatText {
  StringRef text;
  bool isLhs;
  Storage storage;
  Granularity scale;
  Recipe recipe;
  Rounding rounding;
  APFloat value = APFloat(1.0f);
  int64_t history = FormatAttr::kDefaultHistory, margin = 0;

  llvm::Error fail(const Twine &what) const {
    return llvm::createStringError("format '" + text + "': " + what);
  }
  llvm::Error integer(StringRef option, StringRef digits, int64_t &result);
  llvm::Expected<OptionKind> readOption(StringRef option);
  llvm::Error readOptions(StringRef options);
  llvm::Expected<FormatAttr> build(MLIRContext *context);
};

llvm::Error FormatText::integer(StringRef option, StringRef digits,
                                int64_t &result) {
  if (digits.getAsInteger(10, result))
    return fail("'" + option + "' needs an integer");
  return llvm::Error::success();
}

llvm::Expected<OptionKind> FormatText::readOption(StringRef option) {
  auto [name, number] = option.split('=');
  if (option == "per_vector") { // of the operand: one scale per dot product
    scale = isLhs ? Granularity::PerRow : Granularity::PerColumn;
    return OptionKind::Scale;
  }
  auto granularity = symbolizeGranularity(option);
  if (granularity && *granularity != Granularity::None) {
    scale = *granularity;
    return OptionKind::Scale;
  }
  if (auto known = symbolizeRounding(option)) {
    rounding = *known;
    return OptionKind::Rounding;
  }
  if (option == "current") {
    recipe = Recipe::Current;
    return OptionKind::Recipe;
  }
  if (name == "delayed") {
    recipe = Recipe::Delayed;
    if (option != name)
      if (llvm::Error error = integer(option, number, history))
        return std::move(error);
    return OptionKind::Recipe;
  }
  if (name == "fixed") {
    recipe = Recipe::Fixed;
    double scaleValue = 1;
    if (option != name && number.getAsDouble(scaleValue))
      return fail("'" + option + "' needs a number");
    value = APFloat(static_cast<float>(scaleValue));
    return OptionKind::Recipe;
  }
  if (name == "margin") {
    if (llvm::Error error = integer(option, number, margin))
      return std::move(error);
    return OptionKind::Margin;
  }
  return fail("option '" + option +
              "' is none of per_tensor, per_row, per_column, per_vector, "
              "block128, current, delayed=, fixed=, margin=, nearest, "
              "stochastic");
}

llvm::Error FormatText::readOptions(StringRef options) {
  std::set<OptionKind> seen;
  while (true) {
    auto [option, rest] = options.split(',');
    auto kind = readOption(option.trim());
    if (!kind)
      return kind.takeError();
    if (!seen.insert(*kind).second)
      return fail("'" + option.trim() + "' comes after another of its kind");
    if (!options.contains(','))
      return llvm::Error::success();
    options = rest;
  }
}

/// What the dialect refuses is refused with its words.
llvm::Expected<FormatAttr> FormatText::build(MLIRContext *context) {
  if (storage == Storage::F32 && rounding != Rounding::Nearest)
    return fail("f32 has nothing to round");
  std::string why;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    why = diagnostic.str();
    return success();
  });
  auto emit = [&] { return emitError(UnknownLoc::get(context)); };
  auto format = FormatAttr::getChecked(emit, context, storage, scale, recipe,
                                       rounding, value, history, margin);
  if (!format)
    return fail(why);
  return format;
}

llvm::Expected<FormatAttr> parseFormat(MLIRContext *context, StringRef text,
                                       bool isLhs) {
  auto [name, options] = text.split('[');
  auto storage = name == "fp32" ? Storage::F32 : symbolizeStorage(name);
  if (!storage)
    return llvm::createStringError(
        "unknown format '" + text +
        "', expected bf16, fp32, f8E4M3FN, f8E5M2 or i8, with options as in "
        "f8E4M3FN[delayed=16,stochastic], or a pair such as f8E5M2/f8E4M3FN");
  FormatAttr plain = FormatAttr::get(context, *storage);
  FormatText format{text,
                    isLhs,
                    *storage,
                    plain.getScale(),
                    plain.getRecipe(),
                    plain.getRounding()};
  if (name == text)
    return plain;
  if (!options.consume_back("]"))
    return format.fail("expected ']' at the end");
  if (llvm::Error error = format.readOptions(options))
    return std::move(error);
  return format.build(context);
}

} // namespace

std::string precision::nameOf(FormatAttr format) {
  SmallVector<std::string> options;
  FormatAttr plain = FormatAttr::get(format.getContext(), format.getStorage());
  if (format.getScale() != plain.getScale())
    options.push_back(stringifyGranularity(format.getScale()).str());
  if (format.getRecipe() == Recipe::Delayed)
    options.push_back("delayed=" + std::to_string(format.getHistory()));
  if (format.getRecipe() == Recipe::Fixed)
    options.push_back(fixedText(format.getValue().convertToFloat()));
  if (format.getMargin() != 0)
    options.push_back("margin=" + std::to_string(format.getMargin()));
  if (format.getRounding() != plain.getRounding())
    options.push_back(stringifyRounding(format.getRounding()).str());
  std::string name = stringifyStorage(format.getStorage()).str();
  return options.empty() ? name : name + "[" + llvm::join(options, ",") + "]";
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
  if (!text.contains('/'))
    right = left;
  auto lhs = parseFormat(context, left, /*isLhs=*/true);
  if (!lhs)
    return lhs.takeError();
  auto rhs = parseFormat(context, right, /*isLhs=*/false);
  if (!rhs)
    return rhs.takeError();
  return FormatPair{*lhs, *rhs};
}
