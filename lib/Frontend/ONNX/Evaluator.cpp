//===- Evaluator.cpp - ONNX ops on constants ------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What exporters write between a model's constants: shape arithmetic, index
// grids and masks. Integers are checked for overflow; f32 results are rounded
// after every op, so that folding changes no value.
//
//===----------------------------------------------------------------------===//

#include "HostTensor.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <limits>

using namespace mpt::onnx_import;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::SmallVector;
using llvm::StringRef;
using llvm::Twine;

using Inputs = ArrayRef<const HostTensor *>;
using Node = onnx::NodeProto;
using Shape = SmallVector<int64_t>;

namespace {

/// Zeros of a type and shape, unless that is too large for a constant.
Expected<HostTensor> make(int32_t type, ArrayRef<int64_t> shape) {
  auto count = countElements(shape);
  if (!count)
    return count.takeError();
  if (*count > kMaxConstantElements)
    return createStringError("constant of " + Twine(*count) +
                             " elements is too large to fold");
  return HostTensor(type, shape);
}

/// Input `index`, or null where it is absent.
const HostTensor *input(Inputs inputs, size_t index) {
  return index < inputs.size() ? inputs[index] : nullptr;
}

/// Fails unless the first `count` inputs are there.
Error need(Inputs inputs, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (!input(inputs, i))
      return createStringError("expected " + Twine(count) + " inputs, found " +
                               Twine(inputs.size()));
  return Error::success();
}

/// `value` as a value of `type`: rounded to f32 or checked against i32's range.
Error store(HostTensor &tensor, int64_t at, double value) {
  tensor.reals[at] = tensor.dataType == onnx::TensorProto::FLOAT
                         ? static_cast<float>(value)
                         : value;
  return Error::success();
}
Error store(HostTensor &tensor, int64_t at, int64_t value) {
  if (tensor.dataType == onnx::TensorProto::INT32 &&
      value != static_cast<int32_t>(value))
    return createStringError("integer overflow: " + Twine(value) +
                             " is no 32-bit integer");
  tensor.integers[at] = value;
  return Error::success();
}

Expected<HostTensor> withShape(const HostTensor &tensor,
                               Expected<Shape> shape) {
  if (!shape)
    return shape.takeError();
  HostTensor result = tensor;
  result.shape = *shape;
  return result;
}

/// Calls body(linear output index, offset into an operand of `strides`) for all
/// elements of `shape`.
template <typename Body>
Error forEach(ArrayRef<int64_t> shape, ArrayRef<Shape> strides, Body body) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  Shape index(shape.size(), 0), offsets(strides.size(), 0);
  for (int64_t at = 0; at < count; ++at) {
    if (Error error = body(at, ArrayRef<int64_t>(offsets)))
      return error;
    for (int64_t d = static_cast<int64_t>(shape.size()) - 1; d >= 0; --d) {
      ++index[d];
      for (size_t s = 0; s < strides.size(); ++s)
        offsets[s] += strides[s][d];
      if (index[d] < shape[d])
        break;
      for (size_t s = 0; s < strides.size(); ++s)
        offsets[s] -= strides[s][d] * shape[d];
      index[d] = 0;
    }
  }
  return Error::success();
}

/// Strides with which a tensor of shape `from` is read in a result `to`.
Shape broadcastStrides(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  Shape own = stridesOf(from), strides(to.size(), 0);
  size_t lead = to.size() - from.size();
  for (size_t d = 0; d < from.size(); ++d)
    strides[lead + d] = from[d] == 1 ? 0 : own[d];
  return strides;
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

enum class Fn {
  Add,
  Sub,
  Mul,
  Div,
  Mod,
  Max,
  Min,
  EQ,
  LT,
  LE,
  GT,
  GE,
  And,
  Or
};

/// Integer result of `fn`, or an error on overflow and division by zero.
Expected<int64_t> apply(Fn fn, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (fn) {
  case Fn::Add:
    overflow = __builtin_add_overflow(a, b, &result);
    break;
  case Fn::Sub:
    overflow = __builtin_sub_overflow(a, b, &result);
    break;
  case Fn::Mul:
    overflow = __builtin_mul_overflow(a, b, &result);
    break;
  case Fn::Div:
  case Fn::Mod:
    if (b == 0)
      return createStringError("integer division by zero");
    overflow = b == -1 && a == std::numeric_limits<int64_t>::min();
    if (!overflow)
      result = fn == Fn::Div ? a / b : a % b;
    if (fn == Fn::Mod && !overflow && result != 0 && (result < 0) != (b < 0))
      result += b; // the sign of the divisor, as fmod = 0 says
    break;
  case Fn::Max:
    return std::max(a, b);
  case Fn::Min:
    return std::min(a, b);
  case Fn::EQ:
    return a == b;
  case Fn::LT:
    return a < b;
  case Fn::LE:
    return a <= b;
  case Fn::GT:
    return a > b;
  case Fn::GE:
    return a >= b;
  case Fn::And:
    return a && b;
  case Fn::Or:
    return a || b;
  }
  if (overflow)
    return createStringError("integer overflow in constant arithmetic on " +
                             Twine(a) + " and " + Twine(b));
  return result;
}

/// Real result of an arithmetic `fn`; f32 operations round once because double
/// holds their exact inputs and rounds innocuously.
double applyReal(Fn fn, double a, double b) {
  switch (fn) {
  case Fn::Add:
    return a + b;
  case Fn::Sub:
    return a - b;
  case Fn::Mul:
    return a * b;
  case Fn::Div:
    return a / b;
  case Fn::Max:
    return std::max(a, b);
  case Fn::Min:
    return std::min(a, b);
  case Fn::EQ:
    return a == b;
  case Fn::LT:
    return a < b;
  case Fn::LE:
    return a <= b;
  case Fn::GT:
    return a > b;
  case Fn::GE:
    return a >= b;
  default:
    return std::fmod(a, b);
  }
}

bool isPredicate(Fn fn) { return fn >= Fn::EQ; }

Expected<HostTensor> binary(Fn fn, const HostTensor &lhs,
                            const HostTensor &rhs) {
  if (lhs.dataType != rhs.dataType)
    return createStringError("expected operands of one type, found " +
                             dataTypeName(lhs.dataType) + " and " +
                             dataTypeName(rhs.dataType));
  auto shape = broadcastedShape(lhs.shape, rhs.shape);
  if (!shape)
    return shape.takeError();
  auto result =
      make(isPredicate(fn) ? int32_t(onnx::TensorProto::BOOL) : lhs.dataType,
           *shape);
  if (!result)
    return result;
  Shape strides[] = {broadcastStrides(lhs.shape, *shape),
                     broadcastStrides(rhs.shape, *shape)};
  Error error =
      forEach(*shape, strides, [&](int64_t at, ArrayRef<int64_t> from) {
        if (lhs.isReal()) {
          double value = applyReal(fn, lhs.reals[from[0]], rhs.reals[from[1]]);
          return isPredicate(fn)
                     ? store(*result, at, static_cast<int64_t>(value))
                     : store(*result, at, value);
        }
        auto value = apply(fn, lhs.integers[from[0]], rhs.integers[from[1]]);
        return value ? store(*result, at, *value) : value.takeError();
      });
  if (error)
    return std::move(error);
  return result;
}

/// Left fold of a binary function over all inputs (Max and Min take several).
template <Fn fn> Expected<HostTensor> fold(const Node &, Inputs inputs) {
  if (Error error = need(inputs, std::max<size_t>(inputs.size(), 1)))
    return std::move(error);
  HostTensor result = *inputs[0];
  for (const HostTensor *other : inputs.drop_front()) {
    auto next = binary(fn, result, *other);
    if (!next)
      return next;
    result = std::move(*next);
  }
  return result;
}

template <double (*real)(double)>
Expected<HostTensor> unary(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  HostTensor result = *inputs[0];
  if (!result.isReal())
    return createStringError("expected a floating-point tensor, found " +
                             dataTypeName(result.dataType));
  for (auto [at, value] : llvm::enumerate(inputs[0]->reals))
    if (Error error = store(result, at, real(value)))
      return std::move(error);
  return result;
}

double negated(double x) { return -x; }
double squareRoot(double x) { return std::sqrt(x); }
double exponential(double x) { return std::exp(x); }

Expected<HostTensor> neg(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  if (inputs[0]->isReal())
    return unary<negated>(node, inputs);
  HostTensor zero(inputs[0]->dataType, {});
  return binary(Fn::Sub, zero, *inputs[0]);
}

Expected<HostTensor> logicalNot(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  HostTensor result = *inputs[0];
  for (int64_t &value : result.integers)
    value = !value;
  return result;
}

Expected<HostTensor> where(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 3))
    return std::move(error);
  const HostTensor &condition = *inputs[0], &yes = *inputs[1], &no = *inputs[2];
  if (yes.dataType != no.dataType || condition.isReal())
    return createStringError(
        "expected a BOOL condition and branches of one type");
  auto inner = broadcastedShape(yes.shape, no.shape);
  if (!inner)
    return inner.takeError();
  auto shape = broadcastedShape(condition.shape, *inner);
  if (!shape)
    return shape.takeError();
  auto result = make(yes.dataType, *shape);
  if (!result)
    return result;
  Shape strides[] = {broadcastStrides(condition.shape, *shape),
                     broadcastStrides(yes.shape, *shape),
                     broadcastStrides(no.shape, *shape)};
  llvm::cantFail(
      forEach(*shape, strides, [&](int64_t at, ArrayRef<int64_t> from) {
        bool chosen = condition.integers[from[0]];
        result->set(at, chosen ? yes : no, chosen ? from[1] : from[2]);
        return Error::success();
      }));
  return result;
}

Expected<HostTensor> castTo(const HostTensor &from, int32_t type) {
  if (dataTypeBytes(type) == 0)
    return createStringError("cannot cast to " + dataTypeName(type) +
                             ", expected FLOAT, DOUBLE, INT32, INT64 or BOOL");
  HostTensor result(type, from.shape);
  auto castOne = [&](int64_t at) -> Error {
    double real = from.isReal() ? from.reals[at] : 0;
    int64_t integer = from.isReal() ? 0 : from.integers[at];
    if (result.isReal())
      return store(result, at,
                   from.isReal() ? real : static_cast<double>(integer));
    if (type == onnx::TensorProto::BOOL)
      return store(result, at,
                   int64_t(from.isReal() ? real != 0 : integer != 0));
    if (from.isReal() && !(std::fabs(real) < 0x1p63))
      return createStringError("integer overflow: the real number is no 64-bit "
                               "integer");
    return store(result, at,
                 from.isReal() ? static_cast<int64_t>(real) : integer);
  };
  for (int64_t at = 0, end = from.size(); at < end; ++at)
    if (Error error = castOne(at))
      return std::move(error);
  return result;
}

Expected<HostTensor> cast(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  return castTo(*inputs[0], Attributes(node).integer("to", 0));
}

Expected<HostTensor> castLike(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  return castTo(*inputs[0], inputs[1]->dataType);
}

//===----------------------------------------------------------------------===//
// Shapes and rearrangement
//===----------------------------------------------------------------------===//

Expected<HostTensor> identity(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  return *inputs[0];
}

Expected<HostTensor> reshape(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  return withShape(*inputs[0],
                   reshapedShape(inputs[0]->shape, inputs[1]->integers,
                                 Attributes(node).integer("allowzero", 0)));
}

Expected<HostTensor> unsqueeze(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  return withShape(*inputs[0],
                   unsqueezedShape(inputs[0]->shape, inputs[1]->integers));
}

Expected<HostTensor> squeeze(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  std::optional<ArrayRef<int64_t>> axes;
  if (const HostTensor *given = input(inputs, 1))
    axes = ArrayRef(given->integers);
  return withShape(*inputs[0], squeezedShape(inputs[0]->shape, axes));
}

/// The elements of `from` that strides and an offset name, in a new shape.
Expected<HostTensor> view(const HostTensor &from, ArrayRef<int64_t> shape,
                          Shape strides, int64_t offset) {
  auto result = make(from.dataType, shape);
  if (!result)
    return result;
  llvm::cantFail(
      forEach(shape, {strides}, [&](int64_t at, ArrayRef<int64_t> o) {
        result->set(at, from, offset + o[0]);
        return Error::success();
      }));
  return result;
}

Expected<HostTensor> expand(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  auto shape = broadcastedShape(inputs[0]->shape, inputs[1]->integers);
  if (!shape)
    return shape.takeError();
  return view(*inputs[0], *shape, broadcastStrides(inputs[0]->shape, *shape),
              0);
}

Expected<HostTensor> transpose(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  auto permutation = permutationOf(Attributes(node), inputs[0]->shape.size());
  if (!permutation)
    return permutation.takeError();
  Shape own = stridesOf(inputs[0]->shape), shape, strides;
  for (int64_t d : *permutation) {
    shape.push_back(inputs[0]->shape[d]);
    strides.push_back(own[d]);
  }
  return view(*inputs[0], shape, strides, 0);
}

Expected<HostTensor> slice(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 3))
    return std::move(error);
  auto bounds = sliceBounds(inputs[0]->shape, inputs);
  if (!bounds)
    return bounds.takeError();
  Shape strides = stridesOf(inputs[0]->shape);
  int64_t offset = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    offset += bounds->starts[d] * strides[d];
    if (bounds->sizes[d] > 1) // a step may be huge where it is not taken
      strides[d] *= bounds->steps[d];
  }
  return view(*inputs[0], bounds->sizes, strides, offset);
}

Expected<HostTensor> concat(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, std::max<size_t>(inputs.size(), 1)))
    return std::move(error);
  auto axis = normalizeAxis(Attributes(node).integer("axis", 0),
                            inputs[0]->shape.size());
  if (!axis)
    return axis.takeError();
  Shape shape = inputs[0]->shape;
  shape[*axis] = 0;
  for (const HostTensor *part : inputs) {
    Shape expected = shape;
    if (part->shape.size() == shape.size())
      expected[*axis] = part->shape[*axis];
    if (part->shape != expected || part->dataType != inputs[0]->dataType)
      return createStringError(
          "inputs differ in type or in other dims than the "
          "concatenated one");
    shape[*axis] += part->shape[*axis];
  }
  auto result = make(inputs[0]->dataType, shape);
  if (!result)
    return result;
  int64_t inner = stridesOf(shape)[*axis], outer = 1, start = 0;
  for (int64_t d = 0; d < *axis; ++d)
    outer *= shape[d];
  for (const HostTensor *part : inputs) {
    int64_t row = part->shape[*axis] * inner;
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t j = 0; j < row; ++j)
        result->set(i * shape[*axis] * inner + start + j, *part, i * row + j);
    start += row;
  }
  return result;
}

Expected<HostTensor> gather(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  const HostTensor &data = *inputs[0], &ids = *inputs[1];
  auto axis =
      normalizeAxis(Attributes(node).integer("axis", 0), data.shape.size());
  if (!axis)
    return axis.takeError();
  Shape shape(data.shape.begin(), data.shape.begin() + *axis);
  llvm::append_range(shape, ids.shape);
  llvm::append_range(shape,
                     ArrayRef<int64_t>(data.shape).drop_front(*axis + 1));
  auto result = make(data.dataType, shape);
  if (!result)
    return result;
  int64_t inner = stridesOf(data.shape)[*axis], rows = data.shape[*axis];
  int64_t outer = rows * inner ? data.size() / (rows * inner) : 0, at = 0;
  for (int64_t i = 0; i < outer; ++i)
    for (int64_t id : ids.integers) {
      if (id < -rows || id >= rows)
        return createStringError("index " + Twine(id) + " is outside [" +
                                 Twine(-rows) + ", " + Twine(rows) + ")");
      int64_t row = i * rows + (id < 0 ? id + rows : id);
      for (int64_t j = 0; j < inner; ++j)
        result->set(at++, data, row * inner + j);
    }
  return result;
}

Expected<HostTensor> gatherElements(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 2))
    return std::move(error);
  const HostTensor &data = *inputs[0], &ids = *inputs[1];
  int64_t rank = data.shape.size();
  auto axis = normalizeAxis(Attributes(node).integer("axis", 0), rank);
  if (!axis)
    return axis.takeError();
  if (ids.isReal() || static_cast<int64_t>(ids.shape.size()) != rank)
    return createStringError("expected integer indices of the data's rank");
  for (int64_t d = 0; d < rank; ++d)
    if (d != *axis && ids.shape[d] > data.shape[d])
      return createStringError("the indices are larger than the data in dim " +
                               Twine(d));
  auto result = make(data.dataType, ids.shape);
  if (!result)
    return result;
  Shape strides = stridesOf(data.shape);
  int64_t rows = data.shape[*axis], step = strides[*axis];
  strides[*axis] = 0; // which the index replaces
  Error error = forEach(
      ids.shape, {strides}, [&](int64_t at, ArrayRef<int64_t> from) -> Error {
        int64_t id = ids.integers[at];
        if (id < -rows || id >= rows)
          return createStringError("index " + Twine(id) + " is outside [" +
                                   Twine(-rows) + ", " + Twine(rows) + ")");
        int64_t row = id < 0 ? id + rows : id;
        result->set(at, data, from[0] + row * step);
        return Error::success();
      });
  if (error)
    return std::move(error);
  return result;
}

Expected<HostTensor> range(const Node &, Inputs inputs) {
  if (Error error = need(inputs, 3))
    return std::move(error);
  const HostTensor &start = *inputs[0], &limit = *inputs[1],
                   &delta = *inputs[2];
  if (start.isReal() || limit.isReal() || delta.isReal() || start.size() != 1 ||
      limit.size() != 1 || delta.size() != 1)
    return createStringError("expected integer scalars");
  int64_t first = start.integers[0], last = limit.integers[0],
          step = delta.integers[0], span = 0;
  if (step == 0)
    return createStringError("expected a delta other than 0");
  if (__builtin_sub_overflow(last, first, &span) ||
      span == std::numeric_limits<int64_t>::min())
    return createStringError("integer overflow in the length of the range");
  int64_t count = span / step + (span % step != 0 && (span < 0) == (step < 0));
  auto result = make(start.dataType, {std::max<int64_t>(count, 0)});
  if (!result)
    return result;
  for (auto [i, value] : llvm::enumerate(result->integers))
    value = first + static_cast<int64_t>(i) * step;
  return result;
}

Expected<HostTensor> constantOfShape(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  HostTensor value(onnx::TensorProto::FLOAT, {1});
  if (const auto *attribute = Attributes(node).find("value")) {
    auto tensor = toFileTensor(attribute->t());
    if (!tensor)
      return tensor.takeError();
    auto host = toHostTensor(*tensor);
    if (!host)
      return host;
    value = std::move(*host);
  }
  if (value.size() != 1)
    return createStringError("expected a value of one element");
  value.shape.clear();
  return view(value, inputs[0]->integers, Shape(inputs[0]->size(), 0), 0);
}

/// Product of all elements: how exporters count the elements of a shape.
Expected<HostTensor> reduceProd(const Node &node, Inputs inputs) {
  if (Error error = need(inputs, 1))
    return std::move(error);
  const HostTensor &from = *inputs[0];
  if (from.isReal() || from.shape.size() > 1)
    return createStringError("expected an integer vector");
  auto product = countElements(from.integers);
  if (!product)
    return product.takeError();
  bool keep = Attributes(node).integer("keepdims", 1);
  HostTensor result(from.dataType,
                    keep ? ArrayRef<int64_t>{1} : ArrayRef<int64_t>());
  result.integers[0] = *product;
  return result;
}
} // namespace

Evaluator mpt::onnx_import::findEvaluator(StringRef opType) {
  static const llvm::StringMap<Evaluator> table = {
      {"Add", fold<Fn::Add>},
      {"Sub", fold<Fn::Sub>},
      {"Mul", fold<Fn::Mul>},
      {"Div", fold<Fn::Div>},
      {"Mod", fold<Fn::Mod>},
      {"Max", fold<Fn::Max>},
      {"Min", fold<Fn::Min>},
      {"Equal", fold<Fn::EQ>},
      {"Less", fold<Fn::LT>},
      {"LessOrEqual", fold<Fn::LE>},
      {"Greater", fold<Fn::GT>},
      {"GreaterOrEqual", fold<Fn::GE>},
      {"And", fold<Fn::And>},
      {"Or", fold<Fn::Or>},
      {"Not", logicalNot},
      {"Neg", neg},
      {"Sqrt", unary<squareRoot>},
      {"Exp", unary<exponential>},
      {"Where", where},
      {"Cast", cast},
      {"CastLike", castLike},
      {"Identity", identity},
      {"Reshape", reshape},
      {"Unsqueeze", unsqueeze},
      {"Squeeze", squeeze},
      {"Expand", expand},
      {"Transpose", transpose},
      {"Slice", slice},
      {"Concat", concat},
      {"Gather", gather},
      {"GatherElements", gatherElements},
      {"Range", range},
      {"ConstantOfShape", constantOfShape},
      {"ReduceProd", reduceProd},
  };
  return table.lookup(opType);
}
