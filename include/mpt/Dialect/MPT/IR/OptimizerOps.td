//===- OptimizerOps.td - optimizer updates -----------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Updates of parameters and optimizer state.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_OPTIMIZEROPS
#define MPT_DIALECT_MPT_IR_OPTIMIZEROPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_AdamWOp : MPT_Op<"adamw",
    [DeclareOpInterfaceMethods<MPT_ScalarBodyOpInterface>]> {
  let summary = "AdamW update of one parameter (decoupled weight decay)";
  let description = [{
    g = clip * grad; m' = m + (g - m)(1 - beta1); v' = beta2 v + (1 - beta2) g^2;
    p' = p (1 - lr weight_decay) - lr / c1 * m' / (sqrt(v') / sqrt(c2) + epsilon)
    with c_i = 1 - beta_i^t, as torch.optim.AdamW (Loshchilov and Hutter, 2019).
    Where `skip` is true nothing changes: one non-finite gradient norm masks the
    whole update.
  }];
  let arguments = (ins MPT_F32Tensor:$param, MPT_F32Tensor:$grad,
      MPT_F32Tensor:$m, MPT_F32Tensor:$v, MPT_F32Scalar:$lr,
      MPT_F32Scalar:$clip, MPT_F32Scalar:$c1, MPT_F32Scalar:$c2,
      0DTensorOf<[I1]>:$skip, F64Attr:$beta1, F64Attr:$beta2, F64Attr:$epsilon,
      F64Attr:$weight_decay);
  let results = (outs MPT_F32Tensor:$new_param, MPT_F32Tensor:$new_m,
                      MPT_F32Tensor:$new_v);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_OPTIMIZEROPS
