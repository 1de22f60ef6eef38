//===- MaterializeFormats.cpp - casts become scales and codes -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Turns the formats that types only annotate into stored codes and the scales
// that belong to them, as separate values; gives the step the state that
// delayed scales are kept in, and has its flag see what casts would hide.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Philox.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"
#include <cmath>

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

/// What a delayed scale is kept in between steps.
struct DelayedState {
  FormatAttr format;
  std::string name; ///< of the value
  double profiled;  ///< amax in the profile, or 0
  unsigned scale = 0, history = 0;
  Value amax; ///< of this step
};

struct Driver {
  func::FuncOp func;
  Block &block;
  OpBuilder builder;
  bool sentinels;
  int64_t numCodes = 0, numScales = 0;

  Driver(func::FuncOp func, bool sentinels)
      : func(func), block(func.getBody().front()), builder(func.getContext()),
        sentinels(sentinels) {}

  LogicalResult check();
  LogicalResult addState();
  void run();
  void finish();
  int64_t numDelayed() const { return states.size(); }

private:
  LogicalResult check(CastOp cast);
  using StateKey = std::pair<Value, int>;
  LogicalResult collectState(CastOp cast, DenseMap<StateKey, unsigned> &known);
  LogicalResult checkName(CastOp cast, llvm::StringMap<Value> &owners);
  LogicalResult drawId(CastOp cast, DenseMap<int64_t, std::string> &owners);

  void materialize(CastOp cast);
  Scales scalesOf(CastOp cast, Type element);
  Value quantize(CastOp cast, RankedTensorType type, Value scale);
  void rebuild(ViewOpInterface view);
  void lower(MatmulOp product);
  void decodeOperands(Operation *op);
  Value amaxOf(Value x, FormatAttr format, bool overBatch);
  Value scalarAmaxOf(Value x);
  Value decoded(Value value);
  void watch(CastOp cast, Value codes, Value scale);

  Value guard();
  void update(const DelayedState &state, Value skip);
  void addResult(Value value, const Twine &name,
                 std::optional<unsigned> alias = std::nullopt);
  std::string baseName(Value value);
  template <typename Op> Op named(Op op, const Twine &name) {
    setStableName(op, name.str());
    return op;
  }
  Value select(Value condition, Value onTrue, Value onFalse,
               const Twine &name) {
    return named(
        SelectOp::create(builder, func.getLoc(), condition, onTrue, onFalse),
        name);
  }
  RankedTensorType f32(ArrayRef<int64_t> shape = {}) {
    return RankedTensorType::get(shape, builder.getF32Type());
  }

  /// By the value that is held in a format.
  DenseMap<Value, Stored> stored;
  /// By value and what one amax covers: a Granularity, or columns that run
  /// through the batch.
  static constexpr int kWholeColumns = -1;
  DenseMap<std::pair<Value, int>, Value> amaxes;
  /// The amaxes over whole tensors, by which inf and NaN are seen.
  llvm::MapVector<Value, Value> wholeAmaxes;
  DenseMap<Value, Value> decodedValues;
  SmallVector<DelayedState> states;
  /// The state of delayed casts: of one value and storage they share it.
  DenseMap<Operation *, unsigned> stateOf;
  /// Where each ring of amaxes stands, by its length.
  llvm::MapVector<int64_t, unsigned> positions;
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

Type storageType(Builder &builder, Storage storage) {
  switch (storage) {
  case Storage::F32:
    return builder.getF32Type();
  case Storage::BF16:
    return builder.getBF16Type();
  case Storage::E4M3:
    return Float8E4M3FNType::get(builder.getContext());
  case Storage::E5M2:
    return Float8E5M2Type::get(builder.getContext());
  case Storage::I8:
    return builder.getI8Type();
  }
  llvm_unreachable("all storages are listed");
}

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

/// Formats stay inside the step: neither an argument nor a result has one.
LogicalResult Driver::check() {
  for (auto [types, what] : {std::pair(func.getArgumentTypes(), "argument "),
                             std::pair(func.getResultTypes(), "result ")})
    for (auto [i, type] : llvm::enumerate(types))
      if (getFormat(type))
        return func.emitError() << "mpt-materialize-formats: " << what << i
                                << " is held in a format: " << type;
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
  return std::isfinite(largest) ? largest : 0;
}

/// State and random bits go by the value's name: it needs one, and its own.
LogicalResult Driver::checkName(CastOp cast, llvm::StringMap<Value> &owners) {
  Value x = cast.getX();
  bool hasName = isa<BlockArgument>(x) ? !baseName(x).empty()
                                       : x.getDefiningOp()->hasAttr(kNameAttr);
  if (hasName && owners.try_emplace(baseName(x), x).first->second == x)
    return success();
  return cast.emitOpError()
         << "named '" << getStableName(cast) << "': what it casts needs "
         << (hasName ? "a name of its own, found another value named '"
                     : "'mpt.name', found none: '")
         << baseName(x) << "'";
}

LogicalResult Driver::collectState(CastOp cast,
                                   DenseMap<StateKey, unsigned> &known) {
  FormatAttr format = cast.getFormat();
  auto [it, isNew] = known.try_emplace(
      {cast.getX(), static_cast<int>(format.getStorage())}, states.size());
  if (isNew)
    states.push_back({format, baseName(cast.getX()), 0});
  stateOf[cast] = it->second;
  DelayedState &state = states[it->second];
  if (state.format.getHistory() != format.getHistory() ||
      state.format.getMargin() != format.getMargin())
    return cast.emitOpError()
           << "named '" << getStableName(cast)
           << "': one value and storage have one delayed scale, found "
           << state.format << " and " << format;
  state.profiled = std::max(state.profiled, profiledAmax(cast));
  return success();
}

/// The stream of a stochastic cast: the hash of the value's name and the
/// format's.
LogicalResult Driver::drawId(CastOp cast,
                             DenseMap<int64_t, std::string> &owners) {
  std::string name = baseName(cast.getX()) + "/cast." +
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
  DenseMap<int64_t, std::string> owners;
  for (auto dropout : block.getOps<DropoutOp>())
    if (auto id = dropout.getId().getDefiningOp<ConstantOp>())
      if (auto value = dyn_cast<SplatElementsAttr>(id.getValue()))
        owners.try_emplace(value.getSplatValue<int64_t>(),
                           getStableName(dropout).str());
  DenseMap<StateKey, unsigned> known;
  llvm::StringMap<Value> names;
  for (auto cast : block.getOps<CastOp>()) {
    bool delayed = cast.getFormat().getRecipe() == Recipe::Delayed;
    bool random = cast.getFormat().getRounding() == Rounding::Stochastic;
    if ((delayed || random) && failed(checkName(cast, names)))
      return failure();
    if ((delayed && failed(collectState(cast, known))) ||
        (random && failed(drawId(cast, owners))))
      return failure();
  }
  SmallVector<NewArgument> arguments;
  unsigned next = func.getNumArguments();
  auto add = [&](Type type, const Twine &name, Kind kind,
                 std::optional<double> init) {
    arguments.push_back({type, name.str(), kind, init});
    return next++;
  };
  for (DelayedState &state : states) {
    FormatAttr format = state.format;
    StringRef storage = stringifyStorage(format.getStorage());
    double scale = 1, amax = 0;
    if (state.profiled > 0) {
      amax = static_cast<float>(state.profiled);
      scale = num::computeScale(
          static_cast<float>(state.profiled),
          std::ldexp(getStorageMax(storageType(builder, format.getStorage())),
                     -static_cast<int>(format.getMargin())));
    }
    state.scale =
        add(f32(), state.name + "/scale." + storage, Kind::ScaleState, scale);
    state.history =
        add(f32({format.getHistory()}), state.name + "/amax_history." + storage,
            Kind::ScaleState, amax);
    if (format.getHistory() > 1)
      positions.try_emplace(format.getHistory(), 0);
  }
  for (auto &[length, argument] : positions)
    argument = add(f32(), "amax_history.position." + Twine(length),
                   Kind::ScaleState, 0);
  auto scalar = RankedTensorType::get({}, builder.getI64Type());
  for (auto [name, value] :
       {std::pair("rng.seed", &seed), std::pair("rng.step", &step)})
    if (!ids.empty() && !(*value = rngArgument(func, name)))
      add(scalar, name, Kind::Rng, std::nullopt);
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

/// The name of what is cast.
std::string Driver::baseName(Value value) {
  if (auto arg = dyn_cast<BlockArgument>(value))
    return getArgumentName(func, arg.getArgNumber()).str();
  return getStableName(value.getDefiningOp()).str();
}

/// max |x| over what shares a scale of `format`, of a shape that broadcasts to
/// x; computed where it is first needed. `overBatch`: columns run through the
/// batch.
Value Driver::amaxOf(Value x, FormatAttr format, bool overBatch) {
  Granularity granularity = format.getScale();
  bool wholeColumns = granularity == Granularity::PerColumn && overBatch;
  int key = wholeColumns ? kWholeColumns : static_cast<int>(granularity);
  Value &amax = amaxes[{x, key}];
  if (amax)
    return amax;
  std::string name = baseName(x) + "/amax";
  Location loc = x.getLoc();
  SmallVector<int64_t> shape(shapeOf(x));
  int64_t rank = shape.size();
  auto reduce = [&](Value value, ArrayRef<int64_t> axes) -> Value {
    return named(ReduceOp::create(builder, loc, Reduction::AbsMax, value, axes),
                 name);
  };
  auto reshape = [&](Value value, ArrayRef<int64_t> to) -> Value {
    if (shapeOf(value) == to)
      return value;
    return named(ReshapeOp::create(builder, loc, f32(to), value), name);
  };
  if (granularity == Granularity::PerTensor)
    return amax = reshape(reduce(x, llvm::to_vector(llvm::seq(rank))), {});
  if (granularity == Granularity::PerRow)
    return amax = reduce(x, {rank - 1});
  // Maxima run along rows: columns become rows first.
  int64_t columns = shape.back();
  SmallVector<int64_t> keptShape(rank, 1);
  keptShape.back() = columns;
  Value matrix = x;
  SmallVector<int64_t> turned{columns};
  if (wholeColumns) {
    int64_t rows = cast<RankedTensorType>(x.getType()).getNumElements();
    matrix = reshape(x, {rows / columns, columns});
    turned.push_back(rows / columns);
  } else {
    llvm::copy(ArrayRef(shape).drop_back(2), keptShape.begin());
    turned.assign(shape.begin(), shape.end());
    std::swap(turned[rank - 1], turned[rank - 2]);
  }
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, turned.size()));
  std::swap(permutation.back(), permutation[permutation.size() - 2]);
  Value transposed =
      named(TransposeOp::create(builder, loc, f32(turned), matrix,
                                builder.getDenseI64ArrayAttr(permutation)),
            name);
  int64_t last = turned.size() - 1;
  return amax = reshape(reduce(transposed, {last}), keptShape);
}

/// max |x| over the tensor, of the amaxes that there are if there are any.
Value Driver::scalarAmaxOf(Value x) {
  Value &whole = wholeAmaxes[x];
  if (whole)
    return whole;
  auto perTensor = FormatAttr::get(func.getContext(), Storage::E4M3);
  whole = amaxes.lookup({x, static_cast<int>(Granularity::PerTensor)});
  if (whole)
    return whole;
  Value some;
  for (int key : {static_cast<int>(Granularity::PerRow),
                  static_cast<int>(Granularity::PerColumn), kWholeColumns})
    if (!some)
      some = amaxes.lookup({x, key});
  if (!some)
    return whole = amaxOf(x, perTensor, false);
  int64_t count = cast<RankedTensorType>(some.getType()).getNumElements();
  some = named(ReshapeOp::create(builder, x.getLoc(), f32({count}), some),
               baseName(x) + "/amax");
  return whole = amaxOf(some, perTensor, false);
}

/// The scale that a cast multiplies by, and what its products multiply by.
Scales Driver::scalesOf(CastOp cast, Type element) {
  FormatAttr format = cast.getFormat();
  Value x = cast.getX();
  Location loc = cast.getLoc();
  std::string name =
      baseName(x) + "/scale." + stringifyStorage(format.getStorage()).str();
  ++numScales;
  if (format.getRecipe() == Recipe::Current) {
    bool overBatch = contractsBatch(cast.getY());
    auto op = named(ScaleOp::create(builder, loc, amaxOf(x, format, overBatch),
                                    Value(), element),
                    name);
    scalarAmaxOf(x);
    return {op.getScale(), op.getInverse()};
  }
  Value amax = scalarAmaxOf(x);
  if (format.getRecipe() == Recipe::Fixed) {
    float value = format.getValue().convertToFloat();
    return {ConstantOp::scalar(builder, loc, value),
            ConstantOp::scalar(builder, loc, 1.0f / value)};
  }
  DelayedState &state = states[stateOf.lookup(cast)];
  state.amax = amax;
  Value scale = func.getArgument(state.scale);
  Value one = ConstantOp::scalar(builder, loc, 1.0f);
  return {scale,
          named(DivOp::create(builder, loc, one, scale), name + "/inverse")};
}

Value Driver::quantize(CastOp cast, RankedTensorType type, Value scale) {
  std::string name = baseName(cast.getX()) + "/cast." +
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
  Type element = storageType(builder, format.getStorage());
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
  setStableName(decode, baseName(source.codes) + "/decode");
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
    if (auto name = func.getResultAttrOfType<StringAttr>(i, kNameAttr);
        name && name == kSkippedName)
      flag = terminator->getOperand(i);
  if (!flag && states.empty())
    return nullptr;
  Operation *firstUse = terminator;
  if (flag)
    for (Operation *user : flag.getUsers())
      if (user->isBeforeInBlock(firstUse))
        firstUse = user;
  SmallVector<Value> seen; // what comes later guards itself: see mpt.scale
  for (auto &[x, amax] : wholeAmaxes)
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

/// Writes this step's amax over the oldest of the ring, and takes the next
/// step's scale from the largest in it.
void Driver::update(const DelayedState &state, Value skip) {
  Location loc = func.getLoc();
  int64_t length = state.format.getHistory();
  std::string storage = stringifyStorage(state.format.getStorage()).str();
  std::string historyName = state.name + "/amax_history." + storage;
  std::string scaleName = state.name + "/scale." + storage;
  Value history = func.getArgument(state.history);
  Value scale = func.getArgument(state.scale);
  Value next;
  if (length == 1) {
    next = named(ReshapeOp::create(builder, loc, f32({1}), state.amax),
                 historyName);
  } else {
    auto indexType = RankedTensorType::get({length}, builder.getI32Type());
    Value index = named(IotaOp::create(builder, loc, indexType), historyName);
    Value position = func.getArgument(positions.lookup(length));
    index = named(ConvertOp::create(builder, loc, f32({length}), index),
                  historyName);
    Value here =
        named(CompareOp::create(builder, loc, Predicate::EQ, index, position),
              historyName);
    next = select(here, state.amax, history, historyName);
  }
  next = select(skip, history, next, historyName);
  Value largest = next;
  if (length > 1)
    largest = named(ReduceOp::create(builder, loc, Reduction::AbsMax, next,
                                     ArrayRef<int64_t>{0}),
                    scaleName);
  largest = named(ReshapeOp::create(builder, loc, f32(), largest), scaleName);
  Type element = storageType(builder, state.format.getStorage());
  auto made = named(ScaleOp::create(builder, loc, largest, scale, element,
                                    state.format.getMargin()),
                    scaleName);
  addResult(select(skip, scale, made.getScale(), scaleName), scaleName,
            state.scale);
  addResult(next, historyName, state.history);
}

/// Guards the updates that the step has, and updates the state that casts have.
void Driver::finish() {
  Value skip = guard();
  builder.setInsertionPoint(block.getTerminator());
  Location loc = func.getLoc();
  for (const DelayedState &state : states)
    update(state, skip);
  for (auto [length, argument] : positions) {
    std::string name = "amax_history.position." + std::to_string(length);
    Value position = func.getArgument(argument);
    Value next = named(AddOp::create(builder, loc, position,
                                     ConstantOp::scalar(builder, loc, 1.0f)),
                       name);
    Value end = named(
        CompareOp::create(builder, loc, Predicate::GE, next,
                          ConstantOp::scalar(builder, loc, float(length))),
        name);
    next = select(end, ConstantOp::scalar(builder, loc, 0.0f), next, name);
    addResult(select(skip, position, next, name), name, argument);
  }
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
