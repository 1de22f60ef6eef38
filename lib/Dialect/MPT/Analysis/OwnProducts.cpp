//===- OwnProducts.cpp - which products our own kernels take --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See OwnProducts.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

using namespace mlir;
using namespace mpt;

namespace {

/// The copy engine moves rows that begin at multiples of 16 bytes.
constexpr int64_t kRowBytes = 16;

bool isFloat8(Type element) {
  return isa<Float8E4M3FNType, Float8E5M2Type>(element);
}
Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

/// An operand as [rows, k]: its strides along both, in elements.
struct OperandStrides {
  int64_t rows, k;
  bool isKMajor() const { return k == 1; }
};

std::string whyNotOperand(const char *name, Type element,
                          OperandStrides strides, int64_t offset) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (!strides.isKMajor() && (isFloat8(element) || strides.rows != 1)) {
    os << "has a " << name << " in " << element
       << " that is not contiguous along the contraction";
    return text;
  }
  int64_t bytes = getElementBytes(element);
  int64_t stride = (strides.isKMajor() ? strides.rows : strides.k) * bytes;
  if (stride % kRowBytes || offset * bytes % kRowBytes)
    os << "has a " << name << " whose rows are " << stride
       << " bytes apart from byte " << offset * bytes
       << " on, expected multiples of " << kRowBytes;
  return text;
}

} // namespace

Value mpt::getInverseScale(Operation *op, bool ofRhs) {
  if (auto scaled = dyn_cast<ScaledMatmulOp>(op))
    return ofRhs ? scaled.getRhsInverseScale() : scaled.getLhsInverseScale();
  auto fused = dyn_cast<FusedMatmulOp>(op);
  if (!fused)
    return nullptr;
  return ofRhs ? fused.getRhsInverseScale() : fused.getLhsInverseScale();
}

std::string mpt::whyNotOwn(ProductOpInterface op, const ProductViews &views) {
  if (!isa<ScaledMatmulOp, FusedMatmulOp>(op))
    return "multiplies f32";
  Type lhs = elementOf(op.getLhsOperand().get());
  Type rhs = elementOf(op.getRhsOperand().get());
  std::string text;
  llvm::raw_string_ostream os(text);
  if (!(isFloat8(lhs) && isFloat8(rhs)) && !(lhs.isBF16() && rhs.isBF16())) {
    os << "multiplies " << lhs << " by " << rhs;
    return text;
  }
  if (views.batch[0] * views.batch[1] != 1) {
    os << "is a batch of " << views.batch[0] * views.batch[1];
    return text;
  }
  for (bool isRhs : {false, true})
    if (Value scale = getInverseScale(op, isRhs))
      if (cast<RankedTensorType>(scale.getType()).getNumElements() > 1) {
        os << "has scales of " << scale.getType() << ", expected one";
        return text;
      }
  if (views.result.columns != 1)
    return "has a result that is not contiguous along its rows";
  text = whyNotOperand("lhs", lhs, {views.lhs.rows, views.lhs.columns},
                       views.lhs.offset);
  if (text.empty())
    text = whyNotOperand("rhs", rhs, {views.rhs.columns, views.rhs.rows},
                         views.rhs.offset);
  return text;
}

std::string mpt::whyNotCublasLt(ProductOpInterface op,
                                const ProductViews &views) {
  Type lhs = elementOf(op.getLhsOperand().get());
  Type rhs = elementOf(op.getRhsOperand().get());
  auto isKnown = [](Type element) {
    return element.isF32() || element.isBF16() || isFloat8(element);
  };
  std::string text;
  llvm::raw_string_ostream os(text);
  if (isa<FusedMatmulOp>(op)) {
    os << "has an epilogue, which only own kernels run";
    return text;
  }
  if (!isKnown(lhs) || !isKnown(rhs) || isFloat8(lhs) != isFloat8(rhs) ||
      (!isFloat8(lhs) && lhs != rhs) ||
      (isa<Float8E5M2Type>(lhs) && isa<Float8E5M2Type>(rhs))) {
    os << "multiplies " << lhs << " by " << rhs
       << ", which cuBLASLt has no product for on sm_90; expected f32, bf16, "
          "or FP8 with at most one f8E5M2";
    return text;
  }
  for (bool isRhs : {false, true}) {
    Value scale = getInverseScale(op, isRhs);
    if (!scale || cast<RankedTensorType>(scale.getType()).getNumElements() == 1)
      continue;
    os << "has an operand in " << (isRhs ? rhs : lhs) << " with scales of "
       << scale.getType()
       << ", but cuBLASLt on sm_90 takes one scale per operand: expected scale "
          "= per_tensor";
    return text;
  }
  if (!isFloat8(lhs))
    return text;
  if (views.k % 16 || views.n % 16)
    os << "is FP8 with n = " << views.n << " and k = " << views.k
       << ", expected multiples of 16";
  else if (views.lhs.columns != 1 || views.rhs.rows != 1)
    os << "has an FP8 operand that is not contiguous along the contraction: "
          "run "
          "--mpt-k-major before --mpt-fuse";
  return text;
}

OwnProduct mpt::getOwnProduct(ProductOpInterface op,
                              const ProductViews &views) {
  OwnProduct own;
  bool float8 = isFloat8(elementOf(op.getLhsOperand().get()));
  own.promote = float8 && op.getProductRole() != Role::Fprop;
  own.turnedLhs = views.lhs.columns != 1;
  own.turnedRhs = views.rhs.rows != 1;
  if (isa<FusedMatmulOp>(op))
    return own;
  // A wave takes as long as a tile; 64 columns stand for the tile's rows, which
  // are read whatever its columns.
  int64_t least = 0;
  for (int64_t columns : {256, 128, 64}) {
    if (own.promote && columns > 128)
      continue;
    int64_t tiles = llvm::divideCeil(views.m, kOwnTileRows) *
                    llvm::divideCeil(views.n, columns);
    int64_t cost = llvm::divideCeil(tiles, kOwnUnits) * (columns + 64);
    if (least == 0 || cost < least) {
      least = cost;
      own.tileColumns = columns;
    }
  }
  return own;
}

int64_t mpt::getStages(const OwnProduct &own, int64_t staging) {
  constexpr int64_t most = 6, shared = 227 * 1024;
  constexpr int64_t alignment = 1024, barriers = 16 * most, warpgroups = 2;
  // A stage holds 128 bytes of k.
  int64_t stage = (kOwnTileRows + own.tileColumns) * 128;
  int64_t left =
      shared - alignment - barriers - warpgroups * staging * own.tileColumns;
  return std::min(most, left / stage);
}
