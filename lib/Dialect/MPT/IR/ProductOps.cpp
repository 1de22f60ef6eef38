//===- ProductOps.cpp - matrix products -----------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Shapes, gradients and canonical form of products.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/PatternMatch.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

using namespace mlir;
using namespace mpt;

namespace {
struct ProductSizes {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  SmallVector<int64_t> resultShape;
};

/// The sizes of lhs (x) rhs, or a description of what does not fit.
FailureOr<ProductSizes> sizesOf(ArrayRef<int64_t> lhs, ArrayRef<int64_t> rhs,
                                bool transposeLhs, bool transposeRhs,
                                bool foldBatch, std::string &problem) {
  if (lhs.size() < 2 || rhs.size() < 2) {
    problem = "operands must have rank 2 or more";
    return failure();
  }
  auto rows = [](ArrayRef<int64_t> s) { return s[s.size() - 2]; };
  auto cols = [](ArrayRef<int64_t> s) { return s[s.size() - 1]; };
  ArrayRef<int64_t> lead = lhs.drop_back(2);
  ProductSizes sizes;
  int64_t leadSize = 1;
  for (int64_t size : lead)
    leadSize *= size;
  int64_t lhsRows = rows(lhs), rhsRows = rows(rhs);
  if (foldBatch) {
    if (!transposeLhs || transposeRhs) {
      problem = "fold_batch needs a transposed lhs and an rhs that is not";
      return failure();
    }
    if (lead != rhs.drop_back(2)) {
      problem = "fold_batch needs equal leading dims";
      return failure();
    }
    lhsRows *= leadSize;
    rhsRows *= leadSize;
  } else if (rhs.size() == 2 && lhs.size() > 2) {
    if (transposeLhs) {
      problem = "a batched, transposed lhs needs a batched rhs";
      return failure();
    }
    sizes.resultShape.assign(lead.begin(), lead.end());
  } else {
    if (lead != rhs.drop_back(2)) {
      problem = "batch dims of lhs and rhs differ";
      return failure();
    }
    sizes.batch = leadSize;
    sizes.resultShape.assign(lead.begin(), lead.end());
  }
  sizes.m = transposeLhs ? cols(lhs) : lhsRows;
  sizes.k = transposeLhs ? lhsRows : cols(lhs);
  int64_t rhsK = transposeRhs ? cols(rhs) : rhsRows;
  sizes.n = transposeRhs ? rhsRows : cols(rhs);
  if (sizes.k != rhsK) {
    problem = "lhs contracts over " + std::to_string(sizes.k) +
              " elements, rhs over " + std::to_string(rhsK);
    return failure();
  }
  sizes.resultShape.push_back(sizes.m);
  sizes.resultShape.push_back(sizes.n);
  if (!foldBatch && rhs.size() == 2 && lhs.size() > 2)
    sizes.m *= leadSize; // rows of all batch elements
  return sizes;
}

template <typename Op> ProductSizes sizesOf(Op op) {
  std::string problem;
  auto sizes = sizesOf(cast<RankedTensorType>(op.getLhs().getType()).getShape(),
                       cast<RankedTensorType>(op.getRhs().getType()).getShape(),
                       op.getTransposeLhs(), op.getTransposeRhs(),
                       op.getFoldBatch(), problem);
  return succeeded(sizes) ? *sizes : ProductSizes();
}
} // namespace

LogicalResult MatmulOp::inferReturnTypes(MLIRContext *context,
                                         std::optional<Location> location,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  auto lhs = dyn_cast<RankedTensorType>(adaptor.getLhs().getType());
  auto rhs = dyn_cast<RankedTensorType>(adaptor.getRhs().getType());
  if (!lhs || !rhs)
    return emitOptionalError(location, "'mpt.matmul' takes ranked tensors");
  std::string problem;
  auto sizes =
      sizesOf(lhs.getShape(), rhs.getShape(), adaptor.getTransposeLhs(),
              adaptor.getTransposeRhs(), adaptor.getFoldBatch(), problem);
  if (failed(sizes))
    return emitOptionalError(location, "'mpt.matmul' ", problem, ": ", lhs,
                             " and ", rhs);
  types.push_back(
      RankedTensorType::get(sizes->resultShape, Float32Type::get(context)));
  return success();
}

#define MPT_PRODUCT_INTERFACE(OP)                                              \
  int64_t OP::getM() { return sizesOf(*this).m; }                              \
  int64_t OP::getN() { return sizesOf(*this).n; }                              \
  int64_t OP::getK() { return sizesOf(*this).k; }                              \
  int64_t OP::getBatch() { return sizesOf(*this).batch; }                      \
  std::optional<Role> OP::getProductRole() { return getRole(); }               \
  OpOperand &OP::getLhsOperand() { return getLhsMutable(); }                   \
  OpOperand &OP::getRhsOperand() { return getRhsMutable(); }
MPT_PRODUCT_INTERFACE(MatmulOp)
MPT_PRODUCT_INTERFACE(ScaledMatmulOp)
MPT_PRODUCT_INTERFACE(FusedMatmulOp)
#undef MPT_PRODUCT_INTERFACE

LogicalResult MatmulOp::buildVJP(OpBuilder &b, ArrayRef<Value> dys,
                                 ArrayRef<bool> needed,
                                 MutableArrayRef<Value> grads) {
  if (getFoldBatch())
    return emitOpError("with fold_batch cannot be differentiated");
  Value l = getLhs(), r = getRhs(), dy = dys[0];
  bool tl = getTransposeLhs(), tr = getTransposeRhs();
  auto product = [&](Value lhs, Value rhs, bool transposeLhs, bool transposeRhs,
                     bool foldBatch) -> Value {
    return MatmulOp::create(b, getLoc(), lhs, rhs, transposeLhs, transposeRhs,
                            foldBatch, RoleAttr(), MetricsAttr());
  };
  // Y = L'R' gives dL' = dY R'^T and dR' = L'^T dY; a transposed operand takes
  // the transposed gradient. A shared (rank 2) rhs sums over the batch.
  if (needed[0])
    grads[0] = tl ? product(r, dy, tr, true, false)
                  : product(dy, r, false, !tr, false);
  bool shared = cast<RankedTensorType>(r.getType()).getRank() == 2 &&
                cast<RankedTensorType>(l.getType()).getRank() > 2;
  if (needed[1])
    grads[1] = tr ? product(dy, l, true, tl, shared)
                  : product(l, dy, !tl, false, shared);
  return success();
}

/// What products of stored operands have in common; `sizes` are theirs.
template <typename Op>
static LogicalResult verifyOperands(Op op, ProductSizes &sizes) {
  // Tablegen checks the sum of the segments, not that lhs and rhs are one each.
  ArrayRef<int32_t> segments = op.getProperties().operandSegmentSizes;
  if (segments[0] != 1 || segments[1] != 1)
    return op.emitOpError() << "takes one lhs and one rhs, found "
                            << segments[0] << " and " << segments[1];
  std::string problem;
  auto found = sizesOf(op.getLhs().getType().getShape(),
                       op.getRhs().getType().getShape(), op.getTransposeLhs(),
                       op.getTransposeRhs(), op.getFoldBatch(), problem);
  if (failed(found))
    return op.emitOpError() << problem << ": " << op.getLhs().getType()
                            << " and " << op.getRhs().getType();
  sizes = *found;
  return success();
}

LogicalResult ScaledMatmulOp::verify() {
  ProductSizes sizes;
  if (failed(verifyOperands(*this, sizes)))
    return failure();
  if (getY().getType().getShape() != ArrayRef(sizes.resultShape))
    return emitOpError() << "result of type " << getY().getType()
                         << " does not fit its operands";
  // Of a view, the scale fits what is viewed.
  for (auto [codes, scale] : {std::pair(getLhs(), getLhsInverseScale()),
                              std::pair(getRhs(), getRhsInverseScale())}) {
    if (!scale || codes.getDefiningOp<ViewOpInterface>())
      continue;
    ArrayRef<int64_t> shape = codes.getType().getShape();
    auto merged = broadcastShapes(
        cast<RankedTensorType>(scale.getType()).getShape(), shape);
    if (!merged || ArrayRef(*merged) != shape)
      return emitOpError() << "takes an inverse scale that broadcasts to "
                           << codes.getType() << ", found " << scale.getType();
  }
  return success();
}

RankedTensorType FusedMatmulOp::getProductType() {
  return RankedTensorType::get(sizesOf(*this).resultShape,
                               Float32Type::get(getContext()));
}

LogicalResult FusedMatmulOp::verify() {
  ProductSizes sizes;
  if (failed(verifyOperands(*this, sizes)))
    return failure();
  if (getPosition() > getOthers().size())
    return emitOpError() << "gives the product to argument " << getPosition()
                         << " of an epilogue with " << getOthers().size() + 1;
  return success();
}

LogicalResult FusedMatmulOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto kernel = symbols.lookupNearestSymbolFrom<FunctionOpInterface>(
      *this, getEpilogueAttr());
  if (!kernel)
    return emitOpError() << "has the epilogue '" << getEpilogue()
                         << "', which is no function";
  SmallVector<Type> arguments(getOthers().getTypes());
  arguments.insert(arguments.begin() + getPosition(), getProductType());
  SmallVector<Type> results(kernel.getResultTypes());
  if (getKeep())
    results.insert(results.begin(), getProductType());
  if (kernel.getArgumentTypes() != ArrayRef<Type>(arguments))
    return emitOpError() << "gives its epilogue '" << getEpilogue() << "' ("
                         << TypeRange(arguments) << "), expected ("
                         << TypeRange(kernel.getArgumentTypes()) << ")";
  if (TypeRange(getResultTypes()) != TypeRange(results))
    return emitOpError() << "has results (" << getResultTypes()
                         << "), expected (" << TypeRange(results)
                         << ") from its epilogue '" << getEpilogue() << "'";
  return success();
}

namespace {
/// A product reads a transposed operand through its flag: no transpose is left
/// in front of a product.
struct FoldTranspose : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MatmulOp op,
                                PatternRewriter &rewriter) const final {
    if (op.getFoldBatch())
      return failure();
    auto swapped = [](Value operand) -> Value {
      auto transpose = operand.getDefiningOp<TransposeOp>();
      if (!transpose)
        return nullptr;
      ArrayRef<int64_t> perm = transpose.getPermutation();
      int64_t rank = perm.size();
      for (int64_t d = 0; d < rank - 2; ++d)
        if (perm[d] != d)
          return nullptr;
      return rank >= 2 && perm[rank - 1] == rank - 2 ? transpose.getX()
                                                     : Value();
    };
    Value lhs = swapped(op.getLhs()), rhs = swapped(op.getRhs());
    bool sharedRhs = op.getRhs().getType().getRank() == 2 &&
                     op.getLhs().getType().getRank() > 2;
    if (lhs && sharedRhs)
      lhs = nullptr;
    if (!lhs && !rhs)
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      if (lhs) {
        op.getLhsMutable().assign(lhs);
        op.setTransposeLhs(!op.getTransposeLhs());
      }
      if (rhs) {
        op.getRhsMutable().assign(rhs);
        op.setTransposeRhs(!op.getTransposeRhs());
      }
    });
    return success();
  }
};
} // namespace

void MatmulOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                           MLIRContext *context) {
  patterns.add<FoldTranspose>(context);
}
