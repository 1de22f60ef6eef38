//===- MPTInterfaces.td - what ops tell passes -------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Interfaces carry behaviour, so that no pass switches over op names:
// differentiation, decomposition into primitives, scalar semantics, products
// and views.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_MPTINTERFACES
#define MPT_DIALECT_MPT_IR_MPTINTERFACES

include "mlir/IR/OpBase.td"

def MPT_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::mpt";
  let description = [{
    An op that can build its own vector-Jacobian product.
  }];
  let methods = [
    InterfaceMethod<[{
      Builds, at the builder's insertion point, the gradient of every operand i
      with `needed[i]`, and stores it in `grads[i]` (same shape as the operand,
      f32). `resultGrads[j]` is the gradient of result j or null where nothing
      depends on it; at least one is set. Gradients that are zero stay null.
    }], "::llvm::LogicalResult", "buildVJP",
      (ins "::mlir::OpBuilder &":$builder,
           "::llvm::ArrayRef<::mlir::Value>":$resultGrads,
           "::llvm::ArrayRef<bool>":$needed,
           "::llvm::MutableArrayRef<::mlir::Value>":$grads)>
  ];
}

def MPT_DecomposableOpInterface : OpInterface<"DecomposableOpInterface"> {
  let cppNamespace = "::mpt";
  let description = [{
    A composite op that is defined by primitives (elementwise ops, reductions
    and views): its one semantics for every back end.
  }];
  let methods = [
    InterfaceMethod<"Builds the primitives and returns the results' values.",
      "::llvm::SmallVector<::mlir::Value>", "decompose",
      (ins "::mlir::OpBuilder &":$builder)>
  ];
}

def MPT_ScalarBodyOpInterface : OpInterface<"ScalarBodyOpInterface"> {
  let cppNamespace = "::mpt";
  let description = [{
    An elementwise op (with broadcasting). Its scalar body is written once
    against `ScalarEmitter`; the CPU back end instantiates it with arith ops on
    vectors, the CUDA back end with C++ text.
  }];
  let methods = [
    InterfaceMethod<"Emits the scalar body; fills one value per result.",
      "void", "emitScalar",
      (ins "::mpt::ScalarEmitter &":$emitter,
           "::llvm::ArrayRef<::mpt::Scalar>":$operands,
           "::llvm::SmallVectorImpl<::mpt::Scalar> &":$results)>,
    InterfaceMethod<[{
      Whether computing it again costs less than a load from memory.
    }], "bool", "isCheap", (ins), "", "return true;">
  ];
}

def MPT_ProductOpInterface : OpInterface<"ProductOpInterface"> {
  let cppNamespace = "::mpt";
  let description = [{
    A matrix product of the training step, the unit of precision assignment.
    lhs is MxK and rhs KxN per batch element, after the transpose flags.
  }];
  let methods = [
    InterfaceMethod<"Rows of the result.", "int64_t", "getM">,
    InterfaceMethod<"Columns of the result.", "int64_t", "getN">,
    InterfaceMethod<"Length of the contraction.", "int64_t", "getK">,
    InterfaceMethod<"Number of batch elements.", "int64_t", "getBatch">,
    InterfaceMethod<"The role, if the step assigned one.",
      "::std::optional<::mpt::Role>", "getProductRole">,
    InterfaceMethod<"The left operand.", "::mlir::OpOperand &", "getLhsOperand">,
    InterfaceMethod<"The right operand.", "::mlir::OpOperand &", "getRhsOperand">
  ];
}

def MPT_ViewOpInterface : OpInterface<"ViewOpInterface"> {
  let cppNamespace = "::mpt";
  let description = [{
    An op whose result is a strided view of its one tensor operand.
  }];
  let methods = [
    InterfaceMethod<[{
      The result's layout given the operand's, or nullopt if no single strided
      layout describes it.
    }], "::std::optional<::mpt::Layout>", "applyToLayout",
      (ins "const ::mpt::Layout &":$source)>,
    InterfaceMethod<"The tensor that is viewed.", "::mlir::Value", "getViewSource">
  ];
}

#endif // MPT_DIALECT_MPT_IR_MPTINTERFACES
