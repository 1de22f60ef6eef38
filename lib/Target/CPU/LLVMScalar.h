//===- LLVMScalar.h - the numerics' vocabulary on LLVM dialect values -----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Wrappers that let the templates of include/mpt/Numerics emit code: each
// operator builds one op, on scalars or on vectors alike. See Scalar.h there
// for what the operations must mean; nothing here carries fast-math flags.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CPU_LLVMSCALAR_H
#define MPT_LIB_TARGET_CPU_LLVMSCALAR_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"

namespace mpt {
namespace cpu {

/// Where ops are built.
struct Code {
  mlir::OpBuilder b;
  mlir::Location loc;

  /// `value` in the shape (scalar or vector) of `like`.
  mlir::Value constant(mlir::Type type, mlir::TypedAttr value) {
    mlir::TypedAttr attr = value;
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(type))
      attr = mlir::DenseElementsAttr::get(vector, mlir::Attribute(value));
    return mlir::LLVM::ConstantOp::create(b, loc, type, attr);
  }
  mlir::Value constantF32(mlir::Type type, float value) {
    return constant(type, b.getF32FloatAttr(value));
  }
  mlir::Value constantInt(mlir::Type type, int64_t value) {
    mlir::Type element = mlir::getElementTypeOrSelf(type);
    return constant(type, b.getIntegerAttr(element, value));
  }
  mlir::Value i64(int64_t value) { return constantInt(b.getI64Type(), value); }

  /// `element`, in a vector as long as that of `like`, or by itself.
  static mlir::Type shapedLike(mlir::Type like, mlir::Type element) {
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(like))
      return mlir::VectorType::get(vector.getShape(), element);
    return element;
  }
  template <typename Op, typename... Args> mlir::Value make(Args &&...args) {
    return Op::create(b, loc, std::forward<Args>(args)...);
  }
  /// An op whose result has the given element type and the shape of `x`.
  template <typename Op>
  mlir::Value convert(mlir::Value x, mlir::Type element) {
    return Op::create(b, loc, shapedLike(x.getType(), element), x);
  }
};

/// A value and where to build on.
struct Wrapped {
  Code *code = nullptr;
  mlir::Value v;
};
struct F32V : Wrapped {};
struct U32V : Wrapped {};
struct BoolV : Wrapped {};

template <typename T, typename Op> T unaryOp(T a) {
  return T{{a.code, a.code->template make<Op>(a.v)}};
}
template <typename T, typename Op> T binaryOp(T a, T b) {
  return T{{a.code, a.code->template make<Op>(a.v, b.v)}};
}

//===----------------------------------------------------------------------===//
// f32
//===----------------------------------------------------------------------===//

inline F32V operator+(F32V a, F32V b) {
  return binaryOp<F32V, mlir::LLVM::FAddOp>(a, b);
}
inline F32V operator-(F32V a, F32V b) {
  return binaryOp<F32V, mlir::LLVM::FSubOp>(a, b);
}
inline F32V operator*(F32V a, F32V b) {
  return binaryOp<F32V, mlir::LLVM::FMulOp>(a, b);
}
inline F32V operator/(F32V a, F32V b) {
  return binaryOp<F32V, mlir::LLVM::FDivOp>(a, b);
}
inline F32V operator-(F32V a) { return unaryOp<F32V, mlir::LLVM::FNegOp>(a); }
inline F32V sqrt(F32V a) { return unaryOp<F32V, mlir::LLVM::SqrtOp>(a); }
inline F32V abs(F32V a) { return unaryOp<F32V, mlir::LLVM::FAbsOp>(a); }
inline F32V fma(F32V a, F32V b, F32V c) {
  return {{a.code, a.code->make<mlir::LLVM::FMAOp>(a.v, b.v, c.v)}};
}

inline BoolV compareF32(mlir::LLVM::FCmpPredicate predicate, F32V a, F32V b) {
  return {{a.code, a.code->make<mlir::LLVM::FCmpOp>(predicate, a.v, b.v)}};
}
inline BoolV operator<(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::olt, a, b);
}
inline BoolV operator<=(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::ole, a, b);
}
inline BoolV operator>(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::ogt, a, b);
}
inline BoolV operator>=(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::oge, a, b);
}
inline BoolV operator==(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::oeq, a, b);
}
inline BoolV operator!=(F32V a, F32V b) {
  return compareF32(mlir::LLVM::FCmpPredicate::une, a, b);
}

//===----------------------------------------------------------------------===//
// u32
//===----------------------------------------------------------------------===//

inline U32V operator+(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::AddOp>(a, b);
}
inline U32V operator-(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::SubOp>(a, b);
}
inline U32V operator*(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::MulOp>(a, b);
}
inline U32V operator&(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::AndOp>(a, b);
}
inline U32V operator|(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::OrOp>(a, b);
}
inline U32V operator^(U32V a, U32V b) {
  return binaryOp<U32V, mlir::LLVM::XOrOp>(a, b);
}
inline U32V lit(U32V like, uint32_t value) {
  return {{like.code, like.code->constantInt(like.v.getType(),
                                             static_cast<int32_t>(value))}};
}
inline U32V operator~(U32V a) { return a ^ lit(a, ~0u); }
inline U32V operator<<(U32V a, int n) {
  return binaryOp<U32V, mlir::LLVM::ShlOp>(a, lit(a, n));
}
inline U32V operator>>(U32V a, int n) {
  return binaryOp<U32V, mlir::LLVM::LShrOp>(a, lit(a, n));
}

inline BoolV compareU32(mlir::LLVM::ICmpPredicate predicate, U32V a, U32V b) {
  return {{a.code, a.code->make<mlir::LLVM::ICmpOp>(predicate, a.v, b.v)}};
}
inline BoolV operator<(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::ult, a, b);
}
inline BoolV operator<=(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::ule, a, b);
}
inline BoolV operator>(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::ugt, a, b);
}
inline BoolV operator>=(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::uge, a, b);
}
inline BoolV operator==(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::eq, a, b);
}
inline BoolV operator!=(U32V a, U32V b) {
  return compareU32(mlir::LLVM::ICmpPredicate::ne, a, b);
}

inline U32V mulhi(U32V a, U32V b) {
  Code &code = *a.code;
  mlir::Type wide = code.b.getI64Type();
  mlir::Value product =
      code.make<mlir::LLVM::MulOp>(code.convert<mlir::LLVM::ZExtOp>(a.v, wide),
                                   code.convert<mlir::LLVM::ZExtOp>(b.v, wide));
  mlir::Value high = code.make<mlir::LLVM::LShrOp>(
      product, code.constantInt(product.getType(), 32));
  return {
      {a.code, code.convert<mlir::LLVM::TruncOp>(high, code.b.getI32Type())}};
}

//===----------------------------------------------------------------------===//
// Between the types
//===----------------------------------------------------------------------===//

inline U32V bits(F32V a) {
  return {{a.code, a.code->convert<mlir::LLVM::BitcastOp>(
                       a.v, a.code->b.getI32Type())}};
}
inline F32V asFloat(U32V a) {
  return {{a.code, a.code->convert<mlir::LLVM::BitcastOp>(
                       a.v, a.code->b.getF32Type())}};
}
inline F32V toFloat(U32V a) {
  return {{a.code,
           a.code->convert<mlir::LLVM::UIToFPOp>(a.v, a.code->b.getF32Type())}};
}
inline F32V lit(F32V like, float value) {
  return {{like.code, like.code->constantF32(like.v.getType(), value)}};
}
inline U32V litU(F32V like, uint32_t value) {
  mlir::Type type =
      Code::shapedLike(like.v.getType(), like.code->b.getI32Type());
  return {
      {like.code, like.code->constantInt(type, static_cast<int32_t>(value))}};
}

inline BoolV operator&(BoolV a, BoolV b) {
  return binaryOp<BoolV, mlir::LLVM::AndOp>(a, b);
}
inline BoolV operator|(BoolV a, BoolV b) {
  return binaryOp<BoolV, mlir::LLVM::OrOp>(a, b);
}
inline BoolV operator!(BoolV a) {
  BoolV yes{{a.code, a.code->constantInt(a.v.getType(), 1)}};
  return binaryOp<BoolV, mlir::LLVM::XOrOp>(a, yes);
}

template <typename T> T selectOp(BoolV c, T a, T b) {
  return T{
      {a.code, a.code->template make<mlir::LLVM::SelectOp>(c.v, a.v, b.v)}};
}
inline F32V select(BoolV c, F32V a, F32V b) { return selectOp(c, a, b); }
inline U32V select(BoolV c, U32V a, U32V b) { return selectOp(c, a, b); }

} // namespace cpu
} // namespace mpt

#endif // MPT_LIB_TARGET_CPU_LLVMSCALAR_H
