//===- Storage.cpp - where tensor values live -----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Storage.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/Storage.h"

using namespace mlir;
using namespace mpt;

TransposeOp mpt::getWriteThrough(Value productResult) {
  if (!productResult.getDefiningOp<ProductOpInterface>() ||
      !productResult.hasOneUse())
    return nullptr;
  auto transpose = dyn_cast<TransposeOp>(*productResult.user_begin());
  // The last dim must stay: BLAS needs one unit stride in the result.
  if (!transpose)
    return nullptr;
  ArrayRef<int64_t> perm = transpose.getPermutation();
  int64_t rank = perm.size();
  return perm.back() == rank - 1 ? transpose : nullptr;
}

std::optional<StorageView> mpt::getStorageView(Value value) {
  SmallVector<ViewOpInterface> chain;
  while (auto view = value.getDefiningOp<ViewOpInterface>()) {
    auto transpose = dyn_cast<TransposeOp>(view.getOperation());
    if (transpose && getWriteThrough(transpose.getX()) == transpose)
      break;
    chain.push_back(view);
    value = view.getViewSource();
  }
  StorageView result{
      value,
      Layout::contiguous(cast<RankedTensorType>(value.getType()).getShape())};
  for (ViewOpInterface view : llvm::reverse(chain)) {
    auto layout = view.applyToLayout(result.layout);
    if (!layout)
      return std::nullopt;
    result.layout = *layout;
  }
  return result;
}

std::optional<HeadsView> mpt::getHeadsView(const StorageView &view) {
  ArrayRef<int64_t> shape = view.layout.shape, strides = view.layout.strides;
  if (shape.size() != 4 || strides[3] != 1 ||
      (shape[2] != 1 && strides[2] != shape[3]))
    return std::nullopt;
  // Dims of size 1 have any stride.
  int64_t rows = shape[1] == 1 ? shape[2] * shape[3] : strides[1];
  int64_t batch = shape[0] == 1 ? shape[1] * rows : strides[0];
  if (view.layout.offset % 8 || rows % 8 || batch % 8 || !rows || !batch)
    return std::nullopt;
  return HeadsView{view.root, view.layout.offset, rows, batch};
}

namespace {
/// `layout` as a matrix, its leading dims folded into the rows.
std::optional<Layout> foldRows(const Layout &layout) {
  int64_t rows = layout.getNumElements() / layout.shape.back();
  return layout.reshape({rows, layout.shape.back()});
}

bool setMatrix(const Layout &layout, bool transposed, ProductView &view) {
  size_t rank = layout.shape.size();
  view.offset = layout.offset;
  view.rows = layout.strides[rank - 2];
  view.columns = layout.strides[rank - 1];
  bool unitRows = view.rows == 1 || layout.shape[rank - 2] == 1;
  bool unitColumns = view.columns == 1 || layout.shape[rank - 1] == 1;
  // Dims of size 1 have any stride; give them what a row-major matrix has.
  if (!unitColumns && !unitRows)
    return false;
  if (layout.shape[rank - 1] == 1)
    view.columns = 1;
  if (layout.shape[rank - 2] == 1)
    view.rows = std::max<int64_t>(layout.shape[rank - 1], 1) * view.columns;
  if (view.rows == 0 || view.columns == 0)
    return false;
  if (transposed)
    std::swap(view.rows, view.columns);
  return true;
}

/// Batch dims as exactly two, outermost first.
void setBatch(const Layout &layout, ProductView &view, int64_t (&sizes)[2]) {
  size_t lead = layout.shape.size() - 2;
  for (int i = 0; i < 2; ++i) {
    int64_t d = static_cast<int64_t>(lead) - 2 + i;
    sizes[i] = d >= 0 ? layout.shape[d] : 1;
    view.batch[i] = d >= 0 ? layout.strides[d] : 0;
  }
}

/// The view of a product's result inside its own or its transposed buffer.
std::optional<StorageView> getResultView(Value result) {
  auto shape = cast<RankedTensorType>(result.getType()).getShape();
  TransposeOp transpose = getWriteThrough(result);
  if (!transpose)
    return StorageView{result, Layout::contiguous(shape)};
  auto outer = Layout::contiguous(transpose.getY().getType().getShape());
  SmallVector<int64_t> inverse(shape.size());
  for (auto [i, d] : llvm::enumerate(transpose.getPermutation()))
    inverse[d] = i;
  return StorageView{transpose.getY(), outer.transpose(inverse)};
}

/// Splits or merges batch dims of all three layouts alike.
struct Batching {
  SmallVector<Layout, 3> layouts;
  /// Keeps the leading dims as they are, at most two after merging those that
  /// merge in every layout.
  bool normalise() {
    size_t lead = layouts[0].shape.size() - 2;
    for (size_t d = 0; d + 1 < lead && layouts[0].shape.size() - 2 > 0;) {
      bool mergeable = llvm::all_of(layouts, [&](Layout &l) {
        return l.shape[d] == 1 || l.shape[d + 1] == 1 ||
               l.strides[d] == l.shape[d + 1] * l.strides[d + 1];
      });
      if (!mergeable) {
        ++d;
        continue;
      }
      for (Layout &l : layouts) {
        if (l.shape[d + 1] == 1)
          l.strides[d + 1] = l.strides[d];
        l.shape[d + 1] *= l.shape[d];
        l.shape.erase(l.shape.begin() + d);
        l.strides.erase(l.strides.begin() + d);
      }
      --lead;
    }
    return lead <= 2;
  }
};
} // namespace

std::optional<ProductViews> mpt::getProductViews(ProductOpInterface op,
                                                 unsigned &problem) {
  auto flag = [&](StringRef name) { return op->hasAttr(name); };
  bool transposeLhs = flag("transpose_lhs"),
       transposeRhs = flag("transpose_rhs");
  bool fold = flag("fold_batch");
  problem = 0;
  auto lhs = getStorageView(op.getLhsOperand().get());
  if (!lhs)
    return std::nullopt;
  problem = 1;
  auto rhs = getStorageView(op.getRhsOperand().get());
  if (!rhs)
    return std::nullopt;
  auto result = getResultView(op->getResult(0));
  problem = 0;
  bool shared = rhs->layout.shape.size() == 2 && lhs->layout.shape.size() > 2;
  Batching batching{{lhs->layout, rhs->layout, result->layout}};
  if (fold || shared) {
    auto l = foldRows(lhs->layout);
    if (!l)
      return std::nullopt;
    problem = 1;
    auto r = fold ? foldRows(rhs->layout) : std::optional(rhs->layout);
    auto y = fold ? std::optional(result->layout) : foldRows(result->layout);
    if (!r || !y)
      return std::nullopt;
    batching.layouts = {*l, *r, *y};
  } else if (!batching.normalise()) {
    return std::nullopt;
  }
  ProductViews views;
  views.m = op.getM();
  views.n = op.getN();
  views.k = op.getK();
  views.lhs.root = lhs->root;
  views.rhs.root = rhs->root;
  views.result.root = result->root;
  problem = 0;
  if (!setMatrix(batching.layouts[0], transposeLhs, views.lhs))
    return std::nullopt;
  problem = 1;
  if (!setMatrix(batching.layouts[1], transposeRhs, views.rhs) ||
      !setMatrix(batching.layouts[2], false, views.result))
    return std::nullopt;
  setBatch(batching.layouts[0], views.lhs, views.batch);
  setBatch(batching.layouts[1], views.rhs, views.batch);
  setBatch(batching.layouts[2], views.result, views.batch);
  return views;
}
