//===- JsonReader.h - JSON from outside, JSON of ours -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Access to the fields of a JSON file that remembers the first error, with file
// and place, and a writer whose numbers are the shortest that read back.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_JSONREADER_H
#define MPT_LIB_PRECISION_JSONREADER_H

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <charconv>
#include <cmath>
#include <string>

namespace mpt {
namespace precision {

struct JsonReader {
  /// Stands for the file in messages.
  std::string source;
  /// The first error, or "".
  std::string error;

  explicit JsonReader(llvm::StringRef source) : source(source) {}

  /// Remembers an error; always false.
  bool fail(llvm::StringRef place, const llvm::Twine &what) {
    if (error.empty())
      error =
          (source + (place.empty() ? "" : ": ") + place + ": " + what).str();
    return false;
  }

  /// A value as it is shown in messages, shortened.
  static std::string describe(const llvm::json::Value &value) {
    std::string text;
    llvm::raw_string_ostream(text) << value;
    return text.size() > 40 ? text.substr(0, 37) + "..." : text;
  }

  const llvm::json::Object *asObject(const llvm::json::Value &value,
                                     llvm::StringRef place) {
    const llvm::json::Object *object = value.getAsObject();
    if (!object)
      fail(place, "an object is expected, found " + describe(value));
    return object;
  }
  const llvm::json::Value *field(const llvm::json::Object &object,
                                 llvm::StringRef place, llvm::StringRef key) {
    const llvm::json::Value *value = object.get(key);
    if (!value)
      fail(place, "'" + key + "' is missing");
    return value;
  }
  const llvm::json::Object *object(const llvm::json::Object &parent,
                                   llvm::StringRef place, llvm::StringRef key) {
    const llvm::json::Value *value = field(parent, place, key);
    if (value && !value->getAsObject())
      fail(place,
           "'" + key + "' is " + describe(*value) + ", expected an object");
    return value ? value->getAsObject() : nullptr;
  }
  const llvm::json::Array *array(const llvm::json::Object &parent,
                                 llvm::StringRef place, llvm::StringRef key) {
    const llvm::json::Value *value = field(parent, place, key);
    if (value && !value->getAsArray())
      fail(place, "'" + key + "' is " + describe(*value) + ", expected a list");
    return value ? value->getAsArray() : nullptr;
  }
  bool string(const llvm::json::Object &parent, llvm::StringRef place,
              llvm::StringRef key, std::string &result) {
    const llvm::json::Value *value = field(parent, place, key);
    if (!value)
      return false;
    auto text = value->getAsString();
    if (!text || text->empty())
      return fail(place,
                  "'" + key + "' is " + describe(*value) + ", expected a text");
    result = text->str();
    return true;
  }
  /// A finite number of 0 or more.
  bool number(const llvm::json::Object &parent, llvm::StringRef place,
              llvm::StringRef key, double &result) {
    const llvm::json::Value *value = field(parent, place, key);
    if (!value)
      return false;
    auto number = value->getAsNumber();
    if (!number || !std::isfinite(*number) || *number < 0)
      return fail(place, "'" + key + "' is " + describe(*value) +
                             ", expected a number of 0 or more");
    result = *number;
    return true;
  }
  /// An integer of 1 or more.
  bool count(const llvm::json::Object &parent, llvm::StringRef place,
             llvm::StringRef key, int64_t &result) {
    const llvm::json::Value *value = field(parent, place, key);
    if (!value)
      return false;
    auto number = value->getAsInteger();
    if (!number || *number < 1)
      return fail(place, "'" + key + "' is " + describe(*value) +
                             ", expected an integer of 1 or more");
    result = *number;
    return true;
  }
  /// `"format": format, "version": version`.
  bool header(const llvm::json::Object &root, llvm::StringRef format,
              int64_t version) {
    std::string found;
    int64_t number;
    if (!string(root, "", "format", found) ||
        !count(root, "", "version", number))
      return false;
    if (found != format)
      return fail("", "'format' is '" + found + "', expected '" + format + "'");
    if (number != version)
      return fail("", "version " + llvm::Twine(number) +
                          " is not understood, only " + llvm::Twine(version));
    return true;
  }
};

struct JsonWriter {
  llvm::json::OStream json;

  explicit JsonWriter(llvm::raw_ostream &os) : json(os, /*IndentSize=*/1) {}

  /// The shortest text that reads back as `x`; null if it is not finite.
  void value(double x) {
    if (!std::isfinite(x))
      return json.value(nullptr);
    char buffer[32];
    auto end = std::to_chars(buffer, buffer + sizeof(buffer), x).ptr;
    json.rawValue(llvm::StringRef(buffer, end - buffer));
  }
  void number(llvm::StringRef key, double x) {
    json.attributeBegin(key);
    value(x);
    json.attributeEnd();
  }
};

} // namespace precision
} // namespace mpt

#endif // MPT_LIB_PRECISION_JSONREADER_H
