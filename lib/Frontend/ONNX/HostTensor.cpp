//===- HostTensor.cpp - constants and shape rules of an import ------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reading constants, turning them into attributes, and the shape rules of the
// ops that only rearrange.
//
//===----------------------------------------------------------------------===//

#include "HostTensor.h"
#include "mlir/IR/Builders.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include <cstring>

using namespace mpt::onnx_import;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Expected;
using llvm::SmallVector;
using llvm::StringRef;
using llvm::Twine;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

HostTensor::HostTensor(int32_t dataType, ArrayRef<int64_t> shape)
    : dataType(dataType), shape(shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  if (isReal())
    reals.resize(count);
  else
    integers.resize(count);
}

HostTensor HostTensor::ofIntegers(ArrayRef<int64_t> values) {
  HostTensor tensor(onnx::TensorProto::INT64,
                    {static_cast<int64_t>(values.size())});
  tensor.integers.assign(values.begin(), values.end());
  return tensor;
}

bool HostTensor::isReal() const {
  return dataType == onnx::TensorProto::FLOAT ||
         dataType == onnx::TensorProto::DOUBLE;
}

void HostTensor::set(int64_t to, const HostTensor &other, int64_t from) {
  if (isReal())
    reals[to] = other.reals[from];
  else
    integers[to] = other.integers[from];
}

bool HostTensor::isAll(int64_t value) const {
  return isReal()
             ? llvm::all_of(reals, [&](double v) { return v == value; })
             : llvm::all_of(integers, [&](int64_t v) { return v == value; });
}

namespace {
/// Elements of type T at the (possibly unaligned) `bytes`, converted to U.
template <typename T, typename U>
void readAll(StringRef bytes, std::vector<U> &values) {
  values.resize(bytes.size() / sizeof(T));
  for (auto [i, value] : llvm::enumerate(values)) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    value = static_cast<U>(element);
  }
}
} // namespace

Expected<HostTensor> mpt::onnx_import::toHostTensor(const FileTensor &tensor) {
  HostTensor host;
  host.dataType = tensor.dataType;
  host.shape = tensor.shape;
  if (static_cast<int64_t>(tensor.bytes.size()) / 8 > kMaxConstantElements)
    return createStringError("constant '" + tensor.name + "' is too large: " +
                             Twine(tensor.bytes.size()) + " bytes");
  switch (tensor.dataType) {
  case onnx::TensorProto::FLOAT:
    readAll<float>(tensor.bytes, host.reals);
    break;
  case onnx::TensorProto::DOUBLE:
    readAll<double>(tensor.bytes, host.reals);
    break;
  case onnx::TensorProto::INT32:
    readAll<int32_t>(tensor.bytes, host.integers);
    break;
  case onnx::TensorProto::INT64:
    readAll<int64_t>(tensor.bytes, host.integers);
    break;
  case onnx::TensorProto::BOOL:
    readAll<uint8_t>(tensor.bytes, host.integers);
    for (int64_t &value : host.integers)
      value = value != 0;
    break;
  default:
    return createStringError("constant '" + tensor.name +
                             "': unsupported element type " +
                             dataTypeName(tensor.dataType));
  }
  return host;
}

mlir::ElementsAttr mpt::onnx_import::toAttribute(const HostTensor &tensor,
                                                 mlir::MLIRContext *context) {
  mlir::Builder builder(context);
  auto make = [&](mlir::Type element, auto convert,
                  const auto &values) -> mlir::ElementsAttr {
    auto type = mlir::RankedTensorType::get(tensor.shape, element);
    SmallVector<decltype(convert(values[0]))> converted;
    if (!values.empty() &&
        llvm::all_of(values, [&](auto v) { return v == values.front(); }))
      converted.push_back(convert(values.front())); // one value for all
    else
      llvm::append_range(converted, llvm::map_range(values, convert));
    return mlir::DenseElementsAttr::get(type, ArrayRef(converted));
  };
  switch (tensor.dataType) {
  case onnx::TensorProto::FLOAT:
    return make(
        builder.getF32Type(), [](double v) { return static_cast<float>(v); },
        tensor.reals);
  case onnx::TensorProto::INT64:
    return make(
        builder.getI64Type(), [](int64_t v) { return v; }, tensor.integers);
  case onnx::TensorProto::INT32:
    return make(
        builder.getI32Type(), [](int64_t v) { return static_cast<int32_t>(v); },
        tensor.integers);
  case onnx::TensorProto::BOOL:
    return make(
        builder.getI1Type(), [](int64_t v) { return v != 0; }, tensor.integers);
  default:
    return {};
  }
}

SmallVector<int64_t> mpt::onnx_import::stridesOf(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (int64_t d = static_cast<int64_t>(shape.size()) - 2; d >= 0; --d)
    strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

const onnx::AttributeProto *Attributes::find(StringRef name) const {
  for (const auto &attribute : node.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}
int64_t Attributes::integer(StringRef name, int64_t otherwise) const {
  const auto *attribute = find(name);
  return attribute ? attribute->i() : otherwise;
}
float Attributes::real(StringRef name, float otherwise) const {
  const auto *attribute = find(name);
  return attribute ? attribute->f() : otherwise;
}
std::string Attributes::string(StringRef name, StringRef otherwise) const {
  const auto *attribute = find(name);
  return attribute ? attribute->s() : otherwise.str();
}
std::optional<SmallVector<int64_t>> Attributes::integers(StringRef name) const {
  if (const auto *attribute = find(name))
    return SmallVector<int64_t>(attribute->ints().begin(),
                                attribute->ints().end());
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Shape rules
//===----------------------------------------------------------------------===//

namespace {
std::string show(ArrayRef<int64_t> values) {
  return "[" +
         llvm::join(llvm::map_range(
                        values, [](int64_t v) { return std::to_string(v); }),
                    ", ") +
         "]";
}
} // namespace

Expected<int64_t> mpt::onnx_import::normalizeAxis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    return createStringError("expected an axis in [" + Twine(-rank) + ", " +
                             Twine(rank) + "), found " + Twine(axis));
  return axis < 0 ? axis + rank : axis;
}

Expected<SmallVector<int64_t>>
mpt::onnx_import::reshapedShape(ArrayRef<int64_t> from, ArrayRef<int64_t> to,
                                bool allowZero) {
  SmallVector<int64_t> shape(to);
  int64_t unknown = -1;
  SmallVector<int64_t> known;
  for (auto [d, size] : llvm::enumerate(shape)) {
    if (size == 0 && !allowZero) {
      if (d >= from.size())
        return createStringError("shape " + show(to) + " copies dim " +
                                 Twine(d) + ", but the input has shape " +
                                 show(from));
      size = from[d];
    }
    if (size < -1 || (size == -1 && unknown >= 0))
      return createStringError(
          "shape " + show(to) +
          ": expected sizes of 0 or more and at most one -1");
    if (size == -1)
      unknown = d;
    else
      known.push_back(size);
  }
  auto total = countElements(from), rest = countElements(known);
  if (!total)
    return total.takeError();
  if (!rest)
    return rest.takeError();
  bool fits = unknown < 0 ? *total == *rest : *rest != 0 && *total % *rest == 0;
  if (!fits)
    return createStringError("cannot reshape " + show(from) + " to " +
                             show(to));
  if (unknown >= 0)
    shape[unknown] = *total / *rest;
  return shape;
}

Expected<SmallVector<int64_t>>
mpt::onnx_import::unsqueezedShape(ArrayRef<int64_t> from,
                                  ArrayRef<int64_t> axes) {
  int64_t rank = from.size() + axes.size();
  SmallVector<bool> isNew(rank, false);
  for (int64_t axis : axes) {
    auto normal = normalizeAxis(axis, rank);
    if (!normal)
      return normal.takeError();
    if (isNew[*normal])
      return createStringError("axes " + show(axes) + " repeat an axis");
    isNew[*normal] = true;
  }
  SmallVector<int64_t> shape;
  for (bool added : isNew) {
    shape.push_back(added ? 1 : from.front());
    if (!added)
      from = from.drop_front();
  }
  return shape;
}

Expected<SmallVector<int64_t>>
mpt::onnx_import::squeezedShape(ArrayRef<int64_t> from,
                                std::optional<ArrayRef<int64_t>> axes) {
  SmallVector<bool> dropped(from.size(), false);
  if (!axes)
    for (auto [d, size] : llvm::enumerate(from))
      dropped[d] = size == 1;
  for (int64_t axis : axes.value_or(ArrayRef<int64_t>())) {
    auto normal = normalizeAxis(axis, from.size());
    if (!normal)
      return normal.takeError();
    if (from[*normal] != 1)
      return createStringError("cannot squeeze dim " + Twine(*normal) +
                               " of shape " + show(from) + ": expected size 1");
    dropped[*normal] = true;
  }
  SmallVector<int64_t> shape;
  for (auto [d, size] : llvm::enumerate(from))
    if (!dropped[d])
      shape.push_back(size);
  return shape;
}

Expected<SmallVector<int64_t>>
mpt::onnx_import::broadcastedShape(ArrayRef<int64_t> lhs,
                                   ArrayRef<int64_t> rhs) {
  auto shape = mpt::broadcastShapes(lhs, rhs);
  if (!shape)
    return createStringError("shapes " + show(lhs) + " and " + show(rhs) +
                             " do not broadcast");
  return *shape;
}

Expected<SmallVector<int64_t>>
mpt::onnx_import::permutationOf(const Attributes &attributes, int64_t rank) {
  SmallVector<int64_t> permutation =
      llvm::to_vector(llvm::seq<int64_t>(0, rank));
  auto given = attributes.integers("perm");
  if (!given) {
    std::reverse(permutation.begin(), permutation.end());
    return permutation;
  }
  SmallVector<int64_t> sorted = *given;
  llvm::sort(sorted);
  if (sorted != permutation)
    return createStringError("perm " + show(*given) +
                             ": expected a permutation of the " + Twine(rank) +
                             " axes");
  return *given;
}

/// Values of an optional index input; `otherwise` where it is absent.
static SmallVector<int64_t> valuesOr(ArrayRef<const HostTensor *> inputs,
                                     size_t index,
                                     ArrayRef<int64_t> otherwise) {
  if (index >= inputs.size() || !inputs[index])
    return SmallVector<int64_t>(otherwise);
  return SmallVector<int64_t>(ArrayRef(inputs[index]->integers));
}

Expected<SliceBounds>
mpt::onnx_import::sliceBounds(ArrayRef<int64_t> shape,
                              ArrayRef<const HostTensor *> inputs) {
  SmallVector<int64_t> starts = valuesOr(inputs, 1, {}),
                       ends = valuesOr(inputs, 2, {});
  SmallVector<int64_t> counted =
      llvm::to_vector(llvm::seq<int64_t>(0, starts.size()));
  SmallVector<int64_t> axes = valuesOr(inputs, 3, counted);
  SmallVector<int64_t> steps =
      valuesOr(inputs, 4, SmallVector<int64_t>(starts.size(), 1));
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size())
    return createStringError(
        "expected starts, ends, axes and steps of one length");
  SliceBounds bounds;
  bounds.starts.assign(shape.size(), 0);
  bounds.steps.assign(shape.size(), 1);
  bounds.sizes.assign(shape.begin(), shape.end());
  for (auto [start, end, axis, step] : llvm::zip(starts, ends, axes, steps)) {
    auto normal = normalizeAxis(axis, shape.size());
    if (!normal)
      return normal.takeError();
    if (step == 0)
      return createStringError("expected a step other than 0");
    // Clamped as the operator's definition says; ends may be INT64_MAX or MIN.
    int64_t size = shape[*normal];
    bool forward = step > 0;
    auto clamp = [&](int64_t at) {
      at = at < 0 ? std::max<int64_t>(at, -size - 1) + size : at;
      return forward ? std::clamp<int64_t>(at, 0, size)
                     : std::clamp<int64_t>(at, -1, size - 1);
    };
    int64_t first = clamp(start), last = clamp(end);
    int64_t span = forward ? last - first : first - last;
    uint64_t stride =
        forward ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
    bounds.starts[*normal] = first;
    bounds.steps[*normal] = step;
    bounds.sizes[*normal] =
        span <= 0 ? 0 : 1 + static_cast<int64_t>((span - 1) / stride);
  }
  return bounds;
}
