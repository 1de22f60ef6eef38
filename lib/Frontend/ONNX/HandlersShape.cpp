//===- HandlersShape.cpp - ONNX ops that only rearrange -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Views of the graph's own tensors. Their index inputs are constants by the
// time a handler sees them; indexing by constants becomes slices and
// transposes.
//
//===----------------------------------------------------------------------===//

#include "Handlers.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::Twine;

using Shape = SmallVector<int64_t>;

Error mpt::onnx_import::importConstantOnly(NodeContext &node) {
  return createStringError(
      "expected constant inputs; the op is only folded, not "
      "computed on tensors of the graph");
}

Error mpt::onnx_import::importConstant(NodeContext &node) {
  const Attributes &attributes = node.attributes;
  if (const auto *value = attributes.find("value")) {
    auto tensor = toFileTensor(value->t());
    if (!tensor)
      return tensor.takeError();
    auto host = toHostTensor(*tensor);
    if (!host)
      return host.takeError();
    return node.define(0, std::move(*host));
  }
  HostTensor scalar(onnx::TensorProto::INT64, {});
  if (const auto *value = attributes.find("value_int")) {
    scalar.integers[0] = value->i();
    return node.define(0, scalar);
  }
  if (auto values = attributes.integers("value_ints"))
    return node.define(0, HostTensor::ofIntegers(*values));
  HostTensor reals(onnx::TensorProto::FLOAT, {});
  if (const auto *value = attributes.find("value_float")) {
    reals.reals[0] = value->f();
    return node.define(0, reals);
  }
  if (const auto *value = attributes.find("value_floats")) {
    reals.shape = {value->floats_size()};
    reals.reals.assign(value->floats().begin(), value->floats().end());
    return node.define(0, reals);
  }
  return createStringError("expected attribute value, value_int, value_ints, "
                           "value_float or value_floats");
}

Error mpt::onnx_import::importIdentity(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  return node.define(0, *x);
}

Error mpt::onnx_import::importShape(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  ArrayRef<int64_t> shape = node.shape(0);
  int64_t rank = shape.size();
  auto clamp = [&](int64_t at) {
    at = at < 0 ? std::max<int64_t>(at, -rank) + rank : at;
    return std::min(at, rank);
  };
  int64_t start = clamp(node.attributes.integer("start", 0));
  int64_t end = clamp(node.attributes.integer("end", rank));
  return node.define(0, HostTensor::ofIntegers(shape.slice(
                            start, std::max<int64_t>(end - start, 0))));
}

Error mpt::onnx_import::importSize(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  auto count = countElements(node.shape(0));
  if (!count)
    return count.takeError();
  HostTensor scalar(onnx::TensorProto::INT64, {});
  scalar.integers[0] = *count;
  return node.define(0, scalar);
}

/// Defines output 0 as input 0 in another shape.
static Error defineReshaped(NodeContext &node, Expected<Shape> shape) {
  if (!shape)
    return shape.takeError();
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  return node.define(0, node.importer.reshape(*x, *shape));
}

Error mpt::onnx_import::importReshape(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto to = node.integers(1, "shape");
  if (!to)
    return to.takeError();
  return defineReshaped(node,
                        reshapedShape(node.shape(0), *to,
                                      node.attributes.integer("allowzero", 0)));
}

Error mpt::onnx_import::importFlatten(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  ArrayRef<int64_t> from = node.shape(0);
  int64_t axis = node.attributes.integer("axis", 1);
  if (axis != static_cast<int64_t>(from.size())) { // which is allowed here
    auto normal = normalizeAxis(axis, from.size());
    if (!normal)
      return normal.takeError();
    axis = *normal;
  }
  int64_t rows = 1, columns = 1;
  for (auto [d, size] : llvm::enumerate(from))
    (static_cast<int64_t>(d) < axis ? rows : columns) *= size;
  return defineReshaped(node, Shape{rows, columns});
}

Error mpt::onnx_import::importUnsqueeze(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto axes = node.integers(1, "axes");
  if (!axes)
    return axes.takeError();
  return defineReshaped(node, unsqueezedShape(node.shape(0), *axes));
}

Error mpt::onnx_import::importSqueeze(NodeContext &node) {
  if (Error error = node.expectInputs(1, 2))
    return error;
  if (!node.has(1))
    return defineReshaped(node, squeezedShape(node.shape(0), std::nullopt));
  auto axes = node.integers(1, "axes");
  if (!axes)
    return axes.takeError();
  return defineReshaped(node, squeezedShape(node.shape(0), ArrayRef(*axes)));
}

Error mpt::onnx_import::importExpand(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto to = node.integers(1, "shape");
  if (!to)
    return to.takeError();
  auto shape = broadcastedShape(node.shape(0), *to);
  if (!shape)
    return shape.takeError();
  if (auto count = countElements(*shape); !count)
    return count.takeError();
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  return node.define(0, node.importer.broadcast(*x, *shape));
}

Error mpt::onnx_import::importTranspose(NodeContext &node) {
  if (Error error = node.expectInputs(1, 1))
    return error;
  auto permutation = permutationOf(node.attributes, node.rank(0));
  if (!permutation)
    return permutation.takeError();
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  return node.define(0, node.importer.transpose(*x, *permutation));
}

//===----------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------===//

Error mpt::onnx_import::importSlice(NodeContext &node) {
  if (Error error = node.expectInputs(3, 5))
    return error;
  const char *names[] = {"data", "starts", "ends", "axes", "steps"};
  SmallVector<const HostTensor *> indices = {nullptr};
  for (int i = 1; i < node.node.input_size(); ++i) {
    if (node.has(i))
      if (auto given = node.integers(i, names[i]); !given)
        return given.takeError();
    indices.push_back(node.constant(i));
  }
  auto bounds = sliceBounds(node.shape(0), indices);
  if (!bounds)
    return bounds.takeError();
  for (auto [step, size] : llvm::zip(bounds->steps, bounds->sizes)) {
    if (size == 0)
      return createStringError("the slice is empty");
    if (step != 1 && size > 1)
      return createStringError("expected steps of 1, found " + Twine(step));
  }
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  return node.define(0, node.importer.slice(*x, bounds->starts, bounds->sizes));
}

Error mpt::onnx_import::importSplit(NodeContext &node) {
  if (Error error = node.expectInputs(1, 2))
    return error;
  ArrayRef<int64_t> from = node.shape(0);
  auto axis = normalizeAxis(node.attributes.integer("axis", 0), from.size());
  if (!axis)
    return axis.takeError();
  int64_t count = node.node.output_size(), total = from[*axis];
  Shape parts;
  if (node.has(1)) {
    auto given = node.integers(1, "split");
    if (!given)
      return given.takeError();
    parts = *given;
  } else {
    int64_t size = (total + count - 1) / std::max<int64_t>(count, 1);
    for (int64_t i = 0; i < count; ++i)
      parts.push_back(std::min(size, total - i * size));
  }
  int64_t sum = 0;
  for (int64_t size : parts)
    sum = size > 0 && size <= total ? sum + size : total + 1;
  if (static_cast<int64_t>(parts.size()) != count || sum != total)
    return createStringError("expected " + Twine(count) +
                             " parts that together have size " + Twine(total));
  auto x = node.value(0);
  if (!x)
    return x.takeError();
  Shape offsets(from.size(), 0), sizes(from);
  for (int64_t i = 0; i < count; ++i) {
    sizes[*axis] = parts[i];
    if (Error error = node.define(i, node.importer.slice(*x, offsets, sizes)))
      return error;
    offsets[*axis] += parts[i];
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Gather
//===----------------------------------------------------------------------===//

/// Ids of a constant, counted from 0, checked against the number of rows.
static Expected<HostTensor> checkedIds(const HostTensor &ids, int64_t rows) {
  if (ids.isReal())
    return createStringError("expected integer indices");
  HostTensor checked = ids;
  for (int64_t &id : checked.integers) {
    if (id < -rows || id >= rows)
      return createStringError("index " + Twine(id) +
                               " is out of range: expected [" + Twine(-rows) +
                               ", " + Twine(rows) + ")");
    id = id < 0 ? id + rows : id;
  }
  return checked;
}

/// data[:, ..., ids, ...] for constant ids that follow each other: a slice.
static Error gatherAsSlice(NodeContext &node, Value data, int64_t axis,
                           const HostTensor &ids) {
  for (auto [i, id] : llvm::enumerate(ids.integers))
    if (id != ids.integers.front() + static_cast<int64_t>(i))
      return createStringError(
          "expected rows of a table [V, H] by axis 0, or constant indices that "
          "follow each other");
  ArrayRef<int64_t> from = node.shape(0);
  Shape offsets(from.size(), 0), sizes(from);
  offsets[axis] = ids.integers.front();
  sizes[axis] = ids.size();
  Shape shape(from.take_front(axis));
  llvm::append_range(shape, ids.shape);
  llvm::append_range(shape, from.drop_front(axis + 1));
  Value part = node.importer.slice(data, offsets, sizes);
  return node.define(0, node.importer.reshape(part, shape));
}

Error mpt::onnx_import::importGather(NodeContext &node) {
  GraphImporter &importer = node.importer;
  if (Error error = node.expectInputs(2, 2))
    return error;
  auto axis = normalizeAxis(node.attributes.integer("axis", 0), node.rank(0));
  if (!axis)
    return axis.takeError();
  auto data = node.value(0);
  if (!data)
    return data.takeError();
  int64_t rows = node.shape(0)[*axis];
  bool isTable =
      node.rank(0) == 2 && *axis == 0 &&
      cast<RankedTensorType>(data->getType()).getElementType().isF32();
  if (const HostTensor *constant = node.constant(1)) {
    auto ids = checkedIds(*constant, rows);
    if (!ids)
      return ids.takeError();
    if (ids->size() == 0)
      return createStringError("expected at least one index");
    if (!isTable || !importer.parameterOf(*data))
      return gatherAsSlice(node, *data, *axis, *ids);
    Value value =
        importer.constant(toAttribute(*ids, importer.builder.getContext()));
    return node.define(0, importer.create<GatherOp>(*data, value));
  }
  auto ids = node.value(1);
  if (!ids)
    return ids.takeError();
  Type element = cast<RankedTensorType>(ids->getType()).getElementType();
  if (!isTable || !(element.isInteger(64) || element.isInteger(32)))
    return createStringError(
        "expected rows of an f32 table [V, H] by axis 0 and "
        "integer indices");
  if (Error error = importer.restrictRange(*ids, rows, std::nullopt))
    return error;
  return node.define(0, importer.create<GatherOp>(*data, *ids));
}

namespace {
/// Where the elements that a GatherND selects lie, if one strided view of the
/// indexed dims holds them: element i is at base + sum(i_d * strides[d]).
struct IndexView {
  int64_t base = 0;
  Shape strides;
};

/// Finds the view that the flat offsets `at` (of shape `shape`) form.
std::optional<IndexView> matchView(ArrayRef<int64_t> at,
                                   ArrayRef<int64_t> shape) {
  IndexView view;
  view.base = at.front();
  Shape own = stridesOf(shape);
  for (auto [size, step] : llvm::zip(shape, own))
    view.strides.push_back(size > 1 ? at[step] - view.base : 0);
  for (auto [i, offset] : llvm::enumerate(at)) {
    int64_t expected = view.base, rest = i;
    for (auto [step, stride] : llvm::zip(own, view.strides)) {
      expected += rest / step * stride;
      rest %= step;
    }
    if (offset != expected)
      return std::nullopt;
  }
  return view;
}
} // namespace

/// Flat row-major offsets, over the first `depth` dims of `shape`, that index
/// tuples name.
static Expected<Shape> flatOffsets(const HostTensor &indices,
                                   ArrayRef<int64_t> shape, int64_t depth) {
  Shape strides = stridesOf(shape.take_front(depth)), flat;
  for (int64_t i = 0; i + depth <= indices.size(); i += depth) {
    int64_t at = 0;
    for (int64_t d = 0; d < depth; ++d) {
      int64_t id = indices.integers[i + d];
      if (id < -shape[d] || id >= shape[d])
        return createStringError("index " + Twine(id) +
                                 " is out of range for dim " + Twine(d) +
                                 " of size " + Twine(shape[d]));
      at += (id < 0 ? id + shape[d] : id) * strides[d];
    }
    flat.push_back(at);
  }
  return flat;
}

/// Emits data[view]: a slice, a transpose, new dims of size 1 and a broadcast.
/// False if some stride is no whole dim of the data.
static bool emitView(NodeContext &node, Value data, const IndexView &view,
                     ArrayRef<int64_t> outer, int64_t depth, Value &result) {
  ArrayRef<int64_t> shape = node.shape(0);
  Shape strides = stridesOf(shape.take_front(depth));
  Shape offsets(shape.size(), 0), sizes(shape);
  int64_t rest = view.base;
  for (int64_t d = 0; d < depth; ++d) {
    offsets[d] = rest / strides[d];
    rest %= strides[d];
    sizes[d] = 1;
  }
  SmallVector<bool> used(depth, false);
  Shape permutation, kept, ones;
  for (auto [size, stride] : llvm::zip(outer, view.strides)) {
    ones.push_back(stride == 0 ? 1 : size);
    if (stride == 0)
      continue;
    int64_t dim = 0;
    while (dim < depth && (used[dim] || strides[dim] != stride ||
                           offsets[dim] + size > shape[dim]))
      ++dim;
    if (dim == depth)
      return false;
    used[dim] = true;
    sizes[dim] = size;
    permutation.push_back(dim);
  }
  for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d)
    if (d >= depth || !used[d])
      permutation.push_back(d);
  llvm::append_range(ones, shape.drop_front(depth));
  Shape full(outer);
  llvm::append_range(full, shape.drop_front(depth));
  GraphImporter &importer = node.importer;
  Value part = importer.slice(data, offsets, sizes);
  part = importer.transpose(part, permutation);
  result = importer.broadcast(importer.reshape(part, ones), full);
  return true;
}

Error mpt::onnx_import::importGatherND(NodeContext &node) {
  if (Error error = node.expectInputs(2, 2))
    return error;
  if (node.attributes.integer("batch_dims", 0) != 0)
    return createStringError("expected batch_dims = 0");
  const HostTensor *indices = node.constant(1);
  if (!indices || indices->isReal() || indices->shape.empty() ||
      indices->size() == 0)
    return createStringError(
        "expected constant integer indices of rank 1 or more");
  ArrayRef<int64_t> outer = ArrayRef(indices->shape).drop_back();
  int64_t depth = indices->shape.back();
  if (depth < 1 || depth > node.rank(0))
    return createStringError("expected index tuples of 1 to " +
                             Twine(node.rank(0)) + " components, found " +
                             Twine(depth));
  auto flat = flatOffsets(*indices, node.shape(0), depth);
  if (!flat)
    return flat.takeError();
  auto data = node.value(0);
  if (!data)
    return data.takeError();
  Value result;
  auto view = matchView(*flat, outer);
  if (!view || !emitView(node, *data, *view, outer, depth, result))
    return createStringError(
        "expected indices that select a slice, a transpose or "
        "a broadcast of the input");
  return node.define(0, result);
}
