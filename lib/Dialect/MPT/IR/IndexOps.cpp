//===- IndexOps.cpp - gather, scatter, optimizer and format ops -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Verifiers, gradients and scalar bodies of the remaining families.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

using namespace mlir;
using namespace mpt;

LogicalResult GatherOp::inferReturnTypes(MLIRContext *context,
                                         std::optional<Location> location,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  auto table = dyn_cast<RankedTensorType>(adaptor.getTable().getType());
  auto ids = dyn_cast<RankedTensorType>(adaptor.getIds().getType());
  if (!table || !ids || table.getRank() != 2)
    return emitOptionalError(location,
                             "'mpt.gather' takes a table [V, H], found ",
                             adaptor.getTable().getType());
  SmallVector<int64_t> shape(ids.getShape());
  shape.push_back(table.getDimSize(1));
  types.push_back(RankedTensorType::get(shape, table.getElementType()));
  return success();
}
LogicalResult GatherOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                 ArrayRef<bool> needed,
                                 MutableArrayRef<Value> dx) {
  if (!needed[0])
    return success();
  auto type = withoutEncoding(getTable().getType());
  Value zeros =
      ConstantOp::create(b, getLoc(), DenseElementsAttr::get(type, 0.0f));
  dx[0] = ScatterAddOp::create(b, getLoc(), type, zeros, getIds(), dy[0]);
  return success();
}

LogicalResult ScatterAddOp::verify() {
  auto init = getInit().getType(), updates = getUpdates().getType();
  SmallVector<int64_t> expected(getIds().getType().getShape());
  if (init.getRank() == 2)
    expected.push_back(init.getDimSize(1));
  if (init.getRank() != 2 || updates.getShape() != ArrayRef<int64_t>(expected))
    return emitOpError()
           << "takes init [V, H], ids [...] and updates [..., H], "
              "found "
           << init << ", " << getIds().getType() << " and " << updates;
  return success();
}
