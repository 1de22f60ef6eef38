//===- MaterializeFormats.cpp - casts become scales and codes -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Turns the formats that types only annotate into stored codes and the scales
// that belong to them, as separate values; gives the step the state that
// delayed scales are kept in, and has its flag see what casts would hide.
//
//===----------------------------------------------------------------------===//

#include "Amaxes.h"
#include "DelayedScales.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Numerics/Philox.h"
#include "llvm/ADT/StringSet.h"
#include <map>

#define DEBUG_TYPE "mpt-materialize-formats"

namespace mpt {
#define GEN_PASS_DEF_MATERIALIZEFORMATS
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// A tensor held in a format, as it is stored.
struct Stored {
  Value codes;
  /// Null where the storage takes no scale.
  Value inverseScale;
};

/// A scale and its inverse.
struct Scales {
  Value scale, inverse;
};

struct Driver {
  func::FuncOp func;
  Block &block;
  OpBuilder builder;
  bool sentinels;
  int64_t numCodes = 0, numScales = 0;

  Driver(func::FuncOp func, bool sentinels)
      : func(func), block(func.getBody().front()), builder(func.getContext()),
        sentinels(sentinels), amaxes(builder), delayed(func) {}

  LogicalResult check();
  LogicalResult addState();
  void run();
  void finish();
  int64_t numDelayed() const { return delayed.size(); }

private:
  LogicalResult check(CastOp cast);
  LogicalResult checkName(CastOp cast, llvm::StringMap<Value> &owners);
  LogicalResult drawId(CastOp cast, std::map<int64_t, std::string> &owners);

  void materialize(CastOp cast);
  Scales scalesOf(CastOp cast, Type element);
  Value quantize(CastOp cast, RankedTensorType type, Value scale);
  void rebuild(ViewOpInterface view);
  void lower(MatmulOp product);
  void decodeOperands(Operation *op);
  Value decoded(Value value);
  void watch(CastOp cast, Value codes, Value scale);

  Value guard();
  void addResult(Value value, const Twine &name,
                 std::optional<unsigned> alias = std::nullopt);
  template <typename Op> Op named(Op op, const Twine &name) {
    setStableName(op, name.str());
    return op;
  }
  RankedTensorType f32(ArrayRef<int64_t> shape = {}) {
    return RankedTensorType::get(shape, builder.getF32Type());
  }

  /// By the value that is held in a format.
  DenseMap<Value, Stored> stored;
  Amaxes amaxes;
  DenseMap<Value, Value> decodedValues;
  DelayedScales delayed;
  /// The ids of stochastic casts.
  DenseMap<Operation *, int64_t> ids;
  Value seed, step;
  /// The names of what sentinels count, which formats of one storage share.
  llvm::StringSet<> watched;
  /// What the new ops take the place of, in order.
  SmallVector<Operation *> replaced;
  SmallVector<Value> results;
  SmallVector<DictionaryAttr> resultAttrs;
};

ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

//===----------------------------------------------------------------------===//
// What can be materialized
//===----------------------------------------------------------------------===//

/// What no step can do with `format` on a tensor of `rank`, or "".
std::string unsupported(FormatAttr format, int64_t rank) {
  if (format.getScale() == Granularity::Block128)
    return "scale block128 has no product on any target, expected per_tensor, "
           "per_row or per_column";
  bool perVector = format.getScale() == Granularity::PerRow ||
                   format.getScale() == Granularity::PerColumn;
  if (perVector && format.getRecipe() != Recipe::Current)
    return ("recipe " + stringifyRecipe(format.getRecipe()) +
            " keeps one scale per tensor, found scale = " +
            stringifyGranularity(format.getScale()))
        .str();
  if (perVector && rank < 2)
    return ("scale " + stringifyGranularity(format.getScale()) +
            " needs a matrix")
        .str();
  if (format.getStorage() == Storage::F32 &&
      format.getRounding() != Rounding::Nearest)
    return "f32 has nothing to round";
  return "";
}

/// The products that read `value`, through views, and the operands by which.
void forEachProduct(Value value,
                    llvm::function_ref<void(MatmulOp, OpOperand &)> visit) {
  SmallVector<Value> worklist{value};
  while (!worklist.empty())
    for (OpOperand &use : worklist.pop_back_val().getUses()) {
      if (auto product = dyn_cast<MatmulOp>(use.getOwner()))
        visit(product, use);
      else if (isa<ViewOpInterface>(use.getOwner()))
        worklist.push_back(use.getOwner()->getResult(0));
    }
}

/// Whether some product contracts over the batch of what it reads: a scale per
/// column then holds for the whole batch.
bool contractsBatch(Value value) {
  bool found = false;
  forEachProduct(value, [&](MatmulOp product, OpOperand &) {
    found |= product.getFoldBatch();
  });
  return found;
}

/// A product cannot take out a scale that varies along its contraction.
LogicalResult checkContraction(CastOp cast) {
  bool perRow = cast.getFormat().getScale() == Granularity::PerRow;
  for (OpOperand &use : cast.getY().getUses()) {
    auto product = dyn_cast<MatmulOp>(use.getOwner());
    if (!product)
      continue;
    bool isLhs = use.getOperandNumber() == 0;
    bool alongRow = isLhs != (isLhs ? product.getTransposeLhs()
                                    : product.getTransposeRhs());
    if (perRow != alongRow)
      return cast.emitOpError()
             << "named '" << getStableName(cast) << "': scale "
             << stringifyGranularity(cast.getFormat().getScale())
             << " varies along the contraction of '" << getStableName(product)
             << "', whose " << (isLhs ? "lhs" : "rhs")
             << " it is; expected scale = "
             << (alongRow ? "per_row" : "per_column");
  }
  return success();
}

LogicalResult Driver::check(CastOp cast) {
  FormatAttr format = cast.getFormat();
  std::string what = unsupported(format, cast.getX().getType().getRank());
  if (!what.empty())
    return cast.emitOpError()
           << "named '" << getStableName(cast) << "': " << what;
  if (format.isScaled() && format.getScale() != Granularity::PerTensor)
    return checkContraction(cast);
  return success();
}

/// Whether result `i` is the flag that masks updates.
bool isFlag(func::FuncOp func, unsigned i) {
  auto name = func.getResultAttrOfType<StringAttr>(i, kNameAttr);
  return name && name == kSkippedName;
}

/// Formats stay inside the step: neither an argument nor a result has one.
LogicalResult Driver::check() {
  for (auto [types, what] : {std::pair(func.getArgumentTypes(), "argument "),
                             std::pair(func.getResultTypes(), "result ")})
    for (auto [i, type] : llvm::enumerate(types))
      if (getFormat(type))
        return func.emitError() << "mpt-materialize-formats: " << what << i
                                << " is held in a format: " << type;
  auto flag = RankedTensorType::get({}, builder.getI1Type());
  for (unsigned i = 0; i < func.getNumResults(); ++i)
    if (isFlag(func, i) && func.getResultTypes()[i] != flag)
      return func.emitError()
             << "mpt-materialize-formats expects the result '" << kSkippedName
             << "' to be " << flag << ", found " << func.getResultTypes()[i];
  for (auto cast : block.getOps<CastOp>())
    if (failed(check(cast)))
      return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

/// The largest magnitude that the profile found in what is cast: on the cast,
/// or on the products that read it; 0 if nothing says it.
double profiledAmax(CastOp cast) {
  if (auto amax = cast->getAttrOfType<FloatAttr>(kAmaxAttr))
    return amax.getValueAsDouble();
  double largest = 0;
  forEachProduct(cast.getY(), [&](MatmulOp product, OpOperand &use) {
    auto amaxes = product->getAttrOfType<DenseF32ArrayAttr>(kAmaxAttr);
    if (amaxes && amaxes.size() == 2)
      largest = std::max<double>(largest, amaxes[use.getOperandNumber()]);
  });
  return largest;
}

/// State and random bits go by the value's name: it needs one, and its own.
LogicalResult Driver::checkName(CastOp cast, llvm::StringMap<Value> &owners) {
  Value x = cast.getX();
  bool hasName = isa<BlockArgument>(x) ? !getValueName(x).empty()
                                       : x.getDefiningOp()->hasAttr(kNameAttr);
  if (hasName && owners.try_emplace(getValueName(x), x).first->second == x)
    return success();
  return cast.emitOpError()
         << "named '" << getStableName(cast) << "': what it casts needs "
         << (hasName ? "a name of its own, found another value named '"
                     : "'mpt.name', found none: '")
         << getValueName(x) << "'";
}

/// The stream of a stochastic cast: the hash of the value's name and the
/// format's.
LogicalResult Driver::drawId(CastOp cast,
                             std::map<int64_t, std::string> &owners) {
  std::string name = getValueName(cast.getX()).str() + "/cast." +
                     stringifyStorage(cast.getFormat().getStorage()).str();
  int64_t id = num::nameId(name);
  auto [owner, isNew] = owners.try_emplace(id, name);
  if (!isNew && owner->second != name)
    return cast.emitOpError()
           << "named '" << getStableName(cast) << "': '" << name << "' and '"
           << owner->second << "' have one hash (" << id
           << ") and would draw the same random bits; rename one";
  ids[cast] = id;
  return success();
}

/// The argument `name` of the kind rng, if the step has it.
Value rngArgument(func::FuncOp func, StringRef name) {
  for (BlockArgument arg : func.getArguments())
    if (getArgumentName(func, arg.getArgNumber()) == name &&
        getArgumentKind(func, arg.getArgNumber()) == Kind::Rng)
      return arg;
  return nullptr;
}

/// Adds the arguments that delayed scales and random bits need, all at once.
LogicalResult Driver::addState() {
  std::map<int64_t, std::string> owners;
  for (auto dropout : block.getOps<DropoutOp>())
    if (auto id = dropout.getId().getDefiningOp<ConstantOp>())
      if (auto value = dyn_cast<SplatElementsAttr>(id.getValue()))
        owners.try_emplace(value.getSplatValue<int64_t>(),
                           getStableName(dropout).str());
  llvm::StringMap<Value> names;
  for (auto cast : block.getOps<CastOp>()) {
    bool isDelayed = cast.getFormat().getRecipe() == Recipe::Delayed;
    bool isRandom = cast.getFormat().getRounding() == Rounding::Stochastic;
    if ((isDelayed || isRandom) && failed(checkName(cast, names)))
      return failure();
    if ((isDelayed && failed(delayed.add(cast, profiledAmax(cast)))) ||
        (isRandom && failed(drawId(cast, owners))))
      return failure();
  }
  SmallVector<NewArgument> arguments;
  delayed.addArguments(arguments);
  auto scalar = RankedTensorType::get({}, builder.getI64Type());
  for (auto [name, value] :
       {std::pair("rng.seed", &seed), std::pair("rng.step", &step)})
    if (!ids.empty() && !(*value = rngArgument(func, name)))
      arguments.push_back({scalar, name, Kind::Rng});
  llvm::StringSet<> taken;
  for (unsigned i = 0; i < func.getNumArguments(); ++i)
    taken.insert(getArgumentName(func, i));
  for (const NewArgument &argument : arguments)
    if (taken.contains(argument.name))
      return func.emitError() << "mpt-materialize-formats adds the argument '"
                              << argument.name << "', which is there already";
  addArguments(func, arguments);
  if (!ids.empty()) {
    seed = rngArgument(func, "rng.seed");
    step = rngArgument(func, "rng.step");
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Casts, products and what else reads formats
//===----------------------------------------------------------------------===//

void Driver::run() {
  for (Operation &op : llvm::make_early_inc_range(block)) {
    bool readsFormat = llvm::any_of(
        op.getOperandTypes(), [](Type type) { return bool(getFormat(type)); });
    if (auto cast = dyn_cast<CastOp>(op))
      materialize(cast);
    else if (!readsFormat)
      continue;
    else if (auto view = dyn_cast<ViewOpInterface>(op))
      rebuild(view);
    else if (auto product = dyn_cast<MatmulOp>(op))
      lower(product);
    else
      decodeOperands(&op);
  }
  for (Operation *op : llvm::reverse(replaced))
    op->erase();
}

/// The scale that a cast multiplies by, and what its products multiply by.
Scales Driver::scalesOf(CastOp cast, Type element) {
  FormatAttr format = cast.getFormat();
  Value x = cast.getX();
  Location loc = cast.getLoc();
  std::string name = getValueName(x).str() + "/scale." +
                     stringifyStorage(format.getStorage()).str();
  ++numScales;
  Scales scales;
  if (format.getRecipe() == Recipe::Current) {
    Value amax = amaxes.get(x, format.getScale(), contractsBatch(cast.getY()));
    auto op =
        named(ScaleOp::create(builder, loc, amax, Value(), element), name);
    scales = {op.getScale(), op.getInverse()};
  } else if (format.getRecipe() == Recipe::Fixed) {
    float value = format.getValue().convertToFloat();
    scales = {ConstantOp::scalar(builder, loc, value),
              ConstantOp::scalar(builder, loc, 1.0f / value)};
  } else {
    Value scale = delayed.getScale(cast);
    Value one = ConstantOp::scalar(builder, loc, 1.0f);
    scales = {scale, named(DivOp::create(builder, loc, one, scale),
                           name + "/inverse")};
  }
  Value whole = amaxes.getWhole(x); // for the flag, whatever the recipe
  if (format.getRecipe() == Recipe::Delayed)
    delayed.setAmax(cast, whole);
  return scales;
}

Value Driver::quantize(CastOp cast, RankedTensorType type, Value scale) {
  std::string name = getValueName(cast.getX()).str() + "/cast." +
                     stringifyStorage(cast.getFormat().getStorage()).str();
  Location loc = cast.getLoc();
  if (cast.getFormat().getRounding() == Rounding::Nearest)
    return named(QuantizeOp::create(builder, loc, type, cast.getX(), scale),
                 name);
  Value id = ConstantOp::scalarInt(builder, loc, ids.lookup(cast));
  return named(QuantizeStochasticOp::create(builder, loc, type, cast.getX(),
                                            seed, step, id, scale),
               name);
}

void Driver::materialize(CastOp cast) {
  FormatAttr format = cast.getFormat();
  replaced.push_back(cast);
  if (format.getStorage() == Storage::F32) {
    stored[cast.getY()] = {cast.getX(), nullptr};
    return;
  }
  builder.setInsertionPoint(cast);
  Type element = getStorageType(builder.getContext(), format.getStorage());
  Scales scales;
  if (format.isScaled())
    scales = scalesOf(cast, element);
  auto type = RankedTensorType::get(shapeOf(cast.getY()), element);
  Value codes = quantize(cast, type, scales.scale);
  stored[cast.getY()] = {codes, scales.inverse};
  ++numCodes;
  if (sentinels && format.isScaled())
    watch(cast, codes, scales.scale);
}

/// Counts what the cast lost, as results of the step.
void Driver::watch(CastOp cast, Value codes, Value scale) {
  Location loc = cast.getLoc();
  std::string name = getStableName(codes.getDefiningOp()).str();
  for (int copy = 2; !watched.insert(name).second; ++copy)
    name = (getStableName(codes.getDefiningOp()) + "." + Twine(copy)).str();
  auto type = f32(shapeOf(cast.getX()));
  auto lost =
      named(SentinelsOp::create(builder, loc, TypeRange{type, type, type},
                                cast.getX(), codes, scale),
            name + "/sentinels");
  auto axes = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  for (auto [what, each] : {std::pair("/saturated", lost.getSaturated()),
                            std::pair("/flushed", lost.getFlushed()),
                            std::pair("/non_finite", lost.getNonFinite())}) {
    Value sum =
        named(ReduceOp::create(builder, loc, Reduction::Sum, each, axes),
              name + what);
    if (type.getRank())
      sum = named(ReshapeOp::create(builder, loc, f32(), sum), name + what);
    addResult(sum, name + what);
  }
}

/// The same view of the codes.
void Driver::rebuild(ViewOpInterface view) {
  Value result = view->getResult(0);
  Stored source = stored.lookup(view.getViewSource());
  builder.setInsertionPoint(view);
  Operation *copy = builder.clone(*view);
  copy->setOperand(0, source.codes);
  auto element =
      cast<RankedTensorType>(source.codes.getType()).getElementType();
  copy->getResult(0).setType(RankedTensorType::get(
      cast<RankedTensorType>(result.getType()).getShape(), element));
  stored[result] = {copy->getResult(0), source.inverseScale};
  replaced.push_back(view);
}

void Driver::lower(MatmulOp product) {
  auto operand = [&](Value value) {
    return getFormat(value.getType()) ? stored.lookup(value)
                                      : Stored{value, nullptr};
  };
  Stored lhs = operand(product.getLhs()), rhs = operand(product.getRhs());
  auto isF32 = [](Value value) {
    return getElementTypeOrSelf(value.getType()).isF32();
  };
  if (isF32(lhs.codes) && isF32(rhs.codes)) { // cast to f32: nothing is rounded
    product.getLhsMutable().assign(lhs.codes);
    product.getRhsMutable().assign(rhs.codes);
    return;
  }
  builder.setInsertionPoint(product);
  auto low = ScaledMatmulOp::create(
      builder, product.getLoc(), product.getY().getType(), lhs.codes, rhs.codes,
      lhs.inverseScale, rhs.inverseScale, product.getTransposeLhs(),
      product.getTransposeRhs(), product.getFoldBatch(), product.getRoleAttr());
  low->setDiscardableAttrs(product->getDiscardableAttrDictionary());
  product.getY().replaceAllUsesWith(low.getY());
  replaced.push_back(product);
}

/// The real values of a held tensor, decoded once. Scales that are no scalar
/// fit the tensor that was cast, so views are taken of what is decoded.
Value Driver::decoded(Value value) {
  if (Value known = decodedValues.lookup(value))
    return known;
  Stored source = stored.lookup(value);
  if (getElementTypeOrSelf(source.codes.getType()).isF32())
    return decodedValues[value] = source.codes;
  Value &result = decodedValues[value];
  auto view = source.codes.getDefiningOp<ViewOpInterface>();
  bool perVector = source.inverseScale && !shapeOf(source.inverseScale).empty();
  Operation *made = nullptr;
  if (view && perVector) {
    Operation *held = value.getDefiningOp();
    Value whole = decoded(cast<ViewOpInterface>(held).getViewSource());
    builder.setInsertionPointAfter(source.codes.getDefiningOp());
    made = builder.clone(*view);
    made->setOperand(0, whole);
    made->getResult(0).setType(withoutEncoding(value.getType()));
    return decodedValues[value] = made->getResult(0);
  }
  builder.setInsertionPointAfter(source.codes.getDefiningOp());
  auto decode = DequantizeOp::create(builder, value.getLoc(),
                                     withoutEncoding(value.getType()),
                                     source.codes, source.inverseScale);
  setStableName(decode, (getValueName(source.codes) + "/decode").str());
  return result = decode.getY();
}

void Driver::decodeOperands(Operation *op) {
  for (OpOperand &operand : op->getOpOperands())
    if (getFormat(operand.get().getType()))
      operand.set(decoded(operand.get()));
}

//===----------------------------------------------------------------------===//
// The end of the step
//===----------------------------------------------------------------------===//

/// The step's flag with all that casts would hide: saturation makes a number of
/// an infinity, and INT8 one of a NaN. Null if there is nothing to guard.
Value Driver::guard() {
  Operation *terminator = block.getTerminator();
  Value flag;
  for (unsigned i = 0; i < func.getNumResults(); ++i)
    if (isFlag(func, i))
      flag = terminator->getOperand(i);
  if (!flag && delayed.size() == 0)
    return nullptr;
  Operation *firstUse = terminator;
  if (flag)
    for (Operation *user : flag.getUsers())
      if (user->isBeforeInBlock(firstUse))
        firstUse = user;
  SmallVector<Value> seen; // what comes later guards itself: see mpt.scale
  for (Value amax : amaxes.getAllWhole())
    if (!amax.getDefiningOp() ||
        amax.getDefiningOp()->isBeforeInBlock(firstUse))
      seen.push_back(amax);
  if (seen.empty())
    return flag;
  builder.setInsertionPoint(firstUse);
  Location loc = func.getLoc();
  Value largest =
      ConstantOp::scalar(builder, loc, std::numeric_limits<float>::max());
  Value finite;
  for (Value amax : seen) {
    Value one =
        named(CompareOp::create(builder, loc, Predicate::LE, amax, largest),
              kSkippedName);
    finite = finite ? Value(named(AndOp::create(builder, loc, finite, one),
                                  kSkippedName))
                    : one;
  }
  Value hidden = named(NotOp::create(builder, loc, finite), kSkippedName);
  if (!flag)
    return hidden;
  auto both = named(OrOp::create(builder, loc, flag, hidden), kSkippedName);
  flag.replaceAllUsesExcept(both, both);
  return both;
}

void Driver::addResult(Value value, const Twine &name,
                       std::optional<unsigned> alias) {
  NamedAttrList attrs;
  attrs.set(kNameAttr, builder.getStringAttr(name));
  if (alias)
    attrs.set(kAliasAttr, builder.getI64IntegerAttr(*alias));
  results.push_back(value);
  resultAttrs.push_back(attrs.getDictionary(func.getContext()));
}

/// Guards the updates that the step has, and updates the state that casts have.
void Driver::finish() {
  Value skip = guard();
  builder.setInsertionPoint(block.getTerminator());
  delayed.update(builder, skip,
                 [&](Value value, const Twine &name, unsigned argument) {
                   addResult(value, name, argument);
                 });
  if (results.empty())
    return;
  SmallVector<Value> all(block.getTerminator()->getOperands());
  SmallVector<DictionaryAttr> attrs;
  for (unsigned i = 0; i < func.getNumResults(); ++i)
    attrs.push_back(
        DictionaryAttr::get(func.getContext(), func.getResultAttrs(i)));
  all.append(results);
  attrs.append(resultAttrs);
  setResults(func, all, attrs);
}

struct MaterializeFormats
    : mpt::impl::MaterializeFormatsBase<MaterializeFormats> {
  using MaterializeFormatsBase::MaterializeFormatsBase;

  void runOnOperation() override {
    func::FuncOp func =
        getStage(getOperation(), "step", "mpt-materialize-formats");
    if (!func)
      return signalPassFailure();
    Driver driver(func, sentinels);
    if (failed(driver.check()) || failed(driver.addState()))
      return signalPassFailure();
    driver.run();
    driver.finish();
    numCodes += driver.numCodes;
    numScales += driver.numScales;
    numDelayed += driver.numDelayed();
  }
};

} // namespace
