//===- ShapeOps.cpp - constants and views ---------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Verifiers, folders, layouts and gradients of the ops that only rearrange.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace mlir;
using namespace mpt;

//===----------------------------------------------------------------------===//
// constant
//===----------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

LogicalResult ConstantOp::verify() {
  if (!isa<DenseElementsAttr>(getValue()))
    return emitOpError() << "needs dense elements, found " << getValue();
  if (::mpt::getFormat(getY().getType()))
    return emitOpError() << "is held in no format, found " << getY().getType();
  return success();
}

Value ConstantOp::scalar(OpBuilder &builder, Location location, float value) {
  auto type = RankedTensorType::get({}, builder.getF32Type());
  return ConstantOp::create(builder, location,
                            DenseElementsAttr::get(type, value));
}
Value ConstantOp::scalarInt(OpBuilder &builder, Location location,
                            int64_t value) {
  auto type = RankedTensorType::get({}, builder.getI64Type());
  return ConstantOp::create(builder, location,
                            DenseElementsAttr::get(type, value));
}

//===----------------------------------------------------------------------===//
// reshape
//===----------------------------------------------------------------------===//

/// Views move values and do not change what they are held in.
static bool holdSameElements(RankedTensorType from, RankedTensorType to) {
  return from.getElementType() == to.getElementType() &&
         from.getEncoding() == to.getEncoding();
}

/// The product of `shape`, or nullopt where it does not fit 64 bits.
static std::optional<int64_t> countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    if (llvm::MulOverflow(count, size, count))
      return std::nullopt;
  return count;
}

LogicalResult ReshapeOp::verify() {
  auto from = getX().getType(), to = getY().getType();
  auto count = countElements(from.getShape());
  if (!holdSameElements(from, to) || !count ||
      count != countElements(to.getShape()))
    return emitOpError() << "cannot turn " << from << " into " << to;
  return success();
}
OpFoldResult ReshapeOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getY().getType())
    return getX();
  if (auto source = getX().getDefiningOp<ReshapeOp>()) {
    getXMutable().assign(source.getX());
    return getY();
  }
  if (auto dense = dyn_cast_or_null<DenseElementsAttr>(adaptor.getX()))
    return dense.reshape(getY().getType());
  return {};
}
std::optional<Layout> ReshapeOp::applyToLayout(const Layout &source) {
  return source.reshape(getY().getType().getShape());
}
Value ReshapeOp::getViewSource() { return getX(); }
LogicalResult ReshapeOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                  ArrayRef<bool> needed,
                                  MutableArrayRef<Value> dx) {
  if (needed[0])
    dx[0] = b.createOrFold<ReshapeOp>(getLoc(),
                                      withoutEncoding(getX().getType()), dy[0]);
  return success();
}

//===----------------------------------------------------------------------===//
// broadcast
//===----------------------------------------------------------------------===//

LogicalResult BroadcastOp::verify() {
  auto from = getX().getType(), to = getY().getType();
  auto shape = broadcastShapes(from.getShape(), to.getShape());
  if (!holdSameElements(from, to) || !shape ||
      ArrayRef(*shape) != to.getShape())
    return emitOpError() << "cannot stretch " << from << " to " << to;
  return success();
}
OpFoldResult BroadcastOp::fold(FoldAdaptor) {
  return getX().getType() == getY().getType() ? getX() : Value();
}
std::optional<Layout> BroadcastOp::applyToLayout(const Layout &source) {
  return source.broadcast(getY().getType().getShape());
}
Value BroadcastOp::getViewSource() { return getX(); }
LogicalResult BroadcastOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                    ArrayRef<bool> needed,
                                    MutableArrayRef<Value> dx) {
  if (needed[0])
    dx[0] = sumToShape(b, getLoc(), dy[0], getX().getType());
  return success();
}

//===----------------------------------------------------------------------===//
// transpose
//===----------------------------------------------------------------------===//

LogicalResult TransposeOp::verify() {
  auto from = getX().getType(), to = getY().getType();
  ArrayRef<int64_t> perm = getPermutation();
  SmallVector<bool> seen(from.getRank(), false);
  bool valid = static_cast<int64_t>(perm.size()) == from.getRank() &&
               to.getRank() == from.getRank() && holdSameElements(from, to);
  for (int64_t i = 0; valid && i < from.getRank(); ++i) {
    int64_t d = perm[i];
    valid = d >= 0 && d < from.getRank() && !seen[d] &&
            to.getDimSize(i) == from.getDimSize(d);
    if (valid)
      seen[d] = true;
  }
  if (!valid)
    return emitOpError() << "permutation [" << perm << "] does not turn "
                         << from << " into " << to;
  return success();
}
OpFoldResult TransposeOp::fold(FoldAdaptor) {
  ArrayRef<int64_t> perm = getPermutation();
  if (llvm::is_sorted(perm) && getX().getType() == getY().getType())
    return getX();
  if (auto source = getX().getDefiningOp<TransposeOp>()) {
    SmallVector<int64_t> composed;
    for (int64_t d : perm)
      composed.push_back(source.getPermutation()[d]);
    getXMutable().assign(source.getX());
    setPermutation(composed);
    return getY();
  }
  return {};
}
std::optional<Layout> TransposeOp::applyToLayout(const Layout &source) {
  return source.transpose(getPermutation());
}
Value TransposeOp::getViewSource() { return getX(); }
LogicalResult TransposeOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                    ArrayRef<bool> needed,
                                    MutableArrayRef<Value> dx) {
  if (!needed[0])
    return success();
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [i, d] : llvm::enumerate(getPermutation()))
    inverse[d] = i;
  dx[0] = TransposeOp::create(b, getLoc(), withoutEncoding(getX().getType()),
                              dy[0], inverse);
  return success();
}

//===----------------------------------------------------------------------===//
// slice and pad
//===----------------------------------------------------------------------===//

/// Whether `part` placed at `offsets` lies inside `whole`.
static bool fitsInside(RankedTensorType part, RankedTensorType whole,
                       ArrayRef<int64_t> offsets) {
  if (part.getElementType() != whole.getElementType() ||
      part.getRank() != whole.getRank() ||
      static_cast<int64_t>(offsets.size()) != whole.getRank())
    return false;
  for (auto [offset, size, limit] :
       llvm::zip(offsets, part.getShape(), whole.getShape()))
    if (offset < 0 || offset > limit || size > limit - offset)
      return false;
  return true;
}

LogicalResult SliceOp::verify() {
  if (!holdSameElements(getX().getType(), getY().getType()) ||
      !fitsInside(cast<RankedTensorType>(getY().getType()),
                  cast<RankedTensorType>(getX().getType()), getOffsets()))
    return emitOpError() << "at offsets [" << getOffsets() << "] of size "
                         << getY().getType() << " leaves " << getX().getType();
  return success();
}
OpFoldResult SliceOp::fold(FoldAdaptor) {
  return getX().getType() == getY().getType() ? getX() : Value();
}
std::optional<Layout> SliceOp::applyToLayout(const Layout &source) {
  return source.slice(getOffsets(), getY().getType().getShape());
}
Value SliceOp::getViewSource() { return getX(); }
LogicalResult SliceOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                ArrayRef<bool> needed,
                                MutableArrayRef<Value> dx) {
  if (needed[0])
    dx[0] = PadOp::create(b, getLoc(), withoutEncoding(getX().getType()), dy[0],
                          getOffsets());
  return success();
}

LogicalResult PadOp::verify() {
  if (!fitsInside(cast<RankedTensorType>(getX().getType()),
                  cast<RankedTensorType>(getY().getType()), getOffsets()))
    return emitOpError() << "cannot place " << getX().getType()
                         << " at offsets [" << getOffsets() << "] of "
                         << getY().getType();
  return success();
}

/// Rows of `width` elements are moved: all dims after the last one that is
/// padded, and of that one the largest block that offset and sizes allow.
SmallVector<Value> PadOp::decompose(OpBuilder &b) {
  auto from = getX().getType(), to = getY().getType();
  ArrayRef<int64_t> part = from.getShape(), whole = to.getShape();
  int64_t last = to.getRank() - 1, width = 1;
  for (; last >= 0 && part[last] == whole[last]; --last)
    width *= whole[last];
  if (last < 0 || from.getNumElements() == 0) // nothing to pad, or nothing but
    return {last < 0 ? getX()
                     : ConstantOp::create(b, getLoc(),
                                          DenseElementsAttr::get(to, 0.0f))};
  int64_t block =
      std::gcd(std::gcd(part[last], whole[last]), getOffsets()[last]);
  width *= block;
  // The row in `whole` of each row of `part`, in row-major order.
  SmallVector<int64_t> rows = {0};
  for (int64_t d = 0; d <= last; ++d) {
    int64_t unit = d == last ? block : 1;
    SmallVector<int64_t> next;
    for (int64_t row : rows)
      for (int64_t i = 0; i < part[d] / unit; ++i)
        next.push_back((row * whole[d] + getOffsets()[d]) / unit + i);
    rows = std::move(next);
  }
  auto matrix = [&](int64_t count) {
    return RankedTensorType::get({count, width}, to.getElementType());
  };
  auto idType = RankedTensorType::get({static_cast<int64_t>(rows.size())},
                                      b.getI64Type());
  auto tableType = matrix(to.getNumElements() / width);
  Value ids = ConstantOp::create(
      b, getLoc(), DenseElementsAttr::get(idType, ArrayRef<int64_t>(rows)));
  Value zeros =
      ConstantOp::create(b, getLoc(), DenseElementsAttr::get(tableType, 0.0f));
  Value updates =
      b.createOrFold<ReshapeOp>(getLoc(), matrix(rows.size()), getX());
  Value table =
      ScatterAddOp::create(b, getLoc(), tableType, zeros, ids, updates);
  return {b.createOrFold<ReshapeOp>(getLoc(), to, table)};
}
