//===- NodeContext.cpp - the operands and results of a node ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Resolves a node's inputs to constants or tensors of the graph and defines its
// outputs.
//
//===----------------------------------------------------------------------===//

#include "Handlers.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::Twine;

/// What every refusal of an inference export tells the user.
static constexpr const char *kExportRemedy =
    "export the model with mpt.export(model, batch) in Python, or with "
    "torch.onnx.export(..., dynamo=True, optimize=False)";

/// Fails where a product reads a weight that lost its name.
static Error checkFolded(const onnx::NodeProto &node,
                         const FileTensor &tensor) {
  bool isProduct = node.op_type() == "MatMul" || node.op_type() == "Gemm";
  if (!isProduct || !isAnonymous(tensor.name) || tensor.shape.size() != 2 ||
      tensor.dataType != onnx::TensorProto::FLOAT)
    return Error::success();
  return createStringError("its operand '" + tensor.name + "' [" +
                           Twine(tensor.shape[0]) + ", " +
                           Twine(tensor.shape[1]) +
                           "] is a weight that the exporter folded into an "
                           "anonymous constant, so that "
                           "the parameter would not be trained; " +
                           kExportRemedy);
}

Error NodeContext::resolve() {
  for (const std::string &name : node.input()) {
    if (name.empty()) {
      entries.push_back(nullptr);
      folded.push_back(nullptr);
      continue;
    }
    auto found = importer.values.find(name);
    if (found == importer.values.end()) {
      auto producer = importer.producers.find(name);
      if (producer == importer.producers.end())
        return createStringError("input '" + name + "' is defined nowhere");
      bool cyclic = importer.dependsOn(*producer->second, node);
      return createStringError(
          "input '" + name + "' is computed later, by node '" +
          producer->second->name() + "': the graph is " +
          (cyclic ? "cyclic" : "not in topological order"));
    }
    Entry &entry = found->second;
    if (entry.file) {
      if (Error error = checkFolded(node, *entry.file))
        return error;
      if (!entry.constant) {
        auto host = toHostTensor(*entry.file);
        if (!host)
          return host.takeError();
        entry.constant = std::make_shared<const HostTensor>(std::move(*host));
      }
    }
    entries.push_back(&entry);
    folded.push_back(entry.constant.get());
  }
  return Error::success();
}

bool NodeContext::has(int index) const {
  return index < static_cast<int>(entries.size()) && entries[index];
}

const HostTensor *NodeContext::constant(int index) const {
  return has(index) ? folded[index] : nullptr;
}

Expected<Value> NodeContext::value(int index) {
  if (!has(index))
    return createStringError("input " + Twine(index) + " is missing");
  Entry &entry = *entries[index];
  if (!entry.value) {
    ElementsAttr attribute =
        toAttribute(*entry.constant, importer.builder.getContext());
    if (!attribute)
      return createStringError("input " + Twine(index) + " '" +
                               node.input(index) + "' has element type " +
                               dataTypeName(entry.constant->dataType) +
                               ", expected FLOAT, INT32, INT64 or BOOL");
    entry.value = importer.constant(attribute);
  }
  return entry.value;
}

Expected<SmallVector<Value>> NodeContext::allValues() {
  SmallVector<Value> values;
  for (int i = 0; i < node.input_size(); ++i) {
    auto operand = value(i);
    if (!operand)
      return operand.takeError();
    values.push_back(*operand);
  }
  return values;
}

ArrayRef<int64_t> NodeContext::shape(int index) const {
  if (const HostTensor *host = constant(index))
    return host->shape;
  return cast<RankedTensorType>(entries[index]->value.getType()).getShape();
}

Expected<SmallVector<int64_t>> NodeContext::integers(int index,
                                                     StringRef what) const {
  const HostTensor *host = constant(index);
  if (!host)
    return createStringError("expected a constant " + what +
                             "; it depends on the graph's inputs");
  if (host->isReal() || host->shape.size() > 1)
    return createStringError("expected an integer vector for " + what);
  return SmallVector<int64_t>(ArrayRef(host->integers));
}

Error NodeContext::expectInputs(int low, int high) const {
  int present = node.input_size();
  bool fits = present >= low && present <= high;
  for (int i = 0; fits && i < low; ++i)
    fits = has(i);
  if (fits)
    return Error::success();
  return createStringError("expected " + Twine(low) +
                           (high > low ? " to " + std::to_string(high) : "") +
                           " inputs, found " + Twine(present));
}

Error NodeContext::expectOutputs(int count) const {
  for (int i = count; i < node.output_size(); ++i)
    if (!node.output(i).empty() && importer.used.contains(node.output(i)))
      return createStringError(
          "its output " + Twine(i) + " '" + node.output(i) +
          "' is used, expected only the first " + Twine(count) + " to be");
  return Error::success();
}

Expected<Value> NodeContext::real(int index) {
  auto operand = value(index);
  if (!operand)
    return operand;
  auto type = cast<RankedTensorType>(operand->getType());
  if (type.getElementType().isF32())
    return operand;
  std::string found;
  llvm::raw_string_ostream(found) << type;
  return createStringError("expected an f32 tensor as input " + Twine(index) +
                           ", found " + found);
}

Error NodeContext::define(int output, Value value) {
  if (output >= node.output_size())
    return createStringError("output " + Twine(output) + " is missing");
  Entry entry;
  entry.value = value;
  return importer.define(node.output(output), std::move(entry));
}

Error NodeContext::define(int output, HostTensor constant) {
  if (output >= node.output_size())
    return createStringError("output " + Twine(output) + " is missing");
  Entry entry;
  entry.constant = std::make_shared<const HostTensor>(std::move(constant));
  return importer.define(node.output(output), std::move(entry));
}

bool NodeContext::allConstant() const {
  for (auto [entry, host] : llvm::zip(entries, folded))
    if (entry && !host)
      return false;
  return true;
}
