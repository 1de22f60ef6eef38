//===- HandlersLayers.cpp - products, normalisation and loss --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The ops that carry a layer's parameters. Transposes in front of a product
// become its flags.
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

using Shape = SmallVector<int64_t>;

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

namespace {
/// An operand of a product and whether its last two dims are swapped.
struct Factor {
  Value value;
  bool transposed = false;
};
} // namespace

/// Sees through a transpose of the last two dims.
static Factor withoutTranspose(Value value) {
  auto op = value.getDefiningOp<TransposeOp>();
  if (!op)
    return {value};
  Shape swapped =
      llvm::to_vector(llvm::seq<int64_t>(0, op.getPermutation().size()));
  if (swapped.size() < 2)
    return {value};
  std::swap(swapped[swapped.size() - 1], swapped[swapped.size() - 2]);
  if (op.getPermutation() == ArrayRef<int64_t>(swapped))
    return {op.getX(), true};
  return {value};
}

/// The transpose [.., i, .., j] behind `value`, split into one that keeps the
/// last two dims in ascending order and a swap of those: [0, 2, 3, 1] is
/// [0, 2, 1, 3], then a swap.
static Factor splitTranspose(GraphImporter &importer, Value value) {
  auto op = value.getDefiningOp<TransposeOp>();
  if (!op || op.getPermutation().size() < 3)
    return withoutTranspose(value);
  Shape permutation(op.getPermutation());
  size_t rank = permutation.size();
  if (permutation[rank - 2] < permutation[rank - 1])
    return {value};
  std::swap(permutation[rank - 2], permutation[rank - 1]);
  return {importer.transpose(op.getX(), permutation), true};
}

static Expected<Value> buildProduct(NodeContext &node, Value lhs, Value rhs) {
  GraphImporter &importer = node.importer;
  ArrayRef<int64_t> left = shapeOf(lhs), right = shapeOf(rhs);
  if (left.size() < 2 || right.size() < 2)
    return createStringError(
        "expected operands of rank 2 or more, found ranks " +
        Twine(left.size()) + " and " + Twine(right.size()));
  if (left.back() != right[right.size() - 2])
    return createStringError("inner dims differ: " + Twine(left.back()) +
                             " and " + Twine(right[right.size() - 2]));
  if (right.size() > 2) { // one batch shape for both
    auto batch = broadcastedShape(left.drop_back(2), right.drop_back(2));
    if (!batch)
      return batch.takeError();
    Shape leftFull = *batch, rightFull = *batch;
    llvm::append_range(leftFull, left.take_back(2));
    llvm::append_range(rightFull, right.take_back(2));
    lhs = importer.broadcast(lhs, leftFull);
    rhs = importer.broadcast(rhs, rightFull);
  }
  Factor r = splitTranspose(importer, rhs), l = {lhs};
  // A batched, transposed lhs has no product with an unbatched rhs.
  if (left.size() == 2 || right.size() > 2)
    l = splitTranspose(importer, lhs);
  return importer
      .create<MatmulOp>(l.value, r.value, l.transposed, r.transposed,
                        /*fold_batch=*/false, RoleAttr(), MetricsAttr())
      .getResult();
}

Error mpt::onnx_import::importMatMul(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto lhs = node.real(0), rhs = node.real(1);
  if (!lhs)
    return llvm::joinErrors(lhs.takeError(), rhs.takeError());
  if (!rhs)
    return rhs.takeError();
  auto product = buildProduct(node, *lhs, *rhs);
  if (!product)
    return product.takeError();
  return node.define(0, *product);
}

/// value * factor, or value itself where factor is 1.
static Value scaled(GraphImporter &importer, Value value, float factor) {
  if (factor == 1.0f)
    return value;
  Value scalar =
      ConstantOp::scalar(importer.builder, importer.location, factor);
  return importer.create<MulOp>(value, scalar);
}

Error mpt::onnx_import::importGemm(NodeContext &node) {
  GraphImporter &importer = node.importer;
  if (Error error = node.expectInputs(2, 3))
    return error;
  SmallVector<Value> operands;
  for (int i = 0; i < (node.has(2) ? 3 : 2); ++i) {
    auto operand = node.real(i);
    if (!operand)
      return operand.takeError();
    operands.push_back(*operand);
  }
  for (int i : {0, 1}) {
    if (node.rank(i) != 2)
      return createStringError("expected operands of rank 2, found rank " +
                               Twine(node.rank(i)));
    if (node.attributes.integer(i == 0 ? "transA" : "transB", 0))
      operands[i] = importer.transpose(operands[i], {1, 0});
  }
  auto product = buildProduct(node, operands[0], operands[1]);
  if (!product)
    return product.takeError();
  Value y = scaled(importer, *product, node.attributes.real("alpha", 1.0f));
  if (operands.size() == 2)
    return node.define(0, y);
  auto shape = broadcastedShape(shapeOf(y), shapeOf(operands[2]));
  if (!shape)
    return shape.takeError();
  if (ArrayRef<int64_t>(*shape) != shapeOf(y))
    return createStringError("the bias is larger than the product");
  Argument *bias = importer.parameterOf(operands[2]);
  Argument *weight =
      importer.parameterOf(y.getDefiningOp()->getOperands().back());
  if (bias && node.rank(2) <= 1)
    importer.vectorUses.push_back({operands[2], "bias of a product",
                                   weight ? weight->name : std::string(),
                                   node.node.name()});
  Value addend =
      scaled(importer, operands[2], node.attributes.real("beta", 1.0f));
  return node.define(0, importer.create<AddOp>(y, addend));
}

//===----------------------------------------------------------------------===//
// Normalisation and loss
//===----------------------------------------------------------------------===//

/// Fails unless `axis` is the last of input 0.
static Error expectLastAxis(const NodeContext &node, int64_t otherwise) {
  int64_t given = node.attributes.integer("axis", otherwise);
  auto axis = normalizeAxis(given, node.rank(0));
  if (!axis)
    return axis.takeError();
  if (*axis != node.rank(0) - 1)
    return createStringError("expected the last axis (" +
                             Twine(node.rank(0) - 1) + "), found axis " +
                             Twine(*axis));
  return Error::success();
}

Error mpt::onnx_import::importSoftmax(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  auto x = node.real(0);
  if (!x)
    return x.takeError();
  if (Error error = expectLastAxis(node, -1))
    return error;
  return node.define(0, node.importer.create<SoftmaxOp>(*x));
}

Error mpt::onnx_import::importLayerNormalization(NodeContext &node) {
  GraphImporter &importer = node.importer;
  if (Error error = node.expectInputs(2, 3))
    return error;
  auto x = node.real(0), gain = node.real(1);
  if (!x)
    return llvm::joinErrors(x.takeError(), gain.takeError());
  if (!gain)
    return gain.takeError();
  if (Error error = expectLastAxis(node, -1))
    return error;
  if (node.attributes.integer("stash_type", 1) != 1)
    return createStringError("expected stash_type = 1 (statistics in FLOAT)");
  int64_t columns = node.shape(0).back();
  auto vector = RankedTensorType::get({columns}, importer.builder.getF32Type());
  Value bias;
  if (node.has(2)) {
    auto given = node.real(2);
    if (!given)
      return given.takeError();
    bias = *given;
  } else {
    bias = importer.constant(DenseElementsAttr::get(vector, 0.0f));
  }
  if (gain->getType() != vector || bias.getType() != vector)
    return createStringError("expected scale and bias of shape [" +
                             Twine(columns) + "]");
  auto record = [&](Value value, const char *role) {
    if (importer.parameterOf(value))
      importer.vectorUses.push_back(
          {value, role, importer.currentScope(), node.node.name()});
  };
  record(*gain, "gain");
  record(bias, "bias of a normalisation");
  Shape row(node.shape(0));
  row.back() = 1;
  auto statistic = RankedTensorType::get(row, importer.builder.getF32Type());
  float epsilon = node.attributes.real("epsilon", 1e-5f);
  auto op = importer.create<LayerNormOp>(
      x->getType(), statistic, statistic, *x, *gain, bias,
      importer.builder.getF32FloatAttr(epsilon));
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    if (static_cast<int>(i) < node.node.output_size())
      if (Error error = node.define(i, result))
        return error;
  return Error::success();
}

Error mpt::onnx_import::importSoftmaxCrossEntropyLoss(NodeContext &node) {
  if (Error error = node.expectInputs(2, 3))
    return error;
  if (Error error = node.expectOutputs(1))
    return error;
  if (node.has(2))
    return createStringError("class weights are not supported");
  std::string reduction = node.attributes.string("reduction", "mean");
  if (reduction != "mean")
    return createStringError("expected reduction = \"mean\", found \"" +
                             reduction + "\"");
  auto logits = node.real(0), labels = node.value(1);
  if (!logits)
    return llvm::joinErrors(logits.takeError(), labels.takeError());
  if (!labels)
    return labels.takeError();
  if (node.rank(0) != 2)
    return createStringError("expected scores [N, C] of rank 2, found rank " +
                             Twine(node.rank(0)));
  // Without the attribute no label is ignored: -1 is no valid label either way.
  auto loss = node.importer.crossEntropy(
      *logits, *labels, node.attributes.integer("ignore_index", -1));
  if (!loss)
    return loss.takeError();
  return node.define(0, *loss);
}
