//===- ReductionOps.td - reductions, normalisation, losses -*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reductions with a defined order, and the composite ops that are defined by
// primitives.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_REDUCTIONOPS
#define MPT_DIALECT_MPT_IR_REDUCTIONOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_ReduceOp : MPT_InferredOp<"reduce",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>]> {
  let summary = "reduction over axes, which stay as dims of size 1";
  let description = [{
    `axes` is either the last axis (row reduction), all leading axes (column
    reduction), all axes, or a broadcast pattern that decomposition splits into
    those. The order of summation is part of the definition (docs/numerics.md):
    32 lanes and a tree along a row, chunks of 64 rows down a column.
  }];
  let arguments = (ins MPT_ReductionAttr:$kind, MPT_F32Tensor:$x,
                       DenseI64ArrayAttr:$axes);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MPT_ReduceChunksOp : MPT_InferredOp<"reduce_chunks"> {
  let summary = "sums of chunks of 64 rows: [R, C] to [ceil(R / 64), C]";
  let description = [{
    The first half of a column reduction, whose order is part of its
    definition: rows of a chunk in ascending order here, then the chunks in
    ascending order by a `mpt.reduce` over axis 0.
  }];
  let arguments = (ins MPT_F32Tensor:$x);
  let results = (outs MPT_F32Result:$y);
  let extraClassDeclaration = "static constexpr int64_t chunk = 64;";
}

def MPT_SoftmaxOp : MPT_InferredOp<"softmax",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>,
     DeclareOpInterfaceMethods<MPT_DecomposableOpInterface>]> {
  let summary = "softmax along the last axis";
  let hasVerifier = 1;
  let arguments = (ins MPT_F32Tensor:$x);
  let results = (outs MPT_F32Result:$y);
  let extraClassDefinition = compatibleDefinition # [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *context, ::std::optional<::mlir::Location> location,
        Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      return ::mpt::inferBroadcastType(location, getOperationName(),
                                       adaptor.getOperands(), 'f', types);
    }
  }];
}

def MPT_LayerNormOp : MPT_Op<"layer_norm",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>,
     DeclareOpInterfaceMethods<MPT_DecomposableOpInterface>]> {
  let summary = "normalisation along the last axis, with gain and bias";
  let description = [{
    y = (x - mean) * rstd * gamma + beta, rstd = 1 / sqrt(variance + epsilon),
    biased variance. mean and rstd have the last dim 1 and are what the
    backward pass keeps.
  }];
  let arguments = (ins MPT_F32Tensor:$x, MPT_F32Tensor:$gamma,
                       MPT_F32Tensor:$beta, F32Attr:$epsilon);
  let results = (outs MPT_F32Result:$y, MPT_F32Result:$mean, MPT_F32Result:$rstd);
  let hasVerifier = 1;
}

def MPT_CrossEntropyOp : MPT_Op<"cross_entropy",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>,
     DeclareOpInterfaceMethods<MPT_DecomposableOpInterface>]> {
  let summary = "mean cross entropy of softmax(logits) against labels";
  let description = [{
    logits [R, C], labels [R] in [0, C) or `ignore_index`. loss is the mean of
    logsumexp(logits) - logits[label] over the rows that are not ignored (NaN if
    there are none, as in PyTorch); log_sum_exp [R, 1] and count (number of
    rows not ignored) are what the backward pass keeps.
  }];
  let arguments = (ins MPT_F32Tensor:$logits, MPT_IntTensor:$labels,
                       I64Attr:$ignore_index);
  let results = (outs MPT_F32Scalar:$loss, MPT_F32Result:$log_sum_exp,
                      MPT_F32Scalar:$count);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_REDUCTIONOPS
