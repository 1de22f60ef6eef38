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
    scale = MAX(storage) / 2^margin / amax, clamped to finite f32; `previous`
    where amax is 0 or not finite, 1 without one. The inverse travels with the
    data.
  }];
  let arguments = (ins MPT_F32Tensor:$amax, Optional<MPT_F32Tensor>:$previous,
                       TypeAttr:$storage,
                       DefaultValuedAttr<I64Attr, "0">:$margin);
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
  let description = [{
    To nearest even. The scale broadcasts to x: one for the tensor ([]), per row
    ([..., M, 1]) or per column ([..., 1, N]).
  }];
  let arguments = (ins MPT_F32Tensor:$x, Optional<MPT_F32Tensor>:$scale);
  let results = (outs MPT_StorageTensor:$y);
  let hasVerifier = 1;
}

def MPT_QuantizeStochasticOp : MPT_Op<"quantize_stochastic",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface, ["isCheap"]>]> {
  let summary = "codes of x * scale, rounded up or down at random";
  let description = [{
    As `mpt.quantize`, but up with the probability that keeps the mean. The
    random bits are Philox words: key = seed, counter = (element/4 low, high,
    id, step), element = row-major index in x. `id` is the hash of the value's
    and the format's name, and an operand, so that kernels of all layers can be
    shared.
  }];
  let arguments = (ins MPT_F32Tensor:$x, MPT_I64Scalar:$seed,
                       MPT_I64Scalar:$step, MPT_I64Scalar:$id,
                       Optional<MPT_F32Tensor>:$scale);
  let results = (outs MPT_StorageTensor:$y);
  let hasVerifier = 1;
}

def MPT_SentinelsOp : MPT_Op<"sentinels",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "where rounding to codes lost a value: 1 or 0 per element";
  let description = [{
    saturated: x is finite, and x * scale rounds to more than the storage holds;
    flushed: x is finite and not 0, and its code is that of 0; non_finite: x is
    infinite or NaN. Sums of them are a tensor's counts.
  }];
  let arguments = (ins MPT_F32Tensor:$x, MPT_StorageTensor:$codes,
                       Optional<MPT_F32Tensor>:$scale);
  let results = (outs MPT_F32Result:$saturated, MPT_F32Result:$flushed,
                      MPT_F32Result:$non_finite);
  let hasVerifier = 1;
}

def MPT_DequantizeOp : MPT_Op<"dequantize",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "real values of codes: decode(code) * inverse scale";
  let arguments = (ins MPT_StorageTensor:$x, Optional<MPT_F32Tensor>:$inverse_scale);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_FORMATOPS
