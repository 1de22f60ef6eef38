//===- Pins.cpp - formats that a person has decided -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Pins.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Pins.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/GlobPattern.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {
constexpr size_t kOffered = 3;
/// Larger brace expansions are refused instead of enumerated.
constexpr size_t kMaxSubPatterns = 1024;

/// The names nearest to `pattern` with its wildcards left out.
std::string nearest(StringRef pattern, ArrayRef<StringRef> names) {
  std::string plain;
  llvm::copy_if(pattern, std::back_inserter(plain),
                [](char c) { return !StringRef("*?[]{}").contains(c); });
  SmallVector<std::pair<unsigned, StringRef>> ranked;
  for (StringRef name : names)
    ranked.push_back({name.edit_distance(plain), name});
  llvm::sort(ranked);
  if (ranked.size() > kOffered)
    ranked.resize(kOffered);
  return llvm::join(llvm::map_range(ranked,
                                    [](const auto &entry) {
                                      return "'" + entry.second.str() + "'";
                                    }),
                    ", ");
}
} // namespace

llvm::Expected<Pin> precision::parsePin(MLIRContext *context,
                                        const Target &target, StringRef text) {
  auto [pattern, format] = text.rsplit('=');
  if (pattern.empty() || format.empty())
    return llvm::createStringError("pin '" + text +
                                   "' is not of the form PATTERN=FORMAT");
  llvm::Expected<FormatPair> formats = parseFormats(context, format);
  if (!formats)
    return llvm::createStringError("pin '" + text +
                                   "': " + llvm::toString(formats.takeError()));
  if (std::string why = target.whyNotRun(*formats); !why.empty())
    return llvm::createStringError("pin '" + text + "': " + why);
  auto glob = llvm::GlobPattern::create(pattern, kMaxSubPatterns);
  if (!glob)
    return llvm::createStringError("pin '" + text +
                                   "': " + llvm::toString(glob.takeError()));
  return Pin{text.str(), pattern.str(), *formats};
}

llvm::Expected<std::vector<std::optional<size_t>>>
precision::matchPins(ArrayRef<Pin> pins, ArrayRef<StringRef> names) {
  std::vector<std::optional<size_t>> matches(names.size());
  for (const auto &[p, pin] : llvm::enumerate(pins)) {
    llvm::GlobPattern glob =
        llvm::cantFail(llvm::GlobPattern::create(pin.pattern, kMaxSubPatterns));
    bool used = false;
    for (const auto &[i, name] : llvm::enumerate(names)) {
      if (!glob.match(name))
        continue;
      used = true;
      if (!matches[i])
        matches[i] = p;
      else if (const Pin &other = pins[*matches[i]];
               other.formats != pin.formats)
        return llvm::createStringError(
            "pins '" + other.text + "' and '" + pin.text +
            "' contradict each other on '" + name + "'");
    }
    if (!used)
      return llvm::createStringError(
          "pin '" + pin.text +
          "' matches no product; nearest: " + nearest(pin.pattern, names));
  }
  return matches;
}
