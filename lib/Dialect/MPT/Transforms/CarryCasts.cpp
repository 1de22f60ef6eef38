//===- CarryCasts.cpp - low copies of parameters kept between steps -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Moves the casts of parameters over the step's boundary: a step ends with the
// codes, scales and amaxes that the next one would begin with, as arguments of
// the kind `derived`, and a function of its own computes the first ones.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/IRMapping.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSet.h"

#define DEBUG_TYPE "mpt-carry-casts"

namespace mpt {
#define GEN_PASS_DEF_CARRYCASTS
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// Whether a step ends with the value that `arg` has in the next one.
bool outlivesStep(func::FuncOp step, BlockArgument arg) {
  auto kind = getArgumentKind(step, arg.getArgNumber());
  return kind == Kind::Parameter || kind == Kind::ScaleState;
}

Value viewed(Value value) {
  while (auto view = value.getDefiningOp<ViewOpInterface>())
    value = view.getViewSource();
  return value;
}

bool isF32(Value value) {
  return getElementTypeOrSelf(value.getType()).isF32();
}

struct Driver {
  func::FuncOp step;
  Block &block;
  OpBuilder builder;
  /// Casts that leave the step.
  int64_t numCasts = 0;
  /// What the next step is handed, and the arguments that hand it over.
  SmallVector<Value> carried;

  explicit Driver(func::FuncOp step)
      : step(step), block(step.getBody().front()), builder(step.getContext()) {}

  LogicalResult check();
  LogicalResult collect();
  LogicalResult run();

private:
  void findCasts();
  void findAmaxes();
  void keepOperands();
  void nameCarried();
  bool usedOutside(Value value);
  SmallVector<BlockArgument> leaves(Value value);
  Value rebuild(Value value, IRMapping &map);
  bool moveBefore(Value value, Operation *anchor);
  void buildInit();
  void buildNext(unsigned firstArgument);
  void eraseKept();

  /// Ops that see parameters, scale state and constants only: what they yield
  /// is known as soon as the step before has ended.
  DenseSet<Operation *> early;
  /// Of these, what is computed where the step before ends; no views.
  llvm::SetVector<Operation *> kept;
  DenseSet<Value> castParameters;
  SmallVector<std::string> names;
};

LogicalResult Driver::check() {
  for (auto op : block.getOps<CastOp>())
    return op.emitOpError() << "named '" << getStableName(op)
                            << "' reaches --mpt-carry-casts: run "
                               "--mpt-materialize-formats first";
  if (func::FuncOp init = getInit(step))
    return init.emitError(
        "mpt-carry-casts makes @init, which is there already");
  return success();
}

//===----------------------------------------------------------------------===//
// What is carried
//===----------------------------------------------------------------------===//

/// Casts of parameters, and copies (transposed ones) of their codes.
void Driver::findCasts() {
  auto isEarly = [&](Value value) {
    auto arg = dyn_cast<BlockArgument>(value);
    return arg ? outlivesStep(step, arg)
               : early.contains(value.getDefiningOp());
  };
  auto readsKept = [&](Operation &op) {
    return llvm::any_of(op.getOperands(), [&](Value operand) {
      return kept.contains(viewed(operand).getDefiningOp()) && !isF32(operand);
    });
  };
  for (Operation &op : block.without_terminator()) {
    if (!isMemoryEffectFree(&op) || op.getNumRegions() ||
        !llvm::all_of(op.getOperands(), isEarly)) {
      if (auto random = dyn_cast<QuantizeStochasticOp>(op);
          random && getParameter(random.getX()))
        random.emitRemark()
            << "'" << getStableName(random)
            << "' stays in the step: it draws the random bits of its step";
      continue;
    }
    early.insert(&op);
    if (auto quantize = dyn_cast<QuantizeOp>(op);
        quantize && getParameter(quantize.getX())) {
      kept.insert(&op);
      castParameters.insert(viewed(quantize.getX()));
      ++numCasts;
    } else if (!isa<ViewOpInterface>(op) && op.getNumResults() == 1 &&
               !isF32(op.getResult(0)) && readsKept(op)) {
      kept.insert(&op);
    }
  }
}

/// The largest magnitudes of what is cast, which histories and the flag want.
void Driver::findAmaxes() {
  for (auto reduce : block.getOps<ReduceOp>()) {
    Value source = viewed(reduce.getX());
    if (early.contains(reduce) && reduce.getKind() == Reduction::AbsMax &&
        (castParameters.contains(source) ||
         kept.contains(source.getDefiningOp())))
      kept.insert(reduce);
  }
}

/// All that casts need, back to the arguments.
void Driver::keepOperands() {
  for (size_t i = 0; i < kept.size(); ++i)
    for (Value operand : kept[i]->getOperands())
      if (Operation *op = viewed(operand).getDefiningOp();
          op && op->getNumOperands() > 0)
        kept.insert(op);
}

/// Whether an op that stays in the step reads the value, through views.
bool Driver::usedOutside(Value value) {
  SmallVector<Value> worklist{value};
  while (!worklist.empty())
    for (Operation *user : worklist.pop_back_val().getUsers()) {
      if (isa<ViewOpInterface>(user))
        worklist.push_back(user->getResult(0));
      else if (!kept.contains(user))
        return true;
    }
  return false;
}

/// Names as the casts have them; what has one name with others is counted.
void Driver::nameCarried() {
  llvm::StringSet<> taken;
  for (unsigned i = 0; i < step.getNumArguments(); ++i)
    taken.insert(getArgumentName(step, i));
  for (Value value : carried) {
    auto result = cast<OpResult>(value);
    std::string base = getStableName(result.getOwner()).str();
    if (isa<ScaleOp>(result.getOwner()) && result.getResultNumber() == 1)
      base += "/inverse";
    std::string name = base;
    for (int copy = 2; !taken.insert(name).second; ++copy)
      name = base + "." + std::to_string(copy);
    names.push_back(name);
  }
}

LogicalResult Driver::collect() {
  findCasts();
  findAmaxes();
  keepOperands();
  for (Operation &op : block) {
    if (!kept.contains(&op))
      continue;
    for (Value result : op.getResults()) {
      if (usedOutside(result))
        carried.push_back(result);
      for (OpOperand &operand : block.getTerminator()->getOpOperands())
        if (viewed(operand.get()) == result)
          return op.emitOpError()
                 << "named '" << getStableName(&op)
                 << "': mpt-carry-casts cannot carry what is result "
                 << operand.getOperandNumber() << " of the step";
    }
  }
  nameCarried();
  return success();
}

//===----------------------------------------------------------------------===//
// The boundary
//===----------------------------------------------------------------------===//

/// The arguments that `value` is computed from.
SmallVector<BlockArgument> Driver::leaves(Value value) {
  llvm::SetVector<BlockArgument> found;
  llvm::SetVector<Value> worklist;
  worklist.insert(value);
  for (size_t i = 0; i < worklist.size(); ++i) {
    if (auto arg = dyn_cast<BlockArgument>(worklist[i]))
      found.insert(arg);
    else
      for (Value operand : worklist[i].getDefiningOp()->getOperands())
        worklist.insert(operand);
  }
  return found.takeVector();
}

/// A copy of what computes `value`, from the arguments in `map`.
Value Driver::rebuild(Value value, IRMapping &map) {
  if (Value known = map.lookupOrNull(value))
    return known;
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    rebuild(operand, map);
  builder.clone(*op, map);
  return map.lookup(value);
}

/// The function that computes what is carried from the state that a step would
/// find.
void Driver::buildInit() {
  llvm::SetVector<BlockArgument> needed;
  for (Value value : carried)
    needed.insert_range(leaves(value));
  SmallVector<BlockArgument> arguments = needed.takeVector();
  llvm::sort(arguments, [](BlockArgument a, BlockArgument b) {
    return a.getArgNumber() < b.getArgNumber();
  });
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs, resultAttrs;
  for (BlockArgument arg : arguments) {
    types.push_back(arg.getType());
    NamedAttrList list;
    for (StringRef name : {kNameAttr, kKindAttr})
      list.set(name, step.getArgAttr(arg.getArgNumber(), name));
    attrs.push_back(list.getDictionary(step.getContext()));
  }
  for (const std::string &name : names)
    resultAttrs.push_back(builder.getDictionaryAttr(
        builder.getNamedAttr(kNameAttr, builder.getStringAttr(name))));
  builder.setInsertionPointAfter(step);
  auto init = func::FuncOp::create(
      builder, step.getLoc(), kInitFunction,
      builder.getFunctionType(types, ValueRange(carried).getTypes()));
  init.setAllArgAttrs(attrs);
  init.setAllResultAttrs(resultAttrs);
  IRMapping map;
  for (auto [arg, inner] :
       llvm::zip(arguments, init.addEntryBlock()->getArguments()))
    map.map(arg, inner);
  builder.setInsertionPointToEnd(&init.getBody().front());
  SmallVector<Value> results;
  for (Value value : carried)
    results.push_back(rebuild(value, map));
  func::ReturnOp::create(builder, step.getLoc(), results);
}

/// Moves what computes `value` in front of `anchor`; false if it needs that.
bool Driver::moveBefore(Value value, Operation *anchor) {
  Operation *op = value.getDefiningOp();
  if (!op || op->isBeforeInBlock(anchor))
    return true;
  if (op == anchor)
    return false;
  for (Value operand : op->getOperands())
    if (!moveBefore(operand, anchor))
      return false;
  op->moveBefore(anchor);
  return true;
}

/// Ends the step with what it began with, computed from the updated state. What
/// no update reaches stays what it is.
void Driver::buildNext(unsigned firstArgument) {
  Operation *terminator = block.getTerminator();
  SmallVector<Value> results(terminator->getOperands());
  SmallVector<DictionaryAttr> attrs;
  IRMapping map;
  DenseSet<Value> updated;
  for (BlockArgument arg : step.getArguments())
    map.map(arg, arg);
  for (auto [i, value] : llvm::enumerate(results)) {
    attrs.push_back(
        DictionaryAttr::get(step.getContext(), step.getResultAttrs(i)));
    if (auto alias = step.getResultAttrOfType<IntegerAttr>(i, kAliasAttr)) {
      Value argument = step.getArgument(alias.getInt());
      map.map(argument, value);
      updated.insert(argument);
    }
  }
  builder.setInsertionPoint(terminator);
  // The kernel that updates a parameter can cast it if the scale is there
  // before, and if nothing has read its other results yet: codes come first.
  for (bool codes : {true, false})
    for (Value value : carried) {
      SmallVector<BlockArgument> from = leaves(value);
      auto isUpdated = [&](Value leaf) { return updated.contains(leaf); };
      if (isF32(value) == codes || llvm::none_of(from, isUpdated))
        continue;
      for (BlockArgument parameter : from)
        if (Operation *update = map.lookup(parameter).getDefiningOp();
            update && castParameters.contains(parameter))
          for (BlockArgument scale : from)
            moveBefore(map.lookup(scale), update);
      rebuild(value, map);
    }
  for (auto [i, value] : llvm::enumerate(carried))
    if (Value next = map.lookupOrNull(value)) {
      results.push_back(next);
      attrs.push_back(builder.getDictionaryAttr(
          {builder.getNamedAttr(kNameAttr, builder.getStringAttr(names[i])),
           builder.getNamedAttr(
               kAliasAttr, builder.getI64IntegerAttr(firstArgument + i))}));
    }
  setResults(step, results, attrs);
}

/// What no one reads any more.
void Driver::eraseKept() {
  SmallVector<Operation *> old;
  for (Operation &op : block)
    if (early.contains(&op))
      old.push_back(&op);
  for (Operation *op : llvm::reverse(old))
    if (op->use_empty())
      op->erase();
}

LogicalResult Driver::run() {
  if (carried.empty())
    return success();
  SmallVector<NewArgument> arguments;
  for (auto [value, name] : llvm::zip(carried, names))
    arguments.push_back({value.getType(), name, Kind::Derived});
  buildInit();
  unsigned first = addArguments(step, arguments);
  buildNext(first);
  // Within what is kept the old values stay, and go with it.
  for (auto [i, value] : llvm::enumerate(carried))
    value.replaceUsesWithIf(step.getArgument(first + i), [&](OpOperand &use) {
      return !kept.contains(use.getOwner());
    });
  eraseKept();
  return success();
}

struct CarryCasts : mpt::impl::CarryCastsBase<CarryCasts> {
  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-carry-casts");
    if (!step)
      return signalPassFailure();
    Driver driver(step);
    if (failed(driver.check()) || failed(driver.collect()) ||
        failed(driver.run()))
      return signalPassFailure();
    numCasts += driver.numCasts;
    numCarried += driver.carried.size();
  }
};

} // namespace
