//===- Candidates.cpp - pairs of formats and their names ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The default set of each role, and sets that a user asks for.
//
//===----------------------------------------------------------------------===//

#include "Failure.h"
#include "mpt/Metrics/Metrics.h"

namespace mpt::metrics {

static constexpr num::Format kFormats[] = {
    num::Format::BF16, num::Format::E4M3, num::Format::E5M2, num::Format::INT8};

const char *storageName(num::Format format) {
  switch (format) {
  case num::Format::F32:
    return "f32";
  case num::Format::BF16:
    return "bf16";
  case num::Format::E4M3:
    return "f8E4M3FN";
  case num::Format::E5M2:
    return "f8E5M2";
  case num::Format::INT8:
    return "i8";
  }
  return "";
}

std::vector<Candidate> defaultCandidates(std::string_view role) {
  OperandFormat bf16{num::Format::BF16}, e4m3{num::Format::E4M3},
      e5m2{num::Format::E5M2};
  std::vector<Candidate> result = {{bf16, bf16}, {e4m3, e4m3}};
  if (role != "fprop") {
    result.push_back({e5m2, e4m3});
    result.push_back({e4m3, e5m2});
  }
  return result;
}

static OperandFormat parseFormat(std::string_view name) {
  for (num::Format format : kFormats)
    if (name == storageName(format))
      return {format};
  rt::fail(MPT_ERROR_ARGUMENT, "candidates: format '", name,
           "' is none of bf16, f8E4M3FN, f8E5M2, i8");
}

std::vector<Candidate> parseCandidates(std::string_view text) {
  std::vector<Candidate> result;
  while (true) {
    size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    size_t star = item.find('*');
    if (star == std::string_view::npos)
      rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", item,
               "' is not a pair such as f8E4M3FN*f8E5M2");
    result.push_back({parseFormat(item.substr(0, star)),
                      parseFormat(item.substr(star + 1))});
    if (comma == std::string_view::npos)
      return result;
    text.remove_prefix(comma + 1);
  }
}

} // namespace mpt::metrics
