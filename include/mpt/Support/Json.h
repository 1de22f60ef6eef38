//===- Json.h - parsing JSON that comes from outside ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// LLVM's parser recurses, so that a file of brackets would overflow the stack.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_SUPPORT_JSON_H
#define MPT_SUPPORT_JSON_H

#include "llvm/Support/JSON.h"

namespace mpt {

/// The value that `text` holds. An error, without the file's name, if it is not
/// JSON or nests deeper than 64, which no file of ours does.
llvm::Expected<llvm::json::Value> parseJson(llvm::StringRef text);

} // namespace mpt

#endif // MPT_SUPPORT_JSON_H
