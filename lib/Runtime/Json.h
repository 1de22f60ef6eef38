//===- Json.h - reading JSON with located errors ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A cursor over a parsed JSON document that knows where it is, so that each
// accessor's failure says which value of which file is not what it should be.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_JSON_H
#define MPT_LIB_RUNTIME_JSON_H

#include "Failure.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace mpt::rt {

using Json = nlohmann::json;

class JsonCursor {
public:
  JsonCursor(const Json &value, std::string where)
      : value(value), where(std::move(where)) {}

  bool has(const char *key) const {
    return value.is_object() && value.contains(key);
  }

  /// The member `key`, which must exist.
  JsonCursor at(const char *key) const {
    if (!value.is_object())
      expected("an object");
    auto it = value.find(key);
    if (it == value.end())
      fail(MPT_ERROR_FORMAT, where, ": member '", key, "' is missing");
    return {*it, where + "." + key};
  }

  JsonCursor at(size_t index) const {
    return {value.at(index), where + "[" + std::to_string(index) + "]"};
  }

  /// The number of elements of an array.
  size_t size() const {
    if (!value.is_array())
      expected("an array");
    return value.size();
  }

  const std::string &string() const {
    if (!value.is_string())
      expected("a string");
    return value.get_ref<const std::string &>();
  }

  int64_t integer() const {
    bool tooLarge = value.is_number_unsigned() &&
                    value.get<uint64_t>() > uint64_t(INT64_MAX);
    if (!value.is_number_integer() || tooLarge)
      expected("a 64-bit integer");
    return value.get<int64_t>();
  }

  /// An integer of at least `low`.
  int64_t integer(int64_t low) const {
    int64_t result = integer();
    if (result < low)
      expected("an integer of at least " + std::to_string(low));
    return result;
  }

  bool isNumber() const { return value.is_number(); }
  double number() const {
    if (!value.is_number())
      expected("a number");
    return value.get<double>();
  }

  [[noreturn]] void expected(const std::string &what) const {
    std::string found =
        value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (found.size() > 60)
      found = found.substr(0, 60) + "...";
    fail(MPT_ERROR_FORMAT, where, " is ", found, ", expected ", what);
  }

  const Json &json() const { return value; }
  const std::string &location() const { return where; }

private:
  const Json &value;
  std::string where;
};

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_JSON_H
