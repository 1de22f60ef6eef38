//===- ScalarEmitter.h - one scalar semantics, many back ends -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Elementwise ops describe their scalar body against this interface once; the
// CPU back end implements it with arith ops on vectors, the CUDA back end with
// C++ text. Transcendental functions, formats and Philox mean those of
// include/mpt/Numerics.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_SCALAREMITTER_H
#define MPT_DIALECT_MPT_IR_SCALAREMITTER_H

#include "mlir/IR/Types.h"
#include <cstdint>

namespace mpt {

/// A handle to a scalar value that an emitter made.
struct Scalar {
  unsigned id = ~0u;
};

enum class UnaryFn { Neg, Exp, Log, Sqrt, Tanh, Erf, Gelu, GeluGrad, Abs };
enum class BinaryFn { Add, Sub, Mul, Div, Max };
enum class Predicate : uint32_t;

class ScalarEmitter {
public:
  virtual ~ScalarEmitter() = default;

  virtual Scalar constant(float value) = 0;
  virtual Scalar constantInt(int64_t value) = 0;
  virtual Scalar unary(UnaryFn fn, Scalar x) = 0;
  virtual Scalar binary(BinaryFn fn, Scalar lhs, Scalar rhs) = 0;
  virtual Scalar fma(Scalar a, Scalar b, Scalar c) = 0;
  /// Both of one type, compared as C does (NaN is NE to everything and nothing
  /// else; integers signed); yields i1.
  virtual Scalar compare(Predicate predicate, Scalar lhs, Scalar rhs) = 0;
  virtual Scalar logicalAnd(Scalar lhs, Scalar rhs) = 0;
  virtual Scalar logicalOr(Scalar lhs, Scalar rhs) = 0;
  virtual Scalar logicalNot(Scalar x) = 0;
  virtual Scalar select(Scalar condition, Scalar onTrue, Scalar onFalse) = 0;
  /// Between i1, i32, i64 and f32.
  virtual Scalar convert(Scalar x, mlir::Type type) = 0;
  /// Index along the last axis of the op's iteration space, i64.
  virtual Scalar columnIndex() = 0;
  /// Whether dropout keeps this element (the row-major index of the op's
  /// iteration space names it); seed, step and id are i64.
  virtual Scalar dropoutKeep(Scalar seed, Scalar step, Scalar id,
                             float keepProbability) = 0;
  /// Code of the f32 value x in a storage type, of that type.
  virtual Scalar encode(Scalar x, mlir::Type storage) = 0;
  /// The same, rounded stochastically: the bits are those of this element (the
  /// row-major index of the op's iteration space names it) in the stream of
  /// seed, step and id, which are i64 (include/mpt/Numerics/Philox.h).
  virtual Scalar encodeStochastic(Scalar x, mlir::Type storage, Scalar seed,
                                  Scalar step, Scalar id) = 0;
  /// f32 value of a stored code.
  virtual Scalar decode(Scalar code) = 0;
  /// Scale for an amax, over 2^margin (include/mpt/Numerics/Formats.h,
  /// computeScale).
  virtual Scalar scaleOf(Scalar amax, mlir::Type storage, int64_t margin) = 0;
  /// The same, or `otherwise` where the amax is 0 or not finite
  /// (include/mpt/Numerics/Scales.h, scaleOr).
  virtual Scalar scaleOr(Scalar amax, mlir::Type storage, int64_t margin,
                         Scalar otherwise) = 0;
};

} // namespace mpt

#endif // MPT_DIALECT_MPT_IR_SCALAREMITTER_H
