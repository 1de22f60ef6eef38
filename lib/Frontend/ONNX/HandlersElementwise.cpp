//===- HandlersElementwise.cpp - elementwise ONNX ops ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Arithmetic, activations, comparisons, selection, conversion and dropout.
// Broadcasts of operands are postponed to the result, so that a mask is
// computed at its own size.
//
//===----------------------------------------------------------------------===//

#include "Handlers.h"
#include "mlir/IR/Matchers.h"
#include <cmath>

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

using Shape = SmallVector<int64_t>;

namespace {

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Operands of an elementwise op before they are stretched, and the shape that
/// the result must have.
struct Operands {
  SmallVector<Value> values;
  Shape shape;
};

/// A constant whose elements are all equal, as a rank 0 tensor; else null.
Value scalarConstant(NodeContext &node, int index) {
  const HostTensor *constant = node.constant(index);
  if (!constant || constant->size() == 0)
    return nullptr;
  auto attribute = dyn_cast_or_null<SplatElementsAttr>(
      toAttribute(*constant, node.importer.builder.getContext()));
  if (!attribute)
    return nullptr;
  auto type = RankedTensorType::get({}, attribute.getElementType());
  return node.importer.constant(
      DenseElementsAttr::get(type, attribute.getSplatValue<Attribute>()));
}

Expected<Operands> prepare(NodeContext &node, ArrayRef<int> inputs) {
  Operands operands;
  for (int index : inputs) {
    auto value = node.value(index);
    if (!value)
      return value.takeError();
    auto shape = broadcastedShape(operands.shape, node.shape(index));
    if (!shape)
      return shape.takeError();
    operands.shape = *shape;
    Value source = *value;
    if (Value scalar = scalarConstant(node, index))
      source = scalar;
    else if (auto broadcast = source.getDefiningOp<BroadcastOp>())
      source = broadcast.getX();
    operands.values.push_back(source);
  }
  return operands;
}

/// Shape of the operands' broadcast before stretching to the result's.
Shape ownShape(ArrayRef<Value> values) {
  Shape shape;
  for (Value value : values)
    shape = *broadcastShapes(shape, typeOf(value).getShape());
  return shape;
}

Type elementType(OpBuilder &builder, char code) {
  return code == 'b'   ? Type(builder.getI1Type())
         : code == 'i' ? Type(builder.getI64Type())
                       : Type(builder.getF32Type());
}

Error checkElements(ArrayRef<Value> values, Type expected) {
  for (auto [i, value] : llvm::enumerate(values))
    if (typeOf(value).getElementType() != expected) {
      std::string found;
      llvm::raw_string_ostream stream(found);
      stream << "expected operands of type " << expected << ", found operand "
             << i << " of type " << value.getType();
      return createStringError(found);
    }
  return Error::success();
}

SmallVector<int> allInputs(const NodeContext &node) {
  return llvm::to_vector(llvm::seq<int>(0, node.node.input_size()));
}

/// The value of a constant of equal f32 elements.
std::optional<float> realConstant(Value value) {
  auto op = value.getDefiningOp<ConstantOp>();
  auto splat = op ? dyn_cast<SplatElementsAttr>(op.getValue()) : nullptr;
  if (!splat || !splat.getElementType().isF32())
    return std::nullopt;
  return splat.getSplatValue<APFloat>().convertToFloat();
}

bool isConstant(Value value, double expected) {
  auto found = realConstant(value);
  return found && std::fabs(*found - expected) < 1e-6;
}

/// y if `value` is erf(y / sqrt(2)) + 1, else null.
Value matchErfPlusOne(Value value) {
  auto sum = value.getDefiningOp<AddOp>();
  if (!sum)
    return nullptr;
  for (unsigned i = 0; i < 2; ++i) {
    auto erf = sum.getOperand(i).getDefiningOp<ErfOp>();
    if (!erf || !isConstant(sum.getOperand(1 - i), 1))
      continue;
    if (auto div = erf.getX().getDefiningOp<DivOp>())
      if (isConstant(div.getRhs(), std::sqrt(2.0)))
        return div.getLhs();
    if (auto mul = erf.getX().getDefiningOp<MulOp>())
      for (unsigned j = 0; j < 2; ++j)
        if (isConstant(mul.getOperand(j), std::sqrt(0.5)))
          return mul.getOperand(1 - j);
  }
  return nullptr;
}

/// x if lhs * rhs is 0.5 * x * (1 + erf(x / sqrt(2))) in any order, else null.
Value matchGelu(Value lhs, Value rhs) {
  SmallVector<Value> factors;
  for (Value side : {lhs, rhs}) {
    auto mul = side.getDefiningOp<MulOp>();
    if (mul && factors.size() < 2)
      llvm::append_range(factors, mul.getOperands());
    else
      factors.push_back(side);
  }
  if (factors.size() != 3)
    return nullptr;
  for (unsigned i = 0; i < 3; ++i)
    for (unsigned j = 0; j < 3; ++j)
      if (i != j && isConstant(factors[i], 0.5))
        if (Value y = matchErfPlusOne(factors[j]))
          if (y == factors[3 - i - j])
            return y;
  return nullptr;
}

} // namespace

//===----------------------------------------------------------------------===//
// Generic
//===----------------------------------------------------------------------===//

Error mpt::onnx_import::importElementwise(NodeContext &node, StringRef opName,
                                          char operandElement,
                                          char resultElement) {
  auto operands = prepare(node, allInputs(node));
  if (!operands)
    return operands.takeError();
  OpBuilder &builder = node.importer.builder;
  if (Error error =
          checkElements(operands->values, elementType(builder, operandElement)))
    return error;
  OperationState state(node.importer.location, opName);
  state.addOperands(operands->values);
  state.addTypes(RankedTensorType::get(ownShape(operands->values),
                                       elementType(builder, resultElement)));
  Operation *op = builder.create(state);
  node.importer.naming.setScope(op, node.importer.currentScope());
  return node.define(
      0, node.importer.broadcast(op->getResult(0), operands->shape));
}

Error mpt::onnx_import::importMul(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto values = node.allValues();
  if (!values)
    return values.takeError();
  if (Value x = matchGelu((*values)[0], (*values)[1]))
    return node.define(0, node.importer.create<GeluOp>(x));
  return importElementwise(node, MulOp::getOperationName(), 'f', 'f');
}

/// Remembers `bias` as the bias of the product that `sum` is.
static void recordBias(NodeContext &node, Value sum, Value bias) {
  GraphImporter &importer = node.importer;
  Argument *vector = importer.parameterOf(bias);
  auto product = sum.getDefiningOp<MatmulOp>();
  if (!vector || typeOf(bias).getRank() > 1 || !product)
    return;
  Argument *weight = importer.parameterOf(product.getRhs());
  importer.vectorUses.push_back({bias, "bias of a product",
                                 weight ? weight->name : std::string(),
                                 node.node.name()});
}

Error mpt::onnx_import::importAdd(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto values = node.allValues();
  if (!values)
    return values.takeError();
  recordBias(node, (*values)[0], (*values)[1]);
  recordBias(node, (*values)[1], (*values)[0]);
  return importElementwise(node, AddOp::getOperationName(), 'f', 'f');
}

Error mpt::onnx_import::importGelu(NodeContext &node) {
  std::string form = node.attributes.string("approximate", "none");
  if (form != "none")
    return createStringError("expected approximate = \"none\" (the erf form), "
                             "found \"" +
                             form + "\"");
  return importElementwise(node, GeluOp::getOperationName(), 'f', 'f');
}

//===----------------------------------------------------------------------===//
// Comparison and logic
//===----------------------------------------------------------------------===//

template <Predicate predicate>
Error mpt::onnx_import::importCompare(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto operands = prepare(node, {0, 1});
  if (!operands)
    return operands.takeError();
  Type element = typeOf(operands->values[0]).getElementType();
  if (!element.isF32() && !element.isInteger(64) && !element.isInteger(32))
    return createStringError("expected operands of type f32, i32 or i64");
  if (Error error = checkElements(operands->values, element))
    return error;
  Value result = node.importer.create<CompareOp>(predicate, operands->values[0],
                                                 operands->values[1]);
  return node.define(0, node.importer.broadcast(result, operands->shape));
}
template Error mpt::onnx_import::importCompare<Predicate::EQ>(NodeContext &);
template Error mpt::onnx_import::importCompare<Predicate::LT>(NodeContext &);
template Error mpt::onnx_import::importCompare<Predicate::LE>(NodeContext &);
template Error mpt::onnx_import::importCompare<Predicate::GT>(NodeContext &);
template Error mpt::onnx_import::importCompare<Predicate::GE>(NodeContext &);

/// And (neutral element true) and Or (false): an operand that is all neutral
/// only stretches the other.
static Error importLogical(NodeContext &node, StringRef opName, bool neutral) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  for (int i = 0; i < 2; ++i) {
    const HostTensor *constant = node.constant(i);
    if (!constant || constant->dataType != onnx::TensorProto::BOOL ||
        !constant->isAll(neutral))
      continue;
    auto shape = broadcastedShape(node.shape(0), node.shape(1));
    auto other = node.value(1 - i);
    if (!shape)
      return llvm::joinErrors(shape.takeError(), other.takeError());
    if (!other)
      return other.takeError();
    if (!typeOf(*other).getElementType().isInteger(1))
      break;
    return node.define(0, node.importer.broadcast(*other, *shape));
  }
  return importElementwise(node, opName, 'b', 'b');
}

Error mpt::onnx_import::importAnd(NodeContext &node) {
  return importLogical(node, AndOp::getOperationName(), true);
}
Error mpt::onnx_import::importOr(NodeContext &node) {
  return importLogical(node, OrOp::getOperationName(), false);
}

Error mpt::onnx_import::importWhere(NodeContext &node) {
  if (Error error = node.expectInputs(3, 3))
    return error;
  auto operands = prepare(node, {0, 1, 2});
  if (!operands)
    return operands.takeError();
  OpBuilder &builder = node.importer.builder;
  if (Error error = checkElements(operands->values[0], builder.getI1Type()))
    return error;
  Value result;
  const HostTensor *condition = node.constant(0);
  for (bool side : {true, false})
    if (condition && condition->isAll(side))
      result = operands->values[side ? 1 : 2];
  if (!result) {
    if (Error error = checkElements(ArrayRef(operands->values).drop_front(),
                                    builder.getF32Type()))
      return error;
    result = node.importer.create<SelectOp>(
        operands->values[0], operands->values[1], operands->values[2]);
  }
  return node.define(0, node.importer.broadcast(result, operands->shape));
}

Error mpt::onnx_import::importIsNaN(NodeContext &node) {
  auto x = node.real(0);
  if (!x)
    return x.takeError();
  return node.define(0, node.importer.create<CompareOp>(Predicate::NE, *x, *x));
}

//===----------------------------------------------------------------------===//
// Conversion
//===----------------------------------------------------------------------===//

static Error castInput(NodeContext &node, int32_t dataType) {
  GraphImporter &importer = node.importer;
  OpBuilder &builder = importer.builder;
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  Type to;
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
    to = builder.getF32Type();
    break;
  case onnx::TensorProto::INT64:
    to = builder.getI64Type();
    break;
  case onnx::TensorProto::INT32:
    to = builder.getI32Type();
    break;
  case onnx::TensorProto::BOOL:
    to = builder.getI1Type();
    break;
  default:
    return createStringError("expected a cast to FLOAT, INT32, INT64 or BOOL, "
                             "found " +
                             dataTypeName(dataType));
  }
  Type from = typeOf(*x).getElementType();
  if (from == to)
    return node.define(0, *x);
  if (!to.isInteger(1)) {
    auto type = RankedTensorType::get(typeOf(*x).getShape(), to);
    return node.define(0, importer.create<ConvertOp>(type, *x));
  }
  // "Not zero" is what a cast to BOOL means, whatever the input's type.
  Attribute zero = builder.getZeroAttr(from);
  Value zeros = importer.constant(
      DenseElementsAttr::get(RankedTensorType::get({}, from), zero));
  return node.define(0, importer.create<CompareOp>(Predicate::NE, *x, zeros));
}

Error mpt::onnx_import::importCast(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  return castInput(node, node.attributes.integer("to", 0));
}

Error mpt::onnx_import::importCastLike(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  if (const HostTensor *like = node.constant(1))
    return castInput(node, like->dataType);
  auto like = node.value(1);
  if (!like)
    return like.takeError();
  Type element = typeOf(*like).getElementType();
  return castInput(node, element.isF32()         ? onnx::TensorProto::FLOAT
                         : element.isInteger(64) ? onnx::TensorProto::INT64
                         : element.isInteger(32) ? onnx::TensorProto::INT32
                                                 : onnx::TensorProto::BOOL);
}

//===----------------------------------------------------------------------===//
// Dropout
//===----------------------------------------------------------------------===//

Error mpt::onnx_import::importDropout(NodeContext &node) {
  GraphImporter &importer = node.importer;
  if (Error error = node.expectInputs(1, 3))
    return error;
  if (Error error = node.expectOutputs(1))
    return error;
  auto x = node.real(0);
  if (!x)
    return x.takeError();
  for (int i : {1, 2})
    if (node.has(i) && (!node.constant(i) || node.constant(i)->size() != 1))
      return createStringError("expected a constant scalar for " +
                               llvm::Twine(i == 1 ? "ratio" : "training_mode"));
  const HostTensor *ratioInput = node.constant(1), *mode = node.constant(2);
  double ratio =
      ratioInput ? ratioInput->reals.empty() ? -1 : ratioInput->reals[0] : 0.5;
  if (!(ratio >= 0 && ratio < 1))
    return createStringError(
        "expected a floating-point ratio in [0, 1), found " +
        std::to_string(ratio));
  bool training = mode && !mode->integers.empty() && mode->integers[0] != 0;
  if (!mode && ratio > 0)
    importer.inactiveDropouts.push_back(node.node.name());
  if (!training || ratio == 0)
    return node.define(0, *x);
  // The id is the hash of the op's name, which is not known yet.
  Value id = ConstantOp::scalarInt(importer.builder, importer.location, 0);
  float keep = 1.0f - static_cast<float>(ratio);
  Value y =
      importer.create<DropoutOp>(*x, importer.rngSeed(), importer.rngStep(), id,
                                 importer.builder.getF32FloatAttr(keep));
  return node.define(0, y);
}
