//===- VectorEmitter.h - scalar bodies as LLVM dialect ops ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The CPU's ScalarEmitter: a value is a scalar (the same for all lanes) or a
// vector of 32 lanes; scalars are spread where they meet vectors.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CPU_VECTOREMITTER_H
#define MPT_LIB_TARGET_CPU_VECTOREMITTER_H

#include "LLVMScalar.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace mpt {
namespace cpu {

constexpr int64_t kLanes = 32;

/// Index base + lane * stride (i64), with base a multiple of `alignment`; or
/// `lanes`, one index each.
struct LaneIndex {
  mlir::Value base;
  int64_t stride = 0;
  int64_t alignment = 1;
  mlir::Value lanes;
};

/// A value of an mpt element type: i1, i32, i64 and f32 are held as such, codes
/// of bf16, FP8 and i8 as i32.
struct Typed {
  mlir::Value value;
  mlir::Type element;
  /// Of lanes that count up from a scalar, that scalar; else null. The step is
  /// 1. Lets a comparison with a label work on narrow integers.
  mlir::Value firstLane = {};
};

class VectorEmitter : public ScalarEmitter {
public:
  explicit VectorEmitter(Code &code) : code(code) {}

  /// Emits an op's body. `index` and `last` are the element's row-major index
  /// and its index along the last axis, for ops that ask.
  llvm::SmallVector<Typed, 3> emit(ScalarBodyOpInterface op,
                                   llvm::ArrayRef<Typed> operands,
                                   LaneIndex index, LaneIndex last);
  /// `value` in all lanes.
  mlir::Value spread(mlir::Value value, int64_t lanes = kLanes);
  /// 0, 1, 2, ... times `stride`.
  mlir::Value laneNumbers(int64_t lanes, int64_t stride);

  Scalar constant(float value) override;
  Scalar constantInt(int64_t value) override;
  Scalar unary(UnaryFn fn, Scalar x) override;
  Scalar binary(BinaryFn fn, Scalar lhs, Scalar rhs) override;
  Scalar fma(Scalar a, Scalar b, Scalar c) override;
  Scalar compare(Predicate predicate, Scalar lhs, Scalar rhs) override;
  Scalar logicalAnd(Scalar lhs, Scalar rhs) override;
  Scalar logicalOr(Scalar lhs, Scalar rhs) override;
  Scalar logicalNot(Scalar x) override;
  Scalar select(Scalar condition, Scalar onTrue, Scalar onFalse) override;
  Scalar convert(Scalar x, mlir::Type type) override;
  Scalar columnIndex() override;
  Scalar dropoutKeep(Scalar seed, Scalar step, Scalar id,
                     float keepProbability) override;
  Scalar encode(Scalar x, mlir::Type storage) override;
  Scalar encodeStochastic(Scalar x, mlir::Type storage, Scalar seed,
                          Scalar step, Scalar id) override;
  Scalar decode(Scalar code) override;
  Scalar scaleOf(Scalar amax, mlir::Type storage, int64_t margin) override;
  Scalar scaleOr(Scalar amax, mlir::Type storage, int64_t margin,
                 Scalar otherwise) override;

private:
  Scalar add(mlir::Value value, mlir::Type element) {
    slots.push_back({value, element});
    return Scalar{static_cast<unsigned>(slots.size() - 1)};
  }
  Scalar add(F32V x) { return add(x.v, code.b.getF32Type()); }
  Scalar add(BoolV x) { return add(x.v, code.b.getI1Type()); }
  mlir::Value value(Scalar x) { return slots[x.id].value; }
  F32V f32(Scalar x) { return {{&code, value(x)}}; }
  BoolV boolean(Scalar x) { return {{&code, value(x)}}; }
  /// Spreads scalars among vectors, so that all have one shape.
  void unify(llvm::MutableArrayRef<Scalar *> xs);
  mlir::Value lanesOf(const LaneIndex &index);
  mlir::Value isLane(mlir::Value first, mlir::Value x);
  U32V words(Scalar seed, Scalar step, Scalar id);
  U32V wordsOfGroups(mlir::Value seed, mlir::Value step, mlir::Value id);
  U32V wordsOfElements(mlir::Value seed, mlir::Value step, mlir::Value id);

  Code &code;
  LaneIndex index, last;
  llvm::SmallVector<Typed, 32> slots;
};

} // namespace cpu
} // namespace mpt

#endif // MPT_LIB_TARGET_CPU_VECTOREMITTER_H
