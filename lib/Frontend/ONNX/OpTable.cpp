//===- OpTable.cpp - which ONNX ops are imported, and how -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One row per op. `since` is the first opset whose definition the handler
// implements; later versions only add types.
//
//===----------------------------------------------------------------------===//

#include "Handlers.h"

using namespace mpt;
using namespace mpt::onnx_import;

namespace {
/// Ops that map to one elementwise mpt op of f32 (or `element`) operands.
template <typename Op, char element = 'f'>
llvm::Error elementwise(NodeContext &node) {
  int inputs = Op::template hasTrait<mlir::OpTrait::OneOperand>() ? 1 : 2;
  if (llvm::Error error = node.expectInputs(inputs, inputs))
    return error;
  return importElementwise(node, Op::getOperationName(), element, element);
}

const OpRule kRules[] = {
    // Elementwise.
    {"Add", 14, importAdd},
    {"And", 7, importAnd},
    {"Cast", 9, importCast},
    {"CastLike", 15, importCastLike},
    {"Div", 14, elementwise<DivOp>},
    {"Dropout", 12, importDropout},
    {"Equal", 11, importCompare<Predicate::EQ>},
    {"Erf", 9, elementwise<ErfOp>},
    {"Exp", 13, elementwise<ExpOp>},
    {"Gelu", 20, importGelu},
    {"Greater", 9, importCompare<Predicate::GT>},
    {"GreaterOrEqual", 12, importCompare<Predicate::GE>},
    {"IsNaN", 9, importIsNaN},
    {"Less", 9, importCompare<Predicate::LT>},
    {"LessOrEqual", 12, importCompare<Predicate::LE>},
    {"Log", 13, elementwise<LogOp>},
    {"Mul", 14, importMul},
    {"Neg", 13, elementwise<NegOp>},
    {"Not", 1, elementwise<NotOp, 'b'>},
    {"Or", 7, importOr},
    {"Sqrt", 13, elementwise<SqrtOp>},
    {"Sub", 14, elementwise<SubOp>},
    {"Tanh", 13, elementwise<TanhOp>},
    {"Where", 9, importWhere},
    // Views.
    {"Constant", 1, importConstant},
    {"Expand", 8, importExpand},
    {"Flatten", 13, importFlatten},
    {"Gather", 13, importGather},
    {"GatherND", 12, importGatherND},
    {"Identity", 1, importIdentity},
    {"Reshape", 14, importReshape},
    {"Shape", 15, importShape},
    {"Size", 1, importSize},
    {"Slice", 10, importSlice},
    {"Split", 13, importSplit},
    {"Squeeze", 13, importSqueeze},
    {"Transpose", 1, importTranspose},
    {"Unsqueeze", 13, importUnsqueeze},
    // Layers.
    {"Gemm", 11, importGemm},
    {"LayerNormalization", 17, importLayerNormalization},
    {"MatMul", 9, importMatMul},
    {"Softmax", 13, importSoftmax},
    {"SoftmaxCrossEntropyLoss", 13, importSoftmaxCrossEntropyLoss},
    // Folded on constants only.
    {"Concat", 13, importConstantOnly},
    {"ConstantOfShape", 9, importConstantOnly},
    {"GatherElements", 13, importConstantOnly},
    {"Max", 13, importConstantOnly},
    {"Min", 13, importConstantOnly},
    {"Mod", 13, importConstantOnly},
    {"Range", 11, importConstantOnly},
    {"ReduceProd", 13, importConstantOnly},
};
} // namespace

const OpRule *mpt::onnx_import::findRule(llvm::StringRef opType) {
  const auto *found = llvm::find_if(
      kRules, [&](const OpRule &rule) { return opType == rule.opType; });
  return found == std::end(kRules) ? nullptr : found;
}

llvm::StringRef mpt::onnx_import::remedyFor(llvm::StringRef opType) {
  if (opType == "Attention")
    return "; export with attn_implementation=\"eager\", as mpt.export(model, "
           "batch) in Python does";
  if (opType == "If" || opType == "Loop" || opType == "Scan")
    return "; control flow depends on the data and has no static graph";
  return {};
}
