//===- ExpressionEmitter.h - scalar bodies as C++ expressions -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The CUDA back end's ScalarEmitter: records an op's body as a small DAG, then
// prints it, shared parts as variables of their own. No optimisation here.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_EXPRESSIONEMITTER_H
#define MPT_LIB_TARGET_CUDA_EXPRESSIONEMITTER_H

#include "SourceWriter.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace mpt {
namespace cuda {

/// How tightly an expression binds, loosest first.
enum class Binding {
  Conditional,
  Or,
  And,
  Equal,
  Less,
  Sum,
  Product,
  Unary,
  Atom
};

/// C++ text for a value of an mpt element type: bool for i1, uint32_t for codes
/// (bf16, FP8, i8), else the type itself.
struct Expression {
  std::string text;
  Binding binding = Binding::Atom;
  mlir::Type element;

  /// The text, in parentheses if it binds less tightly than `least`.
  std::string at(Binding least) const {
    return binding < least ? "(" + text + ")" : text;
  }
};

/// C++ types of a value in a register and in memory.
llvm::StringRef valueType(mlir::Type element);
llvm::StringRef memoryType(mlir::Type element);
/// `text`, loaded from memory, as a value; and back.
Expression fromMemory(std::string text, mlir::Type element);
std::string toMemory(const Expression &value);
std::string floatLiteral(float value);
Expression intLiteral(int64_t value, mlir::Type element);

class ExpressionEmitter : public ScalarEmitter {
public:
  /// FP8 codes are made by the functions of `codes`.
  explicit ExpressionEmitter(mlir::MLIRContext *context,
                             llvm::StringRef codes = "num")
      : context(context), codes(codes) {}

  /// Writes the body of `op`; result i becomes the variable names[i], unless
  /// names[i] is empty (not needed) or the result is an operand. `index` and
  /// `last` are the element's row-major index and the one along the last axis.
  llvm::SmallVector<Expression, 3> emit(ScalarBodyOpInterface op,
                                        llvm::ArrayRef<Expression> operands,
                                        llvm::ArrayRef<std::string> names,
                                        std::string index, std::string last,
                                        SourceWriter &writer);

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
  enum class Form { Leaf, Prefix, Infix, Call, Select };
  /// One operation: its symbol or callee (with leading arguments, if any).
  struct Slot {
    Form form = Form::Leaf;
    Binding binding = Binding::Atom;
    mlir::Type element;
    std::string text, leading;
    llvm::SmallVector<unsigned, 3> operands;
    unsigned uses = 0;
    Expression printed;
  };
  Scalar add(Slot slot) {
    slots.push_back(std::move(slot));
    return Scalar{static_cast<unsigned>(slots.size() - 1)};
  }
  Scalar leaf(Expression value);
  Scalar call(llvm::StringRef callee, mlir::Type element,
              llvm::ArrayRef<Scalar> operands, llvm::StringRef leading = "");
  Scalar infix(llvm::StringRef symbol, Binding binding, mlir::Type element,
               Scalar lhs, Scalar rhs);
  void countUses(unsigned id);
  const Expression &print(unsigned id, llvm::StringRef prefix,
                          SourceWriter &writer);
  Expression format(const Slot &slot, llvm::StringRef prefix,
                    SourceWriter &writer);
  mlir::Type f32() { return mlir::Float32Type::get(context); }
  mlir::Type boolean() { return mlir::IntegerType::get(context, 1); }
  mlir::Type i64() { return mlir::IntegerType::get(context, 64); }

  mlir::MLIRContext *context;
  llvm::StringRef codes;
  std::string index, last;
  llvm::SmallVector<Slot, 16> slots;
  unsigned temporaries = 0;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_EXPRESSIONEMITTER_H
