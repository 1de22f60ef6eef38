//===- FormatOps.td - formats: cast, quantize, scales ------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The one op at which a value changes format, and what it becomes when formats
// are materialized.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_FORMATOPS
#define MPT_DIALECT_MPT_IR_FORMATOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_CastOp : MPT_Op<"cast", [SameOperandsAndResultShape,
    SameOperandsAndResultElementType]> {
  let summary = "the operand's values rounded to the result's format";
  let description = [{
    The only op that rounds. The result's encoding names the format; the
    element type stays f32. Pure, and keyed by (value, format), so equal casts
    merge.
  }];
  let arguments = (ins MPT_F32Tensor:$x);
  let results = (outs MPT_F32Tensor:$y);
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The format of the result.
    FormatAttr getFormat();
  }];
}

def MPT_ScaleOp : MPT_ElementwiseOp<"scale"> {
  let summary = "scale and inverse scale from an amax";
  let description = [{
    scale = MAX(storage) / amax, 1 where amax is 0 or not finite, clamped to
    finite f32; the inverse travels with the data.
  }];
  let arguments = (ins MPT_F32Tensor:$amax, TypeAttr:$storage);
  let results = (outs MPT_F32Result:$scale, MPT_F32Result:$inverse);
  let hasVerifier = 1;
  let extraClassDefinition = compatibleDefinition # [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *context, ::std::optional<::mlir::Location> location,
        Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      types.append(2, ::mpt::withoutEncoding(adaptor.getAmax().getType()));
      return ::mlir::success();
    }
  }];
}

def MPT_QuantizeOp : MPT_Op<"quantize",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "codes of x * scale in the result's element type";
  let arguments = (ins MPT_F32Tensor:$x, Optional<MPT_F32Scalar>:$scale);
  let results = (outs MPT_StorageTensor:$y);
  let hasVerifier = 1;
}

def MPT_DequantizeOp : MPT_Op<"dequantize",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "real values of codes: decode(code) * inverse scale";
  let arguments = (ins MPT_StorageTensor:$x, Optional<MPT_F32Scalar>:$inverse_scale);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_FORMATOPS
