//===- Amaxes.cpp - largest magnitudes of tensors, once each --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Amaxes.h.
//
//===----------------------------------------------------------------------===//

#include "Amaxes.h"
#include "mpt/Dialect/MPT/IR/Signature.h"

using namespace mlir;
using namespace mpt;

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

static int64_t numElements(Value value) {
  return cast<RankedTensorType>(value.getType()).getNumElements();
}

Value Amaxes::reduce(Value x, ArrayRef<int64_t> axes) {
  auto op = ReduceOp::create(builder, x.getLoc(), Reduction::AbsMax, x, axes);
  setStableName(op, name);
  return op.getY();
}

Value Amaxes::reshape(Value x, ArrayRef<int64_t> shape) {
  if (shapeOf(x) == shape)
    return x;
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  auto op = ReshapeOp::create(builder, x.getLoc(), type, x);
  setStableName(op, name);
  return op.getY();
}

/// Maxima run along rows: columns become rows first.
Value Amaxes::perColumn(Value x, bool overBatch) {
  SmallVector<int64_t> kept(shapeOf(x));
  int64_t columns = kept.back();
  Value matrix = x;
  if (overBatch) {
    kept.assign(kept.size(), 1);
    kept.back() = columns;
    matrix = reshape(x, {numElements(x) / columns, columns});
  } else {
    kept[kept.size() - 2] = 1;
  }
  SmallVector<int64_t> turned(shapeOf(matrix));
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, turned.size()));
  std::swap(turned.back(), turned[turned.size() - 2]);
  std::swap(permutation.back(), permutation[permutation.size() - 2]);
  auto type = RankedTensorType::get(turned, builder.getF32Type());
  auto transpose =
      TransposeOp::create(builder, x.getLoc(), type, matrix,
                          builder.getDenseI64ArrayAttr(permutation));
  setStableName(transpose, name);
  int64_t last = turned.size() - 1;
  return reshape(reduce(transpose.getY(), {last}), kept);
}

Value Amaxes::get(Value x, Granularity granularity, bool overBatch) {
  overBatch &= granularity == Granularity::PerColumn;
  int key = overBatch ? kWholeColumns : static_cast<int>(granularity);
  Value &amax = known[{x, key}];
  if (amax)
    return amax;
  name = (getValueName(x) + "/amax").str();
  int64_t rank = shapeOf(x).size();
  if (granularity == Granularity::PerColumn)
    return amax = perColumn(x, overBatch);
  if (granularity == Granularity::PerRow)
    return amax = reduce(x, {rank - 1});
  return amax = reshape(reduce(x, llvm::to_vector(llvm::seq(rank))), {});
}

Value Amaxes::getWhole(Value x) {
  Value &result = whole[x];
  if (result)
    return result;
  Value some;
  for (int key : {static_cast<int>(Granularity::PerTensor),
                  static_cast<int>(Granularity::PerRow),
                  static_cast<int>(Granularity::PerColumn), kWholeColumns})
    if (!some)
      some = known.lookup({x, key});
  if (!some)
    return result = get(x, Granularity::PerTensor, false);
  if (shapeOf(some).empty())
    return result = some;
  name = (getValueName(x) + "/amax").str();
  Value vector = reshape(some, {numElements(some)});
  return result = reshape(reduce(vector, {0}), {});
}

SmallVector<Value> Amaxes::getAllWhole() const {
  SmallVector<Value> all;
  for (auto &[x, amax] : whole)
    all.push_back(amax);
  return all;
}
