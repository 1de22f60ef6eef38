//===- ElementwiseOps.td - elementwise ops -----------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Elementwise ops with NumPy broadcasting: arithmetic, activations, selection,
// conversion and dropout. Each has one scalar body.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_ELEMENTWISEOPS
#define MPT_DIALECT_MPT_IR_ELEMENTWISEOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

/// Elementwise with broadcasting; the result has the first result element type
/// that `elementType` (C++, of the operands' types) says.
class MPT_ElementwiseOp<string mnemonic, list<Trait> traits = [], bit expensive = 0>
    : MPT_InferredOp<mnemonic, !listconcat(
        [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface,
                                   !if(expensive, ["isCheap"], [])>], traits)> {
  let extraClassDefinition = compatibleDefinition # [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *context, ::std::optional<::mlir::Location> location,
        Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      return ::mpt::inferBroadcastType(location, getOperationName(),
                                       adaptor.getOperands(), resultElement, types);
    }
  }];
  // Element type of the result: 'f' f32, 'b' i1, 'i' i64, 's' same as operand 0.
  string resultElementCode = "'f'";
  let extraClassDeclaration =
      "static constexpr char resultElement = " # resultElementCode # ";";
}

class MPT_UnaryOp<string mnemonic, string summaryText, bit expensive = 1>
    : MPT_ElementwiseOp<mnemonic,
        [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>], expensive> {
  let summary = summaryText;
  let arguments = (ins MPT_F32Tensor:$x);
  let results = (outs MPT_F32Result:$y);
}

class MPT_BinaryOp<string mnemonic, string summaryText, list<Trait> traits = []>
    : MPT_ElementwiseOp<mnemonic, !listconcat(
        [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>], traits)> {
  let summary = summaryText;
  let arguments = (ins MPT_F32Tensor:$lhs, MPT_F32Tensor:$rhs);
  let results = (outs MPT_F32Result:$y);
}

def MPT_AddOp : MPT_BinaryOp<"add", "lhs + rhs"> { let hasCanonicalizer = 1; }
def MPT_SubOp : MPT_BinaryOp<"sub", "lhs - rhs">;
def MPT_MulOp : MPT_BinaryOp<"mul", "lhs * rhs">;
def MPT_DivOp : MPT_BinaryOp<"div", "lhs / rhs">;

def MPT_NegOp : MPT_UnaryOp<"neg", "-x", 0>;
def MPT_ExpOp : MPT_UnaryOp<"exp", "e^x">;
def MPT_LogOp : MPT_UnaryOp<"log", "natural logarithm">;
def MPT_SqrtOp : MPT_UnaryOp<"sqrt", "square root">;
def MPT_TanhOp : MPT_UnaryOp<"tanh", "hyperbolic tangent">;
def MPT_ErfOp : MPT_UnaryOp<"erf", "error function">;
def MPT_GeluOp : MPT_UnaryOp<"gelu", "x * Phi(x), the exact (erf) GELU">;

def MPT_GeluGradOp : MPT_ElementwiseOp<"gelu_grad", [], 1> {
  let summary = "dy times the derivative of the exact GELU at x";
  let arguments = (ins MPT_F32Tensor:$x, MPT_F32Tensor:$dy);
  let results = (outs MPT_F32Result:$dx);
}

def MPT_CompareOp : MPT_ElementwiseOp<"compare"> {
  let summary = "elementwise comparison of two tensors of one element type";
  let arguments = (ins MPT_PredicateAttr:$predicate, MPT_AnyTensor:$lhs,
                       MPT_AnyTensor:$rhs);
  let results = (outs MPT_BoolTensor:$y);
  let resultElementCode = "'b'";
  let hasVerifier = 1;
}
class MPT_LogicalOp<string mnemonic, string summaryText>
    : MPT_ElementwiseOp<mnemonic> {
  let summary = summaryText;
  let arguments = (ins MPT_BoolTensor:$lhs, MPT_BoolTensor:$rhs);
  let results = (outs MPT_BoolTensor:$y);
  let resultElementCode = "'b'";
}
def MPT_AndOp : MPT_LogicalOp<"and", "logical and">;
def MPT_OrOp : MPT_LogicalOp<"or", "logical or">;
def MPT_NotOp : MPT_ElementwiseOp<"not"> {
  let summary = "logical not";
  let arguments = (ins MPT_BoolTensor:$x);
  let results = (outs MPT_BoolTensor:$y);
  let resultElementCode = "'b'";
}

def MPT_SelectOp : MPT_ElementwiseOp<"select",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>]> {
  let summary = "condition ? on_true : on_false";
  let arguments = (ins MPT_BoolTensor:$condition, MPT_F32Tensor:$on_true,
                       MPT_F32Tensor:$on_false);
  let results = (outs MPT_F32Result:$y);
}

def MPT_ConvertOp : MPT_Op<"convert",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>, SameOperandsAndResultShape]> {
  let summary = "between i1, i32, i64 and f32 (float to integer truncates)";
  let arguments = (ins MPT_AnyTensor:$x);
  let results = (outs MPT_AnyTensor:$y);
  let hasFolder = 1;
  let hasVerifier = 1;
}

def MPT_CopyOp : MPT_Op<"copy",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface, ["isCheap"]>,
     SameOperandsAndResultType]> {
  let summary = "the same tensor in row-major memory of its own";
  let description = [{
    Put where a view has to be laid out anew: before a product or a scatter that
    cannot read its strides. Any element type, stored codes too.
  }];
  let arguments = (ins MPT_AnyTensor:$x);
  let results = (outs MPT_AnyTensor:$y);
}

def MPT_DropoutOp : MPT_ElementwiseOp<"dropout",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>], 1> {
  let summary = "inverted dropout whose mask is drawn from Philox";
  let description = [{
    y = keep ? x / keep_probability : 0 with one Philox4x32-10 word per element:
    key = seed, counter = (element/4 low, high, id, step), kept iff
    word < keep_probability * 2^32. The gradient draws the same mask again.
    `id` is the hash of the op's name and an operand, so that kernels of all
    layers can be shared.
  }];
  let arguments = (ins MPT_F32Tensor:$x, MPT_I64Scalar:$seed,
                       MPT_I64Scalar:$step, MPT_I64Scalar:$id,
                       F32Attr:$keep_probability);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

def MPT_IotaOp : MPT_Op<"iota",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "index along the last axis";
  let results = (outs MPT_IntTensor:$y);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_ELEMENTWISEOPS
