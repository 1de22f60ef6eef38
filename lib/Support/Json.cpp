//===- Json.cpp - parsing JSON that comes from outside --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Json.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Support/Json.h"

/// Whether brackets outside strings nest deeper than 64.
static bool nestsTooDeep(llvm::StringRef text) {
  constexpr int limit = 64;
  int depth = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (inString) {
      i += c == '\\';
      inString = c != '"';
    } else if (c == '"') {
      inString = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit)
        return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

llvm::Expected<llvm::json::Value> mpt::parseJson(llvm::StringRef text) {
  if (nestsTooDeep(text))
    return llvm::createStringError("not valid JSON: nested too deep");
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (!value)
    return llvm::createStringError("not valid JSON: " +
                                   llvm::toString(value.takeError()));
  return value;
}
