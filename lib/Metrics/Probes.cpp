//===- Probes.cpp - which products a probe rounds -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reads the text of probes (Profiler.h) against the products of a step.
//
//===----------------------------------------------------------------------===//

#include "Failure.h"
#include "Profiler.h"

#include <algorithm>
#include <charconv>

namespace mpt::metrics {

namespace {

/// Number of the layer in a name such as "encoder.layer.3.output.dense".
std::optional<int> layerOf(const std::string &name) {
  for (const char *word : {"layer.", "layers."}) {
    std::string_view key = word;
    for (size_t at = name.find(key); at != std::string::npos;
         at = name.find(key, at + 1)) {
      if (at != 0 && name[at - 1] != '.')
        continue;
      const char *first = name.data() + at + key.size();
      const char *last = name.data() + name.size();
      int layer = 0;
      auto [end, error] = std::from_chars(first, last, layer);
      if (error == std::errc() && end != last && *end == '.')
        return layer;
    }
  }
  return std::nullopt;
}

/// "dgrad@3" or "whole" into `probe`.
void parseGroup(std::string_view text, ProbeModel &probe) {
  size_t at = text.find('@');
  std::string_view group = text.substr(0, at);
  bool known = group == "whole";
  for (Role role : {Role::Fprop, Role::Dgrad, Role::Wgrad})
    if (group == roleName(role)) {
      probe.role = role;
      known = true;
    }
  if (!known)
    rt::fail(MPT_ERROR_ARGUMENT, "probes: group '", group,
             "' is none of fprop, dgrad, wgrad, whole");
  if (at == std::string_view::npos)
    return;
  std::string_view number = text.substr(at + 1);
  int layer = 0;
  const char *last = number.data() + number.size();
  auto [end, error] = std::from_chars(number.data(), last, layer);
  if (error != std::errc() || end != last || layer < 0)
    rt::fail(MPT_ERROR_ARGUMENT, "probes: layer '", number, "' of '", text,
             "' is not a number");
  probe.layer = layer;
}

ProbeModel parseProbe(std::string_view text, const StepModel &model) {
  size_t space = text.find(' ');
  if (space == std::string_view::npos)
    rt::fail(MPT_ERROR_ARGUMENT, "probes: '", text,
             "' is not a group and a candidate such as 'dgrad i8*i8'");
  ProbeModel probe;
  parseGroup(text.substr(0, space), probe);
  probe.candidate = text.substr(space + 1);
  std::vector<Candidate> sides[3];
  for (GradientSide side :
       {GradientSide::None, GradientSide::Lhs, GradientSide::Rhs})
    sides[int(side)] = parseCandidates(probe.candidate, side);
  if (sides[0].size() != 1)
    rt::fail(MPT_ERROR_ARGUMENT, "probes: '", probe.candidate,
             "' is more than one candidate");
  probe.formats = sides[int(GradientSide::None)][0];
  // The second format is the gradient's: where there is none, both operands
  // are held as those that are none.
  sides[int(GradientSide::None)][0].rhs = sides[int(GradientSide::None)][0].lhs;
  for (const ProductModel &product : model.products()) {
    std::optional<Candidate> &candidate = probe.candidates.emplace_back();
    if ((probe.role && *probe.role != product.role) ||
        (probe.layer && layerOf(product.name) != probe.layer))
      continue;
    candidate = sides[int(product.gradientSide)][0];
    ++probe.products;
  }
  if (probe.products == 0)
    rt::fail(MPT_ERROR_ARGUMENT, "probes: the step has no product of '",
             text.substr(0, space), "'");
  return probe;
}

} // namespace

std::vector<ProbeModel> parseProbes(std::string_view text,
                                    const StepModel &model) {
  std::vector<ProbeModel> probes;
  while (true) {
    size_t end = text.find(';');
    ProbeModel probe = parseProbe(text.substr(0, end), model);
    bool isNew = std::none_of(probes.begin(), probes.end(),
                              [&](const ProbeModel &other) {
                                return other.candidates == probe.candidates;
                              });
    if (isNew)
      probes.push_back(std::move(probe));
    if (end == std::string_view::npos)
      return probes;
    text.remove_prefix(end + 1);
  }
}

} // namespace mpt::metrics
