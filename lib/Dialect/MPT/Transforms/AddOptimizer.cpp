//===- AddOptimizer.cpp - from gradients to a training step ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Global-norm clipping and AdamW on every parameter that has a gradient, state
// returned and aliased to its argument.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"

#define DEBUG_TYPE "mpt-add-optimizer"

namespace mpt {
#define GEN_PASS_DEF_ADDOPTIMIZER
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

struct Hyperparameters {
  double beta1, beta2, epsilon, weightDecay, maxGradNorm;
};

struct Driver {
  func::FuncOp func;
  Hyperparameters hyper;
  OpBuilder builder;
  Location loc;
  /// A trained parameter: its argument and its gradient.
  SmallVector<std::pair<BlockArgument, Value>> trained;
  SmallVector<Value> results;
  SmallVector<DictionaryAttr> resultAttrs;

  Driver(func::FuncOp func, Hyperparameters hyper)
      : func(func), hyper(hyper),
        builder(func.getBody().front().getTerminator()), loc(func.getLoc()) {}

  LogicalResult collect();
  void run();
  Value gradientNorm();
  void update(BlockArgument param, Value grad, BlockArgument m, BlockArgument v,
              ArrayRef<Value> scalars);
  unsigned addState();
  Value correction(BlockArgument state, double beta, Value skip);
  void addResult(Value value, StringRef name,
                 std::optional<BlockArgument> alias = std::nullopt);
  template <typename Op> Op named(Op op, const Twine &name) {
    setStableName(op, name.str());
    return op;
  }
};

/// Pairs gradients with parameters by name.
LogicalResult Driver::collect() {
  llvm::StringMap<BlockArgument> parameters;
  for (BlockArgument arg : func.getArguments())
    if (getArgumentKind(func, arg.getArgNumber()) == Kind::Parameter)
      parameters[getArgumentName(func, arg.getArgNumber())] = arg;
  Operation *terminator = func.getBody().front().getTerminator();
  auto nameOf = [&](unsigned i) {
    auto name = func.getResultAttrOfType<StringAttr>(i, kNameAttr);
    return name ? name.getValue() : StringRef();
  };
  if (func.getNumResults() < 2 || nameOf(0) != "loss")
    return func.emitError("mpt-add-optimizer expects the results loss and one "
                          "gradient per parameter");
  for (unsigned i = 1; i < func.getNumResults(); ++i) {
    BlockArgument param = parameters.lookup(nameOf(i));
    Value grad = terminator->getOperand(i);
    if (!param || param.getType() != grad.getType())
      return func.emitError()
             << "mpt-add-optimizer: result " << i << " ('" << nameOf(i)
             << "') is the gradient of no parameter";
    trained.push_back({param, grad});
  }
  return success();
}

/// sqrt of the sum of squares of all gradients.
Value Driver::gradientNorm() {
  Value total;
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  for (auto [param, grad] : trained) {
    std::string name =
        getArgumentName(func, param.getArgNumber()).str() + "/grad_norm";
    Value square = named(MulOp::create(builder, loc, grad, grad), name);
    auto rank = cast<RankedTensorType>(grad.getType()).getRank();
    auto axes = llvm::to_vector(llvm::seq<int64_t>(0, rank));
    Value sum = named(
        ReduceOp::create(builder, loc, Reduction::Sum, square, axes), name);
    sum = builder.createOrFold<ReshapeOp>(loc, scalar, sum);
    total =
        total
            ? Value(named(AddOp::create(builder, loc, total, sum), "grad_norm"))
            : sum;
  }
  return named(SqrtOp::create(builder, loc, total), "grad_norm");
}

/// 1 - beta^t from its value at t - 1: c' = beta c + (1 - beta), without the
/// cancellation of computing a power first.
Value Driver::correction(BlockArgument state, double beta, Value skip) {
  StringRef name = getArgumentName(func, state.getArgNumber());
  Value scaled = named(MulOp::create(builder, loc, state,
                                     ConstantOp::scalar(builder, loc, beta)),
                       name);
  Value next =
      named(AddOp::create(builder, loc, scaled,
                          ConstantOp::scalar(builder, loc, 1.0 - beta)),
            name);
  return named(SelectOp::create(builder, loc, skip, state, next), name);
}

void Driver::addResult(Value value, StringRef name,
                       std::optional<BlockArgument> alias) {
  NamedAttrList attrs;
  attrs.set(kNameAttr, builder.getStringAttr(name));
  if (alias)
    attrs.set(kAliasAttr, builder.getI64IntegerAttr(alias->getArgNumber()));
  results.push_back(value);
  resultAttrs.push_back(attrs.getDictionary(func.getContext()));
}

/// AdamW on one parameter; `scalars` are lr, clip, c1, c2, skip.
void Driver::update(BlockArgument param, Value grad, BlockArgument m,
                    BlockArgument v, ArrayRef<Value> scalars) {
  std::string name = getArgumentName(func, param.getArgNumber()).str();
  bool decays = cast<RankedTensorType>(param.getType()).getRank() > 1;
  auto update =
      named(AdamWOp::create(
                builder, loc,
                TypeRange{param.getType(), param.getType(), param.getType()},
                param, grad, m, v, scalars[0], scalars[1], scalars[2],
                scalars[3], scalars[4], builder.getF64FloatAttr(hyper.beta1),
                builder.getF64FloatAttr(hyper.beta2),
                builder.getF64FloatAttr(hyper.epsilon),
                builder.getF64FloatAttr(decays ? hyper.weightDecay : 0.0)),
            name + "/update");
  addResult(update.getNewParam(), name, param);
  addResult(update.getNewM(), name + "/m", m);
  addResult(update.getNewV(), name + "/v", v);
}

/// Appends lr, the two corrections, and m and v of each trained parameter;
/// returns the index of lr.
unsigned Driver::addState() {
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  SmallVector<NewArgument> state = {
      {scalar, "lr", Kind::Hyper},
      {scalar, "adam.correction1", Kind::OptimizerState},
      {scalar, "adam.correction2", Kind::OptimizerState}};
  for (auto [param, grad] : trained)
    for (StringRef moment : {"/m", "/v"})
      state.push_back(
          {param.getType(),
           (getArgumentName(func, param.getArgNumber()) + moment).str(),
           Kind::OptimizerState});
  return addArguments(func, state);
}

void Driver::run() {
  Value loss = func.getBody().front().getTerminator()->getOperand(0);
  unsigned first = addState();
  Value lr = func.getArgument(first);
  BlockArgument c1 = func.getArgument(first + 1);
  BlockArgument c2 = func.getArgument(first + 2);

  Value norm = gradientNorm();
  Value zero = ConstantOp::scalar(builder, loc, 0.0f);
  Value one = ConstantOp::scalar(builder, loc, 1.0f);
  // norm - norm is 0 unless norm is inf or NaN.
  Value difference =
      named(SubOp::create(builder, loc, norm, norm), "grad_norm");
  Value skip =
      named(CompareOp::create(builder, loc, Predicate::NE, difference, zero),
            "skipped");
  Value clip = one;
  if (hyper.maxGradNorm > 0) { // as torch.nn.utils.clip_grad_norm_
    Value padded = AddOp::create(builder, loc, norm,
                                 ConstantOp::scalar(builder, loc, 1e-6f));
    Value ratio = DivOp::create(
        builder, loc, ConstantOp::scalar(builder, loc, hyper.maxGradNorm),
        padded);
    Value below = CompareOp::create(builder, loc, Predicate::LT, ratio, one);
    clip = SelectOp::create(builder, loc, below, ratio, one);
    for (Value value : {padded, ratio, below, clip})
      setStableName(value.getDefiningOp(), "grad_norm/clip");
  }
  Value newC1 = correction(c1, hyper.beta1, skip);
  Value newC2 = correction(c2, hyper.beta2, skip);
  addResult(loss, "loss");
  addResult(norm, "grad_norm");
  addResult(skip, kSkippedName);
  addResult(newC1, "adam.correction1", c1);
  addResult(newC2, "adam.correction2", c2);
  for (auto [i, pair] : llvm::enumerate(trained))
    update(pair.first, pair.second, func.getArgument(first + 3 + 2 * i),
           func.getArgument(first + 4 + 2 * i), {lr, clip, newC1, newC2, skip});
  setResults(func, results, resultAttrs);
  func.setName("step");
}

struct AddOptimizer : mpt::impl::AddOptimizerBase<AddOptimizer> {
  using AddOptimizerBase::AddOptimizerBase;

  void runOnOperation() override {
    if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && epsilon > 0 &&
          weightDecay >= 0 && maxGradNorm >= 0)) {
      getOperation().emitError(
          "mpt-add-optimizer expects beta1 and beta2 in [0, 1), epsilon > 0, "
          "weight-decay >= 0 and max-grad-norm >= 0");
      return signalPassFailure();
    }
    func::FuncOp func =
        getStage(getOperation(), "gradient", "mpt-add-optimizer");
    if (!func)
      return signalPassFailure();
    Driver driver(func, {beta1, beta2, epsilon, weightDecay, maxGradNorm});
    if (failed(driver.collect()))
      return signalPassFailure();
    driver.run();
  }
};

} // namespace
