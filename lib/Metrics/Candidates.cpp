//===- Candidates.cpp - pairs of formats and their names ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The default set of each kind of product, and sets that a user asks for.
//
//===----------------------------------------------------------------------===//

#include "Scales.h"

#include "Failure.h"

#include <charconv>
#include <cstdio>
#include <tuple>

namespace mpt::metrics {

static constexpr num::Format kFormats[] = {num::Format::BF16, num::Format::E4M3,
                                           num::Format::E5M2, num::Format::INT8,
                                           num::Format::F32};

OperandFormat OperandFormat::of(num::Format storage) {
  OperandFormat result;
  result.storage = storage;
  if (storage != num::Format::BF16 && storage != num::Format::F32) {
    result.scale = Granularity::PerTensor;
    result.recipe = Recipe::Current;
  }
  return result;
}

bool OperandFormat::operator==(const OperandFormat &o) const {
  auto members = [](const OperandFormat &f) {
    return std::tie(f.storage, f.scale, f.recipe, f.rounding, f.history,
                    f.margin, f.fixedScale);
  };
  return members(*this) == members(o);
}

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

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

std::string formatText(const OperandFormat &format) {
  std::string options;
  auto add = [&](const std::string &option) {
    options += (options.empty() ? "" : ",") + option;
  };
  if (format.scale == Granularity::PerVector)
    add("per_vector");
  else if (format.scale == Granularity::Block128)
    add("block128");
  else if (format.scale == Granularity::Mx)
    add("mx");
  if (format.recipe == Recipe::Delayed)
    add("delayed=" + std::to_string(format.history));
  if (format.recipe == Recipe::Fixed) {
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", double(format.fixedScale));
    add(std::string("fixed=") + number);
  }
  if (format.margin != 0)
    add("margin=" + std::to_string(format.margin));
  if (format.rounding == Rounding::Stochastic)
    add("stochastic");
  std::string name = storageName(format.storage);
  return options.empty() ? name : name + "[" + options + "]";
}

std::string candidateText(const Candidate &candidate) {
  return formatText(candidate.lhs) + "*" + formatText(candidate.rhs);
}

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

namespace {

/// The part of `text` up to the first `separator` outside brackets, which it
/// takes off; `more` says whether there was a separator.
std::string_view takeItem(std::string_view &text, char separator, bool &more) {
  size_t at = 0;
  for (bool inside = false; at < text.size(); ++at) {
    if (text[at] == '[' || text[at] == ']')
      inside = text[at] == '[';
    else if (text[at] == separator && !inside)
      break;
  }
  std::string_view item = text.substr(0, at);
  more = at < text.size();
  text.remove_prefix(more ? at + 1 : at);
  return item;
}

template <typename T>
T parseNumber(std::string_view value, std::string_view format) {
  T number{};
  const char *end = value.data() + value.size();
  auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || stop != end)
    rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", format, "': '", value,
             "' is not a number");
  return number;
}

/// Adds one option, such as "per_vector" or "delayed=16".
void parseOption(std::string_view option, std::string_view text,
                 OperandFormat &format) {
  size_t equals = option.find('=');
  std::string_view name = option.substr(0, equals), value;
  if (equals != std::string_view::npos)
    value = option.substr(equals + 1);
  if (option == "per_tensor") {
    format.scale = Granularity::PerTensor;
  } else if (option == "per_vector") {
    format.scale = Granularity::PerVector;
  } else if (option == "block128") {
    format.scale = Granularity::Block128;
  } else if (option == "mx") {
    format.scale = Granularity::Mx;
  } else if (option == "nearest") {
    format.rounding = Rounding::Nearest;
  } else if (option == "stochastic") {
    format.rounding = Rounding::Stochastic;
  } else if (option == "current") {
    format.recipe = Recipe::Current;
  } else if (name == "delayed") {
    format.recipe = Recipe::Delayed;
    format.history = parseNumber<int>(value, text);
  } else if (name == "fixed") {
    format.recipe = Recipe::Fixed;
    format.fixedScale = parseNumber<float>(value, text);
  } else if (name == "margin") {
    format.margin = parseNumber<int>(value, text);
  } else {
    rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", text, "': option '", option,
             "' is none of per_tensor, per_vector, block128, mx, nearest, "
             "stochastic, current, delayed=, fixed=, margin=");
  }
}

OperandFormat parseFormat(std::string_view text) {
  size_t bracket = text.find('[');
  std::string_view name = text.substr(0, bracket);
  const num::Format *found = nullptr;
  for (const num::Format &format : kFormats)
    if (name == storageName(format))
      found = &format;
  if (!found)
    rt::fail(MPT_ERROR_ARGUMENT, "candidates: format '", name,
             "' is none of bf16, f8E4M3FN, f8E5M2, i8, f32");
  OperandFormat format = OperandFormat::of(*found);
  if (bracket != std::string_view::npos) {
    std::string_view options = text.substr(bracket + 1);
    if (options.empty() || options.back() != ']')
      rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", text,
               "' does not end in ']'");
    options.remove_suffix(1);
    for (bool more = true; more;)
      parseOption(takeItem(options, ',', more), text, format);
  }
  checkFormat(format);
  return format;
}

} // namespace

std::vector<Candidate> parseCandidates(std::string_view text,
                                       GradientSide gradient) {
  std::vector<Candidate> result;
  for (bool more = true; more;) {
    std::string_view item = takeItem(text, ',', more), second = item;
    bool isPair = false;
    std::string_view first = takeItem(second, '*', isPair);
    if (!isPair)
      rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", item,
               "' is not a pair such as f8E4M3FN*f8E5M2");
    Candidate candidate{parseFormat(first), parseFormat(second)};
    if (gradient == GradientSide::Lhs)
      std::swap(candidate.lhs, candidate.rhs);
    result.push_back(candidate);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Defaults
//===----------------------------------------------------------------------===//

std::vector<Candidate> defaultCandidates(GradientSide gradient) {
  std::vector<Candidate> result;
  auto add = [&](OperandFormat other, OperandFormat gradientFormat) {
    if (gradient == GradientSide::Lhs)
      std::swap(other, gradientFormat);
    result.push_back({other, gradientFormat});
  };
  auto formatOf = [](num::Format storage, Granularity scale) {
    OperandFormat format = OperandFormat::of(storage);
    format.scale = scale;
    return format;
  };
  using num::Format;
  OperandFormat bf16 = OperandFormat::of(Format::BF16);
  add(bf16, bf16);
  constexpr std::pair<Format, Format> pairs[] = {{Format::E4M3, Format::E4M3},
                                                 {Format::E4M3, Format::E5M2},
                                                 {Format::INT8, Format::INT8}};
  for (Rounding rounding : {Rounding::Nearest, Rounding::Stochastic})
    for (auto [other, gradientFormat] : pairs)
      for (Granularity scale :
           {Granularity::PerTensor, Granularity::PerVector}) {
        bool e5m2 = gradientFormat == Format::E5M2;
        bool stochastic = rounding == Rounding::Stochastic;
        if (gradient == GradientSide::None && (e5m2 || stochastic))
          continue;
        if (e5m2 && stochastic && scale == Granularity::PerVector)
          continue;
        OperandFormat second = formatOf(gradientFormat, scale);
        second.rounding = rounding;
        add(formatOf(other, scale), second);
      }
  return result;
}

} // namespace mpt::metrics
