//===- Formats.h - pairs of formats that products run in --------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Pairs of operand formats by name. Which of them run where is a question to a
// target (Target.h).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_FORMATS_H
#define MPT_PRECISION_FORMATS_H

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/Support/Error.h"
#include <string>

namespace mpt {
namespace precision {

/// The formats of a product's operands.
struct FormatPair {
  FormatAttr lhs, rhs;

  bool operator==(const FormatPair &o) const {
    return lhs == o.lhs && rhs == o.rhs;
  }
  bool operator!=(const FormatPair &o) const { return !(*this == o); }
  /// Bytes of one element of each.
  unsigned getBytes() const { return lhs.getBytes() + rhs.getBytes(); }
  /// Whether both take one byte.
  bool isEightBit() const { return getBytes() == 2; }
};

/// Both operands in `storage`, with its default scale, recipe and rounding.
FormatPair pairOf(mlir::MLIRContext *context, Storage storage);
FormatPair pairOf(mlir::MLIRContext *context, Storage lhs, Storage rhs);

/// `f8E4M3FN`; what differs from the storage's defaults follows it in brackets.
std::string nameOf(FormatAttr format);

/// `f8E4M3FN x f8E5M2`; what differs from a storage's defaults follows it in
/// brackets.
std::string nameOf(const FormatPair &formats);

/// The pair that `text` names: one storage for both operands, or lhs/rhs. Fails
/// on an unknown storage.
llvm::Expected<FormatPair> parseFormats(mlir::MLIRContext *context,
                                        llvm::StringRef text);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_FORMATS_H
