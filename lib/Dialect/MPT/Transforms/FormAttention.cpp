//===- FormAttention.cpp - attention becomes one op -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Finds, around each softmax, the products and what is between them that are
// attention and its gradient, checks that nothing else reads what a kernel
// would not store, and puts one op each in their place.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/Storage.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

#define DEBUG_TYPE "mpt-form-attention"

namespace mpt {
#define GEN_PASS_DEF_FORMATTENTION
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}
Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

std::string text(Type type) {
  std::string result;
  llvm::raw_string_ostream(result) << type;
  return result;
}

/// The value of a rank-0 or splat f32 constant.
std::optional<float> splatOf(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto splat =
      constant ? dyn_cast<SplatElementsAttr>(constant.getValue()) : nullptr;
  if (!splat || !splat.getElementType().isF32())
    return std::nullopt;
  return splat.getSplatValue<APFloat>().convertToFloat();
}

/// The value of a rank-0 i64 constant.
std::optional<int64_t> integerOf(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto splat =
      constant ? dyn_cast<SplatElementsAttr>(constant.getValue()) : nullptr;
  if (!splat || !splat.getElementType().isInteger(64))
    return std::nullopt;
  return splat.getSplatValue<int64_t>();
}

/// The first user of `value` that is an `Op` for which `holds`.
template <typename Op>
Op userOf(Value value, llvm::function_ref<bool(Op)> holds) {
  for (Operation *user : value.getUsers())
    if (auto op = dyn_cast<Op>(user); op && holds(op))
      return op;
  return nullptr;
}
template <typename Op> Op userOf(Value value) {
  return userOf<Op>(value, [](Op) { return true; });
}

/// The product of these codes with these flags that reads `value`.
ScaledMatmulOp productOf(Value value, Value lhs, Value rhs, bool transposeLhs,
                         bool transposeRhs) {
  return userOf<ScaledMatmulOp>(value, [&](ScaledMatmulOp product) {
    return (!lhs || product.getLhs() == lhs) &&
           (!rhs || product.getRhs() == rhs) && !product.getFoldBatch() &&
           product.getTransposeLhs() == transposeLhs &&
           product.getTransposeRhs() == transposeRhs;
  });
}

/// The product of two f32 tensors, in any order.
MulOp timesOf(Value value, Value other) {
  return userOf<MulOp>(value, [&](MulOp mul) {
    return (mul.getLhs() == value && mul.getRhs() == other) ||
           (mul.getRhs() == value && mul.getLhs() == other);
  });
}

/// Whether codes are no more than values rounded to BF16.
bool isRounding(QuantizeOp op) {
  return op && !op.getScale() && elementOf(op.getY()).isBF16();
}

/// The one rounding to BF16 of a value, null if it is not held so.
QuantizeOp roundingOf(Value value) {
  return userOf<QuantizeOp>(value,
                            [](QuantizeOp op) { return isRounding(op); });
}

//===----------------------------------------------------------------------===//
// What attention looks like
//===----------------------------------------------------------------------===//

/// Attention around one softmax. Matching returns why this is no attention that
/// a kernel computes, "" if it is.
struct Match {
  SoftmaxOp softmax;
  /// Null unless the softmax is attention's.
  Operation *context = nullptr;

  Value query, key, value, bias, gradOutput;
  Value factor; // of the scores; null if 1
  DropoutOp dropout;
  QuantizeOp weights;
  ScaledMatmulOp scores, gradValue, gradWeights, gradQuery, gradKey;
  /// What the ops take the place of.
  llvm::SetVector<Operation *> members;

  explicit Match(SoftmaxOp softmax) : softmax(softmax) {}

  bool findContext();
  std::string forward();
  std::string backward();
  std::string closed();

private:
  std::string scoresOf(Value x);
  std::string operands();
  std::string layout(StringRef what, Value operand);
  std::string gradientOfSoftmax(Value gradient);
};

/// Whether the softmax's values are an operand of a product, whatever they are
/// held in.
bool Match::findContext() {
  SmallVector<Value> worklist{softmax.getY()};
  while (!worklist.empty())
    for (Operation *user : worklist.pop_back_val().getUsers()) {
      auto product = dyn_cast<ProductOpInterface>(user);
      if (product &&
          product.getProductRole().value_or(Role::Fprop) == Role::Fprop) {
        context = user;
        return true;
      }
      if (isa<DropoutOp, QuantizeOp, QuantizeStochasticOp, CastOp>(user))
        worklist.push_back(user->getResult(0));
    }
  return false;
}

/// The scores' product behind the softmax's operand, through mask and factor.
std::string Match::scoresOf(Value x) {
  if (auto add = x.getDefiningOp<AddOp>()) {
    members.insert(add);
    bool left = isa_and_nonnull<MulOp, ScaledMatmulOp, MatmulOp>(
        add.getLhs().getDefiningOp());
    x = left ? add.getLhs() : add.getRhs();
    bias = left ? add.getRhs() : add.getLhs();
  }
  if (auto mul = x.getDefiningOp<MulOp>()) {
    members.insert(mul);
    bool left = splatOf(mul.getRhs()).has_value();
    x = left ? mul.getLhs() : mul.getRhs();
    factor = left ? mul.getRhs() : mul.getLhs();
    if (!splatOf(factor))
      return "its scores are multiplied by a tensor, expected a constant";
  }
  scores = x.getDefiningOp<ScaledMatmulOp>();
  if (!scores)
    return x.getDefiningOp<MatmulOp>()
               ? "its scores are a product of f32, expected bf16"
               : "no product makes its scores";
  members.insert(scores);
  if (scores.getFoldBatch() || scores.getTransposeLhs() ||
      !scores.getTransposeRhs())
    return "its scores are not query times transposed key";
  query = scores.getLhs();
  key = scores.getRhs();
  return "";
}

/// Whether a kernel can read [batch, heads, sequence, head size] where it is.
std::string Match::layout(StringRef what, Value operand) {
  auto view = getStorageView(operand);
  if (!view)
    return ("its " + what + " has no strided form").str();
  ArrayRef<int64_t> strides = view->layout.strides;
  StorageView tokens{view->root, view->layout.transpose({0, 2, 1, 3})};
  if (getHeadsView(tokens))
    return "";
  return ("its " + what + " has heads " + Twine(strides[1]) + " and rows " +
          Twine(strides[2]) + " elements apart, expected heads of " +
          Twine(shapeOf(operand)[3]) +
          " side by side in rows that begin at multiples of 8")
      .str();
}

/// Formats, sizes and layout of what the kernel reads.
std::string Match::operands() {
  ArrayRef<int64_t> shape = shapeOf(query);
  for (auto [what, operand] : {std::pair("query", query), std::pair("key", key),
                               std::pair("value", value)}) {
    if (!elementOf(operand).isBF16())
      return std::string("its ") + what + " is held in " +
             text(elementOf(operand)) + ", expected bf16";
    if (shape.size() != 4)
      return std::string("its ") + what + " is " + text(operand.getType()) +
             ", expected [batch, heads, sequence, head size]";
    if (shapeOf(operand) != shape)
      return std::string("its ") + what + " is " + text(operand.getType()) +
             ", expected the query's " + text(query.getType());
    if (std::string problem = layout(what, operand); !problem.empty())
      return problem;
  }
  std::string problem = AttentionOp::unsupported(shape[2], shape[3]);
  if (!problem.empty())
    return "it has " + problem;
  if (shape[0] > 65535 || shape[1] > 65535)
    return "it has " + std::to_string(shape[0]) + " sequences and " +
           std::to_string(shape[1]) + " heads, expected at most 65535";
  if (!bias)
    return "";
  ArrayRef<int64_t> found = shapeOf(bias);
  auto view = getStorageView(bias);
  if (found.size() != 4 || (found[0] != 1 && found[0] != shape[0]) ||
      found[1] != 1 || found[2] != 1 || found[3] != shape[2] || !view ||
      view->layout.strides[3] != 1)
    return "what is added to its scores is " + text(bias.getType()) +
           ", expected a number per key";
  return "";
}

std::string Match::forward() {
  members.insert(softmax);
  if (std::string problem = scoresOf(softmax.getX()); !problem.empty())
    return problem;
  Value held = softmax.getY();
  dropout = userOf<DropoutOp>(held);
  if (dropout) {
    members.insert(dropout);
    held = dropout.getY();
    if (!integerOf(dropout.getId()))
      return "its dropout's id is no constant";
  }
  weights = roundingOf(held);
  if (!weights)
    return "its probabilities are not held in bf16";
  members.insert(weights);
  auto product = dyn_cast<ScaledMatmulOp>(context);
  if (!product || product.getLhs() != weights.getY() ||
      product.getFoldBatch() || product.getTransposeLhs() ||
      product.getTransposeRhs())
    return "its context is not bf16 probabilities times value";
  members.insert(product);
  value = product.getRhs();
  return operands();
}

/// From the gradient of the weights to that of the scores.
std::string Match::gradientOfSoftmax(Value gradient) {
  if (dropout) {
    auto again = userOf<DropoutOp>(gradient, [&](DropoutOp op) {
      return op.getX() == gradient && op.getSeed() == dropout.getSeed() &&
             op.getStep() == dropout.getStep() &&
             op.getId() == dropout.getId() &&
             op.getKeepProbability() == dropout.getKeepProbability();
    });
    if (!again)
      return "the gradient of its dropout was not found";
    members.insert(again);
    gradient = again.getY();
  }
  // p * (dP - sum(dP * p))
  MulOp products = timesOf(gradient, softmax.getY());
  auto sum = products ? userOf<ReduceOp>(products.getY()) : nullptr;
  int64_t last = shapeOf(softmax.getY()).size() - 1;
  if (!sum || sum.getKind() != Reduction::Sum ||
      sum.getAxes() != ArrayRef<int64_t>(last))
    return "the gradient of its softmax was not found";
  auto centred = userOf<SubOp>(gradient, [&](SubOp op) {
    return op.getLhs() == gradient && op.getRhs() == sum.getY();
  });
  MulOp result = centred ? timesOf(centred.getY(), softmax.getY()) : nullptr;
  if (!result)
    return "the gradient of its softmax was not found";
  members.insert(products);
  members.insert(sum);
  members.insert(centred);
  members.insert(result);
  if (factor) {
    result = timesOf(result.getY(), factor);
    if (!result)
      return "the gradient of its scores' factor was not found";
    members.insert(result);
  }
  auto held = roundingOf(result.getY());
  if (!held)
    return "the gradient of its scores is not held in bf16";
  members.insert(held);
  gradQuery = productOf(held.getY(), held.getY(), key, false, false);
  gradKey = productOf(held.getY(), held.getY(), query, true, false);
  if (!gradQuery || !gradKey)
    return "the gradients of its query and key were not found";
  members.insert(gradQuery);
  members.insert(gradKey);
  return "";
}

/// The gradient, if the step has one.
std::string Match::backward() {
  gradValue = productOf(weights.getY(), weights.getY(), Value(), true, false);
  if (!gradValue)
    return "";
  members.insert(gradValue);
  gradOutput = gradValue.getRhs();
  if (!elementOf(gradOutput).isBF16() || gradValue.getRhsInverseScale())
    return "the gradient of its context is held in " +
           text(elementOf(gradOutput)) + ", expected bf16";
  gradWeights = productOf(gradOutput, gradOutput, value, false, true);
  if (!gradWeights)
    return "the gradient of its probabilities was not found";
  members.insert(gradWeights);
  if (std::string problem = gradientOfSoftmax(gradWeights.getY());
      !problem.empty())
    return problem;
  return layout("context's gradient", gradOutput);
}

/// Whether nothing else reads what a kernel does not store.
std::string Match::closed() {
  for (Operation *op : members) {
    if (op == context || op == gradValue || op == gradQuery || op == gradKey)
      continue;
    for (Operation *user : op->getUsers())
      if (!members.contains(user))
        return ("'" + getStableName(user) + "' reads '" + getStableName(op) +
                "', which a kernel does not store")
            .str();
  }
  return "";
}

//===----------------------------------------------------------------------===//
// Rewriting
//===----------------------------------------------------------------------===//

/// Puts ops in the place of what was matched.
struct Rewriter {
  Match &match;
  OpBuilder builder;

  explicit Rewriter(Match &match) : match(match), builder(match.context) {}

  void run();

private:
  Value swapped(Value value);
  bool onlyRounded(Operation *product);
  RankedTensorType tokens(bool bf16);
  RankedTensorType rows();
  Value quantize(QuantizeOp codes, Value now);
  void replace(Operation *product, Value now);
  void gradient(AttentionOp attention, StringRef name);
};

/// [batch, heads, sequence, head size] as [batch, sequence, heads, head size],
/// and back.
Value Rewriter::swapped(Value value) {
  SmallVector<int64_t> shape(shapeOf(value));
  std::swap(shape[1], shape[2]);
  return TransposeOp::create(builder, value.getLoc(),
                             RankedTensorType::get(shape, elementOf(value)),
                             value, builder.getDenseI64ArrayAttr({0, 2, 1, 3}));
}

/// Whether a product's result is read by roundings to BF16 only.
bool Rewriter::onlyRounded(Operation *product) {
  return llvm::all_of(product->getUsers(), [](Operation *user) {
    return isRounding(dyn_cast<QuantizeOp>(user));
  });
}

RankedTensorType Rewriter::tokens(bool bf16) {
  SmallVector<int64_t> shape(shapeOf(match.query));
  std::swap(shape[1], shape[2]);
  return RankedTensorType::get(shape, bf16 ? Type(builder.getBF16Type())
                                           : Type(builder.getF32Type()));
}

/// A number per row of the scores.
RankedTensorType Rewriter::rows() {
  return RankedTensorType::get(shapeOf(match.query).drop_back(),
                               builder.getF32Type());
}

/// Codes of `now`, made over rows of whole tokens as the linear layers' kernels
/// are.
Value Rewriter::quantize(QuantizeOp codes, Value now) {
  ArrayRef<int64_t> shape = shapeOf(now);
  auto typeOf = [](ArrayRef<int64_t> shape, Value like) {
    return RankedTensorType::get(shape, elementOf(like));
  };
  SmallVector<int64_t> flat{shape[0], shape[1], shape[2] * shape[3]};
  Location loc = codes.getLoc();
  Value whole = ReshapeOp::create(builder, loc, typeOf(flat, now), now);
  auto made = QuantizeOp::create(builder, loc, typeOf(flat, codes.getY()),
                                 whole, codes.getScale());
  made->setDiscardableAttrs(codes->getDiscardableAttrDictionary());
  return ReshapeOp::create(builder, loc, typeOf(shape, codes.getY()),
                           made.getY());
}

/// Gives the users of a product's result what `now` holds of it. Codes are made
/// of `now` itself, so that they lie as it does; but random bits, and scales
/// per row, belong to the product's shape.
void Rewriter::replace(Operation *product, Value now) {
  Value old = product->getResult(0);
  for (Operation *user : llvm::make_early_inc_range(old.getUsers())) {
    auto codes = dyn_cast<QuantizeOp>(user);
    if (!codes || (codes.getScale() && !shapeOf(codes.getScale()).empty()))
      continue;
    builder.setInsertionPoint(codes);
    Value made = elementOf(now).isBF16() ? now : quantize(codes, now);
    codes.replaceAllUsesWith(swapped(made));
    codes.erase();
  }
  if (old.use_empty())
    return;
  builder.setInsertionPointAfterValue(now);
  old.replaceAllUsesWith(swapped(now));
}

void Rewriter::gradient(AttentionOp attention, StringRef name) {
  Operation *first = match.gradValue;
  if (match.gradWeights->isBeforeInBlock(first))
    first = match.gradWeights;
  builder.setInsertionPoint(first);
  ScaledMatmulOp products[] = {match.gradQuery, match.gradKey, match.gradValue};
  bool bf16 =
      llvm::all_of(products, [&](Operation *op) { return onlyRounded(op); });
  RankedTensorType type = tokens(bf16);
  auto op = AttentionGradOp::create(
      builder, first->getLoc(), TypeRange{type, type, type, rows()},
      attention.getQuery(), attention.getKey(), attention.getValue(),
      attention.getOutput(), swapped(match.gradOutput), attention.getRowMax(),
      attention.getLogSum(), attention.getBias(), attention.getSeed(),
      attention.getStep(), attention.getScaleAttr(),
      attention.getKeepProbabilityAttr(), attention.getDropoutIdAttr());
  setStableName(op, (name + "/grad").str());
  for (auto [product, result] : llvm::zip(products, op.getResults()))
    replace(product, result);
}

void Rewriter::run() {
  Location loc = match.context->getLoc();
  std::string name = getStableName(match.context).str();
  DropoutOp dropout = match.dropout;
  float scale = match.factor ? *splatOf(match.factor) : 1.0f;
  auto attention = AttentionOp::create(
      builder, loc,
      TypeRange{tokens(onlyRounded(match.context)), rows(), rows()},
      swapped(match.query), swapped(match.key), swapped(match.value),
      match.bias, dropout ? Value(dropout.getSeed()) : Value(),
      dropout ? Value(dropout.getStep()) : Value(),
      builder.getF32FloatAttr(scale),
      dropout ? dropout.getKeepProbabilityAttr() : FloatAttr(),
      dropout ? builder.getI64IntegerAttr(*integerOf(dropout.getId()))
              : IntegerAttr());
  setStableName(attention, name);
  replace(match.context, attention.getOutput());
  if (match.gradValue)
    gradient(attention, name);
  SmallVector<Operation *> dead(match.members.begin(), match.members.end());
  llvm::sort(dead,
             [](Operation *a, Operation *b) { return b->isBeforeInBlock(a); });
  for (Operation *op : dead)
    op->erase();
}

struct FormAttention : mpt::impl::FormAttentionBase<FormAttention> {
  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-form-attention");
    if (!step)
      return signalPassFailure();
    SmallVector<SoftmaxOp> all(step.getOps<SoftmaxOp>());
    for (SoftmaxOp softmax : all) {
      Match match(softmax);
      if (!match.findContext())
        continue;
      std::string problem = match.forward();
      if (problem.empty())
        problem = match.backward();
      if (problem.empty())
        problem = match.closed();
      if (!problem.empty()) {
        match.context->emitRemark()
            << "attention '" << getStableName(match.context)
            << "' stays decomposed: " << problem;
        ++numLeft;
        continue;
      }
      ++numFormed;
      numGradients += bool(match.gradValue);
      Rewriter(match).run();
    }
  }
};

} // namespace
