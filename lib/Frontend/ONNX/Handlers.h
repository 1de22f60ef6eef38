//===- Handlers.h - from one ONNX node to mpt ops -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The view a handler has of its node, and the table that finds handlers.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_FRONTEND_ONNX_HANDLERS_H
#define MPT_LIB_FRONTEND_ONNX_HANDLERS_H

#include "GraphImporter.h"

namespace mpt::onnx_import {

/// A node and its operands. Handlers report what is wrong; who asks adds the
/// node's name, op and opset.
class NodeContext {
public:
  NodeContext(GraphImporter &importer, const onnx::NodeProto &node)
      : importer(importer), node(node), attributes(node) {}

  /// Resolves all inputs; fails where one is not defined.
  llvm::Error resolve();

  bool has(int index) const;
  /// The constant that input `index` is, or null.
  const HostTensor *constant(int index) const;
  /// Input `index` as a tensor of the graph; constants are materialized.
  llvm::Expected<mlir::Value> value(int index);
  /// Values of all inputs.
  llvm::Expected<llvm::SmallVector<mlir::Value>> allValues();
  llvm::ArrayRef<int64_t> shape(int index) const;
  int64_t rank(int index) const { return shape(index).size(); }
  /// Integers of a constant input, or an error that says what it is for.
  llvm::Expected<llvm::SmallVector<int64_t>>
  integers(int index, llvm::StringRef what) const;
  llvm::Error expectInputs(int low, int high) const;
  /// Fails if optional output `index` and later ones are used.
  llvm::Error expectOutputs(int count) const;
  /// Fails unless input `index` is a tensor of f32 and returns it.
  llvm::Expected<mlir::Value> real(int index);

  llvm::Error define(int output, mlir::Value value);
  llvm::Error define(int output, HostTensor constant);

  bool allConstant() const;
  llvm::ArrayRef<const HostTensor *> constants() const { return folded; }

  GraphImporter &importer;
  const onnx::NodeProto &node;
  Attributes attributes;

private:
  llvm::SmallVector<Entry *> entries; // null: absent
  llvm::SmallVector<const HostTensor *> folded;
};

using Handler = llvm::Error (*)(NodeContext &);

/// How one ONNX op is imported, for models of opset `since` and later.
struct OpRule {
  const char *opType;
  int64_t since;
  Handler handler;
};

/// The rule of an op, or null.
const OpRule *findRule(llvm::StringRef opType);
/// What to do about an op that is not imported, or empty.
llvm::StringRef remedyFor(llvm::StringRef opType);

// Handlers, by file.
// HandlersElementwise.cpp
llvm::Error importElementwise(NodeContext &node, llvm::StringRef opName,
                              char operandElement, char resultElement);
llvm::Error importMul(NodeContext &node);
llvm::Error importAdd(NodeContext &node);
llvm::Error importGelu(NodeContext &node);
llvm::Error importAnd(NodeContext &node);
llvm::Error importOr(NodeContext &node);
llvm::Error importWhere(NodeContext &node);
llvm::Error importCast(NodeContext &node);
llvm::Error importCastLike(NodeContext &node);
llvm::Error importIsNaN(NodeContext &node);
llvm::Error importDropout(NodeContext &node);
template <Predicate predicate> llvm::Error importCompare(NodeContext &node);
// HandlersShape.cpp
llvm::Error importConstant(NodeContext &node);
llvm::Error importIdentity(NodeContext &node);
llvm::Error importShape(NodeContext &node);
llvm::Error importSize(NodeContext &node);
llvm::Error importReshape(NodeContext &node);
llvm::Error importFlatten(NodeContext &node);
llvm::Error importUnsqueeze(NodeContext &node);
llvm::Error importSqueeze(NodeContext &node);
llvm::Error importExpand(NodeContext &node);
llvm::Error importTranspose(NodeContext &node);
llvm::Error importSlice(NodeContext &node);
llvm::Error importSplit(NodeContext &node);
llvm::Error importGather(NodeContext &node);
llvm::Error importGatherND(NodeContext &node);
/// Only on constants, which are folded before a handler is asked.
llvm::Error importConstantOnly(NodeContext &node);
// HandlersLayers.cpp
llvm::Error importMatMul(NodeContext &node);
llvm::Error importGemm(NodeContext &node);
llvm::Error importSoftmax(NodeContext &node);
llvm::Error importLayerNormalization(NodeContext &node);
llvm::Error importSoftmaxCrossEntropyLoss(NodeContext &node);

} // namespace mpt::onnx_import

#endif // MPT_LIB_FRONTEND_ONNX_HANDLERS_H
