//===- IndexOps.td - gather and scatter --------------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Embedding lookup and its gradient. Indices are range-checked where they enter
// the step, before any gather.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_INDEXOPS
#define MPT_DIALECT_MPT_IR_INDEXOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_GatherOp : MPT_InferredOp<"gather",
    [DeclareOpInterfaceMethods<MPT_DifferentiableOpInterface>]> {
  let summary = "rows of a table: [V, H] by ids [...] gives [..., H]";
  let arguments = (ins MPT_F32Tensor:$table, MPT_IntTensor:$ids);
  let results = (outs MPT_F32Result:$y);
}

def MPT_ScatterAddOp : MPT_Op<"scatter_add",
    [AllTypesMatch<["init", "y"]>]> {
  let summary = "init with updates [..., H] added to rows ids [...]";
  let description = [{
    Updates of one row are added in ascending order of their position, so the
    result does not depend on the number of threads.
  }];
  let arguments = (ins MPT_F32Tensor:$init, MPT_IntTensor:$ids,
                       MPT_F32Tensor:$updates);
  let results = (outs MPT_F32Result:$y);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_INDEXOPS
