//===- Pins.h - formats that a person has decided ---------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A pin `PATTERN=FORMAT` takes the decision on every product whose name matches
// from the policy.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_PINS_H
#define MPT_PRECISION_PINS_H

#include "mpt/Precision/Target.h"
#include <optional>
#include <vector>

namespace mpt {
namespace precision {

struct Pin {
  /// As written: `encoder.layer.0.*=bf16`.
  std::string text;
  /// A glob on names: `*`, `?`, `[abc]`, `{a,b}`.
  std::string pattern;
  FormatPair formats;
};

/// Parses `PATTERN=FORMAT`. Fails on formats that `target` does not run.
llvm::Expected<Pin> parsePin(mlir::MLIRContext *context, const Target &target,
                             llvm::StringRef text);

/// For each name the index of the pin that decides it, if any. Fails where a
/// pin matches no name, offering the nearest, and where two pins give one name
/// different formats.
llvm::Expected<std::vector<std::optional<size_t>>>
matchPins(llvm::ArrayRef<Pin> pins, llvm::ArrayRef<llvm::StringRef> names);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_PINS_H
