//===- Checkpoint.cpp - saving and loading the state of training ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A checkpoint is a safetensors file of all parameters, optimizer and scale
// state under their names, with graph hash, version and step number as
// metadata. Loading first finds everything that it needs and only then writes,
// so that a bad file leaves the package as it was.
//
//===----------------------------------------------------------------------===//

#include "Package.h"
#include "SafeTensors.h"

#include <charconv>
#include <cstring>

namespace mpt::rt {

static constexpr char kFormat[] = "mpt-checkpoint", kVersion[] = "1";

void Package::saveCheckpoint(const std::string &path) const {
  refuseDuringStep("save a checkpoint");
  if (damaged)
    fail(MPT_ERROR_STATE, "cannot save a checkpoint: an earlier step failed "
                          "halfway and left the state undefined");
  std::vector<TensorToWrite> tensors;
  for (size_t i = 0; i != description.arguments.size(); ++i) {
    const Tensor &t = description.arguments[i];
    if (!isState(t.kind))
      continue;
    if (!isSet[i])
      fail(MPT_ERROR_STATE, "cannot save a checkpoint: ", kindName(t.kind),
           " '", t.name, "' was never set");
    tensors.push_back({t.name, t.dtype, t.shape, data(t), t.bytes});
  }
  writeSafeTensors(path, tensors,
                   {{"format", kFormat},
                    {"version", kVersion},
                    {"graph_hash", description.graphHash},
                    {"step", std::to_string(steps)}});
}

void Package::loadCheckpoint(const std::string &path) {
  refuseDuringStep("load a checkpoint");
  SafeTensorsFile file(path);
  auto expect = [&](const char *key, const std::string &wanted) {
    std::string found = file.metadata(key).value_or("missing");
    if (found != wanted)
      fail(MPT_ERROR_MISMATCH, "'", path, "': ", key, " is '", found,
           "', expected '", wanted, "'");
  };
  expect("format", kFormat);
  expect("version", kVersion);
  expect("graph_hash", description.graphHash);
  std::string text = file.metadata("step").value_or("missing");
  int64_t step = -1;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), step);
  if (error != std::errc() || end != text.data() + text.size() || step < 0)
    fail(MPT_ERROR_FORMAT, "'", path, "': step is '", text,
         "', expected a number of steps");

  std::vector<const StoredTensor *> stored(description.arguments.size());
  size_t wanted = 0;
  for (size_t i = 0; i != stored.size(); ++i) {
    const Tensor &t = description.arguments[i];
    if (!isState(t.kind))
      continue;
    stored[i] = &file.require(t.name, t.dtype, t.shape);
    ++wanted;
  }
  if (file.tensors().size() != wanted)
    for (const auto &[name, tensor] : file.tensors()) {
      auto it = argumentByName.find(name);
      if (it == argumentByName.end() || !stored[it->second])
        fail(MPT_ERROR_MISMATCH, "'", path, "' has tensor '", name,
             "', which is no state of this package");
    }

  for (size_t i = 0; i != stored.size(); ++i) {
    const Tensor &t = description.arguments[i];
    if (stored[i]) {
      if (t.bytes != 0)
        std::memcpy(data(t), stored[i]->data, static_cast<size_t>(t.bytes));
      isSet[i] = true;
    } else if (t.kind == MPT_DERIVED) {
      std::memset(data(t), 0, static_cast<size_t>(t.bytes));
      initialize(t, i);
    }
  }
  stale = true;
  steps = step;
  damaged = false;
}

void Package::loadParameters(const std::string &path) {
  refuseDuringStep("load parameters");
  SafeTensorsFile file(path);
  std::vector<std::pair<size_t, const StoredTensor *>> found;
  for (size_t i = 0; i != description.arguments.size(); ++i) {
    const Tensor &t = description.arguments[i];
    if (t.kind == MPT_PARAMETER)
      found.emplace_back(i, &file.require(t.name, t.dtype, t.shape));
  }
  for (auto [index, stored] : found) {
    if (stored->bytes != 0)
      std::memcpy(data(description.arguments[index]), stored->data,
                  static_cast<size_t>(stored->bytes));
    isSet[index] = true;
  }
  stale = true;
}

void Package::exportWeights(const std::string &path) const {
  refuseDuringStep("export weights");
  std::vector<TensorToWrite> tensors;
  for (size_t i = 0; i != description.arguments.size(); ++i) {
    const Tensor &t = description.arguments[i];
    if (t.kind != MPT_PARAMETER)
      continue;
    if (!isSet[i])
      fail(MPT_ERROR_STATE, "cannot export weights: parameter '", t.name,
           "' was never set");
    tensors.push_back({t.name, t.dtype, t.shape, data(t), t.bytes});
  }
  // transformers' from_pretrained asks for this metadata.
  writeSafeTensors(path, tensors, {{"format", "pt"}});
}

} // namespace mpt::rt
