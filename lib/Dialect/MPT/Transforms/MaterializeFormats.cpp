//===- MaterializeFormats.cpp - casts become scales and codes -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Turns the formats that types only annotate into stored codes and the scales
// that belong to them, as separate values.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"

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

struct Driver {
  func::FuncOp func;
  Block &block;
  OpBuilder builder;
  int64_t numCodes = 0, numScales = 0;

  explicit Driver(func::FuncOp func)
      : func(func), block(func.getBody().front()), builder(func.getContext()) {}

  LogicalResult check();
  void run();

private:
  void materialize(CastOp cast);
  void rebuild(ViewOpInterface view);
  void lower(MatmulOp product);
  void decodeOperands(Operation *op);
  Value amaxOf(Value x, StringRef base);
  Value decoded(Value value);
  std::string baseName(Value value);

  /// By the value that is held in a format.
  DenseMap<Value, Stored> stored;
  DenseMap<Value, Value> amaxes;
  DenseMap<Value, Value> decodedValues;
  /// What the new ops take the place of, in order.
  SmallVector<Operation *> replaced;
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

/// What this version of the pass cannot materialize in `format`, or "".
std::string unsupported(FormatAttr format) {
  if (format.getRecipe() == Recipe::Delayed ||
      format.getRecipe() == Recipe::Fixed)
    return ("recipe " + stringifyRecipe(format.getRecipe())).str();
  if (format.isScaled() && format.getScale() != Granularity::PerTensor)
    return ("scale " + stringifyGranularity(format.getScale())).str();
  if (format.getRounding() != Rounding::Nearest)
    return ("rounding " + stringifyRounding(format.getRounding())).str();
  return "";
}

/// Formats stay inside the step: neither an argument nor a result has one.
LogicalResult Driver::check() {
  for (auto [types, what] : {std::pair(func.getArgumentTypes(), "argument "),
                             std::pair(func.getResultTypes(), "result ")})
    for (auto [i, type] : llvm::enumerate(types))
      if (getFormat(type))
        return func.emitError() << "mpt-materialize-formats: " << what << i
                                << " is held in a format: " << type;
  for (Operation &op : block) {
    auto cast = dyn_cast<CastOp>(op);
    if (!cast)
      continue;
    if (std::string what = unsupported(cast.getFormat()); !what.empty())
      return cast.emitOpError() << "named '" << getStableName(cast)
                                << "': " << what << " is not supported yet";
  }
  return success();
}

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

/// max |x| over all elements, as a scalar; computed where it is first needed.
Value Driver::amaxOf(Value x, StringRef base) {
  Value &amax = amaxes[x];
  if (amax)
    return amax;
  auto rank = cast<RankedTensorType>(x.getType()).getRank();
  auto axes = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  auto reduce =
      ReduceOp::create(builder, x.getLoc(), Reduction::AbsMax, x, axes);
  setStableName(reduce, (base + "/amax").str());
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  amax = reduce.getY();
  if (amax.getType() != scalar) {
    auto reshape = ReshapeOp::create(builder, x.getLoc(), scalar, amax);
    setStableName(reshape, (base + "/amax").str());
    amax = reshape.getY();
  }
  return amax;
}

void Driver::materialize(CastOp cast) {
  FormatAttr format = cast.getFormat();
  Value x = cast.getX();
  replaced.push_back(cast);
  if (format.getStorage() == Storage::F32) {
    stored[cast.getY()] = {x, nullptr};
    return;
  }
  builder.setInsertionPoint(cast);
  std::string base = baseName(x);
  StringRef storageName = stringifyStorage(format.getStorage());
  Type element = storageType(builder, format.getStorage());
  Value scale, inverse;
  if (format.isScaled()) {
    auto op = ScaleOp::create(builder, cast.getLoc(), amaxOf(x, base),
                              TypeAttr::get(element));
    setStableName(op, base + "/scale." + storageName.str());
    scale = op.getScale();
    inverse = op.getInverse();
    ++numScales;
  }
  auto type = RankedTensorType::get(cast.getY().getType().getShape(), element);
  auto codes = QuantizeOp::create(builder, cast.getLoc(), type, x, scale);
  setStableName(codes, base + "/cast." + storageName.str());
  stored[cast.getY()] = {codes.getY(), inverse};
  ++numCodes;
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

/// The real values of a held tensor, decoded once.
Value Driver::decoded(Value value) {
  Value &result = decodedValues[value];
  if (result)
    return result;
  Stored source = stored.lookup(value);
  if (getElementTypeOrSelf(source.codes.getType()).isF32())
    return result = source.codes;
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

struct MaterializeFormats
    : mpt::impl::MaterializeFormatsBase<MaterializeFormats> {
  using MaterializeFormatsBase::MaterializeFormatsBase;

  void runOnOperation() override {
    func::FuncOp func =
        getStage(getOperation(), "step", "mpt-materialize-formats");
    if (!func)
      return signalPassFailure();
    Driver driver(func);
    if (failed(driver.check()))
      return signalPassFailure();
    driver.run();
    numCodes += driver.numCodes;
    numScales += driver.numScales;
  }
};

} // namespace
