//===- AssignPrecision.cpp - casts in front of the products ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The shell around lib/Precision: fills its model from the step, inserts the
// casts that the decisions call for, and has the decision record written.
//
//===----------------------------------------------------------------------===//

#include "mlir/Parser/Parser.h"
#include "mpt/Dialect/MPT/Analysis/Storage.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Precision/BudgetFile.h"
#include "mpt/Precision/DecisionRecord.h"
#include "mpt/Precision/Prediction.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

#define DEBUG_TYPE "assign-precision"

namespace mpt {
#define GEN_PASS_DEF_ASSIGNPRECISION
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;
using precision::Side;

namespace {

//===----------------------------------------------------------------------===//
// What the rules see in the graph
//===----------------------------------------------------------------------===//

template <typename Op> bool isOp(Operation *op) { return isa<Op>(op); }

/// Operands that come from a `producer`, through views and `transparent` ops,
/// stay high.
struct HeldHighRule {
  bool (*producer)(Operation *);
  bool (*transparent)(Operation *);
  StringLiteral reason;
};
const HeldHighRule kHeldHigh[] = {
    {isOp<SoftmaxOp>, isOp<DropoutOp>, "attention probabilities stay BF16"},
};

/// The value that `value` is a view of.
Value viewed(Value value) {
  while (auto view = value.getDefiningOp<ViewOpInterface>())
    value = view.getViewSource();
  return value;
}

/// The value that `value` holds all elements of: what a cast goes behind. The
/// amax is the same on both sides of such a view.
Value castSource(Value value) {
  auto elements = [](Value v) {
    return cast<RankedTensorType>(v.getType()).getNumElements();
  };
  while (auto view = value.getDefiningOp<ViewOpInterface>()) {
    if (elements(view.getViewSource()) != elements(value))
      break;
    value = view.getViewSource();
  }
  return value;
}

/// The reason why `operand` stays high, or "".
StringRef heldHigh(Value operand) {
  for (const HeldHighRule &rule : kHeldHigh) {
    Value value = viewed(operand);
    while (Operation *op = value.getDefiningOp()) {
      if (rule.producer(op))
        return rule.reason;
      if (!rule.transparent(op))
        break;
      value = viewed(op->getOperand(0));
    }
  }
  return "";
}

/// Which products make up linear layers, found from the forward products; the
/// backward ones carry their name and a suffix.
struct Layers {
  llvm::StringMap<ProductOpInterface> linear;
  llvm::StringSet<> heads;

  explicit Layers(Block &block);
  void markHeads(Value logits);
  void describe(ProductOpInterface op, precision::Product &product) const;
};

Layers::Layers(Block &block) {
  for (Operation &op : block) {
    auto product = dyn_cast<ProductOpInterface>(op);
    if (product && product.getProductRole() == Role::Fprop &&
        getParameter(product.getLhsOperand().get()).has_value() !=
            getParameter(product.getRhsOperand().get()).has_value())
      linear[getStableName(&op)] = product;
    if (auto loss = dyn_cast<CrossEntropyOp>(op))
      markHeads(loss.getLogits());
  }
}

/// Follows logits back through views and biases to the products.
void Layers::markHeads(Value logits) {
  Operation *op = viewed(logits).getDefiningOp();
  if (!op)
    return;
  if (isa<ProductOpInterface>(op))
    heads.insert(getStableName(op));
  else if (isa<AddOp>(op)) // a bias
    for (Value operand : op->getOperands())
      markHeads(operand);
}

/// In a gradient's product, the operand that the forward product does not have
/// is the gradient.
void Layers::describe(ProductOpInterface op,
                      precision::Product &product) const {
  StringRef base = product.name;
  if (product.role != Role::Fprop)
    base = base.rsplit('/').first;
  auto it = linear.find(base);
  if (it == linear.end())
    return;
  product.linear = true;
  product.head = heads.contains(base);
  if (product.role == Role::Fprop)
    return;
  ProductOpInterface forward = it->second;
  Value saved[] = {viewed(forward.getLhsOperand().get()),
                   viewed(forward.getRhsOperand().get())};
  bool lhsIsSaved = llvm::is_contained(saved, viewed(op.getLhsOperand().get()));
  product.gradient = lhsIsSaved ? Side::Rhs : Side::Lhs;
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

struct Driver {
  func::FuncOp func;
  Block &block;
  precision::Problem problem;
  SmallVector<ProductOpInterface> products;
  precision::Outcome outcome;
  int64_t numCasts = 0;

  explicit Driver(func::FuncOp func)
      : func(func), block(func.getBody().front()), firstOp(&block.front()) {
    problem.context = func.getContext();
  }

  LogicalResult check();
  LogicalResult setTarget(StringRef target, StringRef tuning,
                          int64_t alignment);
  LogicalResult addPins(ArrayRef<std::string> pins);
  LogicalResult collect();
  LogicalResult priceAt(StringRef path);
  LogicalResult decide();
  void warnIfSlower();
  void insertCasts();
  LogicalResult write(StringRef path);
  LogicalResult writeProblem(StringRef path);

private:
  precision::Tensor tensorOf(Value operand);
  void describeOperands(ProductOpInterface op, precision::Product &product);
  LogicalResult report(llvm::Error error);
  void read(OpOperand &operand, FormatAttr format);
  void eraseBypassed();
  Value held(Value value, FormatAttr format);
  Value castOf(Value value, FormatAttr format);

  using Key = std::pair<Value, FormatAttr>;
  /// Casts and views of casts by what they hold.
  llvm::DenseMap<Key, Value> holders;
  /// The last cast behind each value, so that casts keep their order.
  llvm::DenseMap<Value, Operation *> lastCast;
  /// Views in place of which a product reads a view of a cast.
  llvm::SetVector<Operation *> bypassed;
  Operation *firstOp;
};

/// Assigning twice would cast what is cast already.
LogicalResult Driver::check() {
  for (Operation &op : block)
    for (Type type : op.getResultTypes())
      if (getFormat(type))
        return op.emitError() << "assign-precision expects a step without "
                                 "formats, found '"
                              << getStableName(&op) << "' held in " << type;
  for (BlockArgument arg : block.getArguments())
    if (getFormat(arg.getType()))
      return func.emitError() << "assign-precision expects a step without "
                                 "formats, found argument '"
                              << getArgumentName(func, arg.getArgNumber())
                              << "' held in " << arg.getType();
  return success();
}

LogicalResult Driver::report(llvm::Error error) {
  return error ? func.emitError("assign-precision: ")
                     << llvm::toString(std::move(error))
               : LogicalResult(success());
}

/// An alignment of -1 is the target's.
LogicalResult Driver::setTarget(StringRef target, StringRef tuning,
                                int64_t alignment) {
  auto known = precision::getTarget(target);
  if (!known)
    return report(known.takeError());
  problem.cost.target = std::move(*known);
  if (!tuning.empty()) {
    auto table = precision::readTuningTable(tuning, problem.cost.target);
    if (!table)
      return report(table.takeError());
    problem.cost.tuning = std::move(*table);
  }
  problem.alignment = alignment;
  if (alignment == -1)
    for (const auto &combination : problem.cost.target.combinations)
      problem.alignment = std::max(problem.alignment, combination.alignment);
  return success();
}

LogicalResult Driver::addPins(ArrayRef<std::string> pins) {
  for (const std::string &text : pins) {
    auto pin = precision::parsePin(problem.context, problem.cost.target, text);
    if (!pin)
      return report(pin.takeError());
    problem.pins.push_back(*pin);
  }
  return success();
}

/// The tensor that a cast of `operand` would go behind.
precision::Tensor Driver::tensorOf(Value operand) {
  Value value = castSource(operand);
  precision::Tensor tensor;
  tensor.elements = cast<RankedTensorType>(value.getType()).getNumElements();
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    tensor.name = getArgumentName(func, arg.getArgNumber()).str();
    tensor.hasProducer = false;
    return tensor;
  }
  auto result = cast<OpResult>(value);
  tensor.name = getStableName(result.getOwner()).str();
  if (result.getResultNumber() > 0)
    tensor.name += "#" + std::to_string(result.getResultNumber());
  return tensor;
}

/// Operands without a strided form count as turned: they are copied either way.
void Driver::describeOperands(ProductOpInterface op,
                              precision::Product &product) {
  unsigned problem = 0;
  auto views = getProductViews(op, problem);
  product.lhs = {tensorOf(op.getLhsOperand().get()),
                 !views || views->lhs.columns != 1};
  product.rhs = {tensorOf(op.getRhsOperand().get()),
                 !views || views->rhs.rows != 1};
}

LogicalResult Driver::collect() {
  Layers layers(block);
  for (Operation &op : block) {
    auto product = dyn_cast<ProductOpInterface>(op);
    if (!product)
      continue;
    auto role = product.getProductRole();
    if (!role)
      return op.emitOpError()
             << "named '" << getStableName(&op)
             << "' has no role; --mpt-differentiate gives it one";
    precision::Product entry;
    entry.name = getStableName(&op).str();
    entry.role = *role;
    entry.m = product.getM();
    entry.n = product.getN();
    entry.k = product.getK();
    entry.batch = product.getBatch();
    entry.metrics = op.getAttrOfType<MetricsAttr>("metrics");
    StringRef reason = heldHigh(product.getLhsOperand().get());
    entry.heldHigh =
        (reason.empty() ? heldHigh(product.getRhsOperand().get()) : reason)
            .str();
    describeOperands(product, entry);
    layers.describe(product, entry);
    problem.products.push_back(std::move(entry));
    products.push_back(product);
  }
  return success();
}

StringRef graphHashOf(func::FuncOp func) {
  auto hash = func->getParentOfType<ModuleOp>()->getAttrOfType<StringAttr>(
      kGraphHashAttr);
  return hash ? hash.getValue() : "";
}

/// Takes the sizes that times are predicted for from another step of the model,
/// of another batch, sequence or width: the importer knows how sizes follow
/// from those, and names stay the same.
LogicalResult Driver::priceAt(StringRef path) {
  auto module = parseSourceFile<ModuleOp>(path, func.getContext());
  if (!module)
    return func.emitError("assign-precision: price-at: '")
           << path << "' cannot be read";
  func::FuncOp other = getStage(*module, "step", "assign-precision");
  if (!other)
    return failure();
  Driver sized(other);
  if (failed(sized.collect()))
    return failure();
  llvm::StringMap<const precision::Product *> byName;
  for (const precision::Product &product : sized.problem.products)
    byName[product.name] = &product;
  for (precision::Product &product : problem.products) {
    const precision::Product *same = byName.lookup(product.name);
    if (!same)
      return func.emitError("assign-precision: price-at: '")
             << path << "' has no product '" << product.name << "'";
    if (same->role != product.role)
      return func.emitError("assign-precision: price-at: '")
             << path << "' has product '" << product.name << "' as "
             << stringifyRole(same->role) << ", expected "
             << stringifyRole(product.role);
    product.priced = same->getShape();
    product.lhs = same->lhs;
    product.rhs = same->rhs;
  }
  return success();
}

LogicalResult Driver::decide() {
  if (llvm::Error error = problem.check())
    return report(std::move(error));
  auto solved = precision::solve(problem);
  if (!solved)
    return report(solved.takeError());
  outcome = std::move(*solved);
  return report(precision::verify(problem, outcome.decisions));
}

/// Errors decide, except under the policy `budget`: what they admit can take
/// longer than BF16.
void Driver::warnIfSlower() {
  std::vector<precision::FormatPair> formats;
  for (const precision::Decision &decision : outcome.decisions)
    formats.push_back(decision.chosen);
  if (llvm::none_of(formats,
                    [](const auto &pair) { return pair.isEightBit(); }))
    return;
  double assigned = precision::predict(problem, formats).getTotal();
  formats.assign(formats.size(),
                 precision::pairOf(func.getContext(), Storage::BF16));
  double high = precision::predict(problem, formats).getTotal();
  if (assigned > high)
    func.emitWarning("assign-precision: 8 bits do not pay on ")
        << problem.cost.target.name << " at this size: "
        << llvm::formatv("{0:f1} us for products and casts, all in bf16 {1:f1} "
                         "us",
                         assigned, high)
               .str()
        << "; policy budget weighs that, and threshold with where-it-pays; "
           "price-at gives another size";
}

void Driver::insertCasts() {
  for (auto [product, decision] : llvm::zip(products, outcome.decisions)) {
    read(product.getLhsOperand(), decision.chosen.lhs);
    read(product.getRhsOperand(), decision.chosen.rhs);
  }
  eraseBypassed();
}

bool isPerVector(FormatAttr format) {
  return format.getScale() == Granularity::PerRow ||
         format.getScale() == Granularity::PerColumn;
}

/// A product's format has rows and columns as the product reads its operand, a
/// cast's as the tensor is stored.
FormatAttr asStored(OpOperand &operand, FormatAttr format) {
  auto product = dyn_cast<MatmulOp>(operand.getOwner());
  if (!product || !isPerVector(format))
    return format;
  bool isLhs = operand.getOperandNumber() == 0;
  if (!(isLhs ? product.getTransposeLhs() : product.getTransposeRhs()))
    return format;
  Granularity turned = format.getScale() == Granularity::PerRow
                           ? Granularity::PerColumn
                           : Granularity::PerRow;
  return FormatAttr::get(format.getContext(), format.getStorage(), turned,
                         format.getRecipe(), format.getRounding());
}

/// Lets `operand` read its value held in `format`.
void Driver::read(OpOperand &operand, FormatAttr format) {
  if (format.getStorage() == Storage::F32)
    return;
  Value old = operand.get();
  operand.set(held(old, asStored(operand, format)));
  if (Operation *view = old.getDefiningOp<ViewOpInterface>())
    bypassed.insert(view);
}

/// Views that only products had read go away.
void Driver::eraseBypassed() {
  while (!bypassed.empty()) {
    Operation *view = bypassed.pop_back_val();
    if (!view->use_empty())
      continue;
    Value source = cast<ViewOpInterface>(view).getViewSource();
    view->erase();
    if (Operation *next = source.getDefiningOp<ViewOpInterface>())
      bypassed.insert(next);
  }
}

/// `value` held in `format`: a cast of what it is a view of, under the same
/// views. Rows and columns are of the very tensor that a product reads.
Value Driver::held(Value value, FormatAttr format) {
  if (castSource(value) == value || isPerVector(format))
    return castOf(value, format);
  Value &holder = holders[{value, format}];
  if (holder)
    return holder;
  Operation *view = value.getDefiningOp();
  Value source = held(cast<ViewOpInterface>(view).getViewSource(), format);
  OpBuilder builder(func.getContext());
  builder.setInsertionPointAfter(view);
  Operation *copy = builder.clone(*view);
  copy->setOperand(0, source);
  auto type = cast<RankedTensorType>(value.getType());
  copy->getResult(0).setType(
      RankedTensorType::get(type.getShape(), type.getElementType(), format));
  return holders[{value, format}] = copy->getResult(0);
}

Value Driver::castOf(Value value, FormatAttr format) {
  Value &holder = holders[{value, format}];
  if (holder)
    return holder;
  OpBuilder builder(func.getContext());
  StringRef name;
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    builder.setInsertionPoint(firstOp);
    name = getArgumentName(func, arg.getArgNumber());
  } else {
    Operation *&last = lastCast[value];
    builder.setInsertionPointAfter(last ? last : value.getDefiningOp());
    name = getStableName(value.getDefiningOp());
  }
  auto type = cast<RankedTensorType>(value.getType());
  auto cast = CastOp::create(
      builder, value.getLoc(),
      RankedTensorType::get(type.getShape(), type.getElementType(), format),
      value);
  setStableName(
      cast, (name + "/cast." + stringifyStorage(format.getStorage())).str());
  lastCast[value] = cast;
  ++numCasts;
  return holder = cast.getY();
}

LogicalResult Driver::write(StringRef path) {
  return report(
      precision::writeDecisionsFile(path, problem, outcome, graphHashOf(func)));
}

LogicalResult Driver::writeProblem(StringRef path) {
  if (!outcome.model)
    return report(llvm::createStringError("only policy budget has a problem to "
                                          "write to '" +
                                          path + "'"));
  return report(llvm::writeToOutput(path, [&](llvm::raw_ostream &os) {
    precision::budget::writeProblem(os, *outcome.model);
    return llvm::Error::success();
  }));
}

struct AssignPrecision : mpt::impl::AssignPrecisionBase<AssignPrecision> {
  using AssignPrecisionBase::AssignPrecisionBase;

  void runOnOperation() override {
    func::FuncOp func = getStage(getOperation(), "step", "assign-precision");
    if (!func)
      return signalPassFailure();
    Driver driver(func);
    driver.problem.policy = policy;
    driver.problem.limits = {lossMse, noiseRatio, persistent};
    driver.problem.whereItPays = whereItPays;
    if (failed(driver.check()) ||
        failed(driver.setTarget(target, tuning, alignment)) ||
        failed(driver.addPins(pins)) || failed(driver.collect()) ||
        (!price.empty() && failed(driver.priceAt(price))) ||
        failed(driver.decide()))
      return signalPassFailure();
    driver.warnIfSlower();
    driver.insertCasts();
    if (!problem.empty() && failed(driver.writeProblem(problem)))
      return signalPassFailure();
    if (!record.empty() && failed(driver.write(record)))
      return signalPassFailure();
    numCasts += driver.numCasts;
    numEightBit +=
        llvm::count_if(driver.outcome.decisions, [](const auto &decision) {
          return decision.chosen.isEightBit();
        });
  }
};

} // namespace
