//===- JsonReader.h - JSON from outside, JSON of ours -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One reader for all files that decide: a place in a document whose first error
// sticks, so that code which reads looks as the schema does; and a writer whose
// numbers are the shortest that read back.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_JSONREADER_H
#define MPT_LIB_PRECISION_JSONREADER_H

#include "mpt/Support/Json.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace mpt {
namespace precision {

/// The first thing that was wrong, with its place; "" if nothing was.
struct JsonProblem {
  std::string text;
};

/// A place in a document. After a problem every place is empty, and reading an
/// empty place gives a default.
class JsonNode {
public:
  static constexpr double kHuge = std::numeric_limits<double>::max();

  JsonNode(const llvm::json::Value *value, std::string where,
           JsonProblem &problem)
      : value(value), where(std::move(where)), problem(&problem) {}

  explicit operator bool() const { return value && problem->text.empty(); }
  llvm::StringRef place() const { return where; }
  void fail(const llvm::Twine &what) const {
    if (problem->text.empty())
      problem->text = (where + (where.empty() ? "" : ": ") + what).str();
  }

  bool has(llvm::StringRef key) const {
    const llvm::json::Object *object = value ? value->getAsObject() : nullptr;
    return object && object->get(key);
  }
  /// The member `key`, which has to be there.
  JsonNode field(llvm::StringRef key) const {
    const llvm::json::Object *object = asObject();
    if (!object)
      return empty();
    const llvm::json::Value *member = object->get(key);
    if (!member) {
      fail("'" + key + "' is missing");
      return empty();
    }
    return JsonNode(member, below(key), *problem);
  }
  /// The names of an object's members, in order: the object is a hash table.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    if (const llvm::json::Object *object = asObject())
      for (const auto &member : *object)
        found.push_back(member.first.str());
    llvm::sort(found);
    return found;
  }
  std::vector<JsonNode> items() const {
    std::vector<JsonNode> nodes;
    if (!*this)
      return nodes;
    const llvm::json::Array *array = value->getAsArray();
    if (!array)
      fail("expected an array, found " + found());
    else
      for (const auto &[i, item] : llvm::enumerate(*array))
        nodes.push_back(
            JsonNode(&item, where + "[" + std::to_string(i) + "]", *problem));
    return nodes;
  }
  std::string text() const {
    if (!*this)
      return "";
    std::optional<llvm::StringRef> string = value->getAsString();
    if (!string)
      fail("expected a string, found " + found());
    return string.value_or("").str();
  }
  /// A string that is not empty.
  std::string nonEmpty() const {
    std::string found = text();
    if (*this && found.empty())
      fail("expected a text, found \"\"");
    return found;
  }
  bool boolean() const {
    std::optional<bool> boolean = *this ? value->getAsBoolean() : true;
    if (!boolean)
      fail("expected true or false, found " + found());
    return boolean.value_or(true);
  }
  /// Whether this is null: measured, but without a value.
  bool isNull() const { return value && value->getAsNull(); }
  bool isArray() const { return value && value->getAsArray(); }
  /// A finite number in [low, high].
  double number(double low = 0, double high = kHuge) const {
    if (!*this)
      return low;
    std::optional<double> number = value->getAsNumber();
    if (number && std::isfinite(*number) && *number >= low && *number <= high)
      return *number;
    fail("expected a finite number" +
         (low <= -kHuge  ? std::string()
          : high < kHuge ? " from " + shown(low) + " to " + shown(high)
                         : " of at least " + shown(low)) +
         ", found " + found());
    return low;
  }
  /// A finite number above 0.
  double positive(double high = kHuge) const {
    double found = number(0, high);
    if (*this && found == 0)
      fail("expected more than 0");
    return found;
  }
  int64_t integer(int64_t low) const {
    if (!*this)
      return low;
    std::optional<int64_t> integer = value->getAsInteger();
    if (integer && *integer >= low)
      return *integer;
    fail("expected an integer of at least " + llvm::Twine(low) + ", found " +
         found());
    return low;
  }
  /// A name that `symbolize` knows.
  template <typename Enum>
  Enum name(std::optional<Enum> (*symbolize)(llvm::StringRef)) const {
    std::string name = text();
    std::optional<Enum> known = symbolize(name);
    if (*this && !known)
      fail("'" + name + "' is unknown");
    return known.value_or(Enum());
  }
  /// `"format": format, "version": version`; `hint` is what to do about an
  /// older one.
  void header(llvm::StringRef format, int64_t version,
              llvm::StringRef hint = "") const {
    std::string found = field("format").text();
    if (*this && found != format)
      fail("expected format '" + format + "', found '" + found + "'");
    int64_t number = field("version").integer(0);
    if (*this && number != version)
      fail("expected version " + llvm::Twine(version) + ", found " +
           llvm::Twine(number) + (number < version ? hint : ""));
  }
  /// The same place under another name.
  JsonNode named(const llvm::Twine &name) const {
    return JsonNode(value, name.str(), *problem);
  }

private:
  JsonNode empty() const { return JsonNode(nullptr, where, *problem); }
  std::string below(llvm::StringRef key) const {
    return where + (where.empty() ? "" : ".") + key.str();
  }
  const llvm::json::Object *asObject() const {
    if (!*this)
      return nullptr;
    const llvm::json::Object *object = value->getAsObject();
    if (!object)
      fail("expected an object, found " + found());
    return object;
  }
  static std::string shown(double x) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%g", x);
    return text;
  }
  std::string found() const {
    if (value->getAsObject())
      return "an object";
    if (value->getAsArray())
      return "an array";
    std::string text;
    llvm::raw_string_ostream(text) << *value;
    return text.size() > 40 ? text.substr(0, 40) + "..." : text;
  }

  const llvm::json::Value *value;
  std::string where;
  JsonProblem *problem;
};

/// Reads a file's text with `read`, a function of the document's root. Fails
/// with `source`, which stands for the file, the place and what is wrong there.
template <typename Read>
llvm::Error readDocument(llvm::StringRef text, llvm::StringRef source,
                         Read read) {
  llvm::Expected<llvm::json::Value> document = parseJson(text);
  if (!document)
    return llvm::createStringError(source + ": " +
                                   llvm::toString(document.takeError()));
  JsonProblem problem;
  read(JsonNode(&*document, "", problem));
  if (!problem.text.empty())
    return llvm::createStringError(source + ": " + problem.text);
  return llvm::Error::success();
}

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
