//===- ShapeOps.td - constants and views -------------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Constants, and ops that only rearrange: their results are views wherever one
// strided layout can describe them.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_SHAPEOPS
#define MPT_DIALECT_MPT_IR_SHAPEOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_ConstantOp : MPT_Op<"constant",
    [ConstantLike, AllTypesMatch<["value", "y"]>]> {
  let summary = "a small constant tensor";
  let arguments = (ins TypedAttrInterface:$value);
  let results = (outs MPT_AnyTensor:$y);
  let assemblyFormat = "attr-dict $value";
  let hasFolder = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// A rank-0 f32 constant.
    static ::mlir::Value scalar(::mlir::OpBuilder &builder,
                                ::mlir::Location location, float value);
    /// A rank-0 i64 constant.
    static ::mlir::Value scalarInt(::mlir::OpBuilder &builder,
                                   ::mlir::Location location, int64_t value);
  }];
}

class MPT_ViewOp<string mnemonic, list<Trait> traits = []>
    : MPT_Op<mnemonic, !listconcat(
        [DeclareOpInterfaceMethods<MPT_ViewOpInterface>,
         DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>], traits)> {
  let arguments = (ins MPT_AnyTensor:$x);
  let results = (outs MPT_AnyTensor:$y);
}

def MPT_ReshapeOp : MPT_ViewOp<"reshape"> {
  let summary = "the same elements in row-major order under another shape";
  let hasVerifier = 1;
  let hasFolder = 1;
}
def MPT_BroadcastOp : MPT_ViewOp<"broadcast"> {
  let summary = "NumPy broadcasting to the result's shape";
  let hasVerifier = 1;
  let hasFolder = 1;
}
def MPT_TransposeOp : MPT_ViewOp<"transpose"> {
  let summary = "result dim i is operand dim permutation[i]";
  let arguments = (ins MPT_AnyTensor:$x, DenseI64ArrayAttr:$permutation);
  let hasVerifier = 1;
  let hasFolder = 1;
}
def MPT_SliceOp : MPT_ViewOp<"slice"> {
  let summary = "a contiguous range of each dim, from offsets, of the result's sizes";
  let arguments = (ins MPT_AnyTensor:$x, DenseI64ArrayAttr:$offsets);
  let hasVerifier = 1;
  let hasFolder = 1;
}
def MPT_PadOp : MPT_Op<"pad",
    [DeclareOpInterfaceMethods<MPT_DecomposableOpInterface>]> {
  let summary = "zeros around a tensor: the gradient of slice";
  let description = [{
    Decomposes into a scatter of the longest rows that move as a whole.
  }];
  let arguments = (ins MPT_F32Tensor:$x, DenseI64ArrayAttr:$offsets);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_SHAPEOPS
