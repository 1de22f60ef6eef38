//===- ProductOps.td - matrix products ---------------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Matrix products, before and after materialization of formats.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_PRODUCTOPS
#define MPT_DIALECT_MPT_IR_PRODUCTOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_MatmulOp : MPT_InferredOp<"matmul",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>,
     DeclareOpInterfaceMethods<MPT_ProductOpInterface>]> {
  let summary = "batched matrix product with transpose flags, f32 accumulation";
  let description = [{
    lhs: [B..., M, K] ([B..., K, M] with `transpose_lhs`), rhs: [B..., K, N]
    ([B..., N, K] with `transpose_rhs`). Batch dims broadcast only by absence: a
    rank-2 rhs serves every batch element, which then counts as more rows. With
    `fold_batch` both operands' leading dims belong to the contraction:
    lhs [B..., K, M] (transposed), rhs [B..., K, N] give [M, N], the weight
    gradient. `role` is set once the training step exists.
  }];
  let arguments = (ins MPT_F32Tensor:$lhs, MPT_F32Tensor:$rhs,
                       UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs,
                       UnitAttr:$fold_batch, OptionalAttr<MPT_RoleAttr>:$role,
                       OptionalAttr<MPT_MetricsAttr>:$metrics);
  let results = (outs MPT_F32Result:$y);
  let hasCanonicalizer = 1;
}

def MPT_ScaledMatmulOp : MPT_Op<"scaled_matmul",
    [AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<MPT_ProductOpInterface>]> {
  let summary = "product of stored low-precision operands";
  let description = [{
    As `mpt.matmul`, on storage tensors: the real operand is
    decode(code) * inverse scale. Operands without inverse scale have scale 1.
    An inverse scale that is no scalar (one per row or column) has the shape that
    belongs to the codes' definition, behind any views.
  }];
  let arguments = (ins MPT_StorageTensor:$lhs, MPT_StorageTensor:$rhs,
                       Optional<MPT_F32Tensor>:$lhs_inverse_scale,
                       Optional<MPT_F32Tensor>:$rhs_inverse_scale,
                       UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs,
                       UnitAttr:$fold_batch, OptionalAttr<MPT_RoleAttr>:$role);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

def MPT_FusedMatmulOp : MPT_Op<"fused_matmul",
    [AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<MPT_ProductOpInterface>,
     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "product whose result a kernel takes while it is in registers";
  let description = [{
    As `mpt.scaled_matmul`, followed by a call of the kernel function `epilogue`:
    its argument number `position` is the product's result, `others` are the
    other arguments in their order. Results are the kernel's; with `keep`, the
    product's own comes first. `--mpt-fuse-epilogues` makes it.

        %r:2 = mpt.fused_matmul %x, %w, %sx, %sw, %bias
            {epilogue = @kernel_4, position = 0 : i64, ...}
  }];
  let arguments = (ins MPT_StorageTensor:$lhs, MPT_StorageTensor:$rhs,
                       Optional<MPT_F32Tensor>:$lhs_inverse_scale,
                       Optional<MPT_F32Tensor>:$rhs_inverse_scale,
                       Variadic<MPT_AnyTensor>:$others,
                       UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs,
                       UnitAttr:$fold_batch, OptionalAttr<MPT_RoleAttr>:$role,
                       FlatSymbolRefAttr:$epilogue, I64Attr:$position,
                       UnitAttr:$keep);
  let results = (outs Variadic<MPT_AnyTensor>:$results);
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The type of the product's own result.
    ::mlir::RankedTensorType getProductType();
  }];
}

#endif // MPT_DIALECT_MPT_IR_PRODUCTOPS
