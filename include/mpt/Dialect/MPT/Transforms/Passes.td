//===- Passes.td - passes on the mpt dialect -*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Every pass on the dialect: why it exists, what it expects, what holds after.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_TRANSFORMS_PASSES
#define MPT_DIALECT_MPT_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

def Differentiate : Pass<"mpt-differentiate", "::mlir::ModuleOp"> {
  let summary = "append the gradient of the loss to the forward graph";
  let description = [{
    Expects one function `@forward` that returns a scalar f32 loss, without
    casts. Afterwards the function is `@gradient`: it returns the loss and, for
    each parameter in order, its gradient (`mpt.name` = the parameter's name).
    Work that no parameter depends on is never built. Products carry their role
    and the names `<forward name>/dgrad` and `/wgrad`.
  }];
}

def AddOptimizer : Pass<"mpt-add-optimizer", "::mlir::ModuleOp"> {
  let summary = "turn gradients into a training step with AdamW";
  let description = [{
    Expects `@gradient` as `--mpt-differentiate` leaves it. Afterwards the
    function is `@step`: it takes the moments (`optimizer_state`) and `lr`
    (`hyper`) besides, clips the gradients by their global norm, and returns
    loss, gradient norm and the updated state, each result aliased to its
    argument. Parameters of rank 1 or less take no weight decay. A non-finite
    gradient norm leaves all state as it was.
  }];
  let options = [
    Option<"beta1", "beta1", "double", "0.9", "decay of the first moment">,
    Option<"beta2", "beta2", "double", "0.999", "decay of the second moment">,
    Option<"epsilon", "epsilon", "double", "1e-8", "added to the denominator">,
    Option<"weightDecay", "weight-decay", "double", "0.01",
           "decoupled decay of parameters of rank 2 or more">,
    Option<"maxGradNorm", "max-grad-norm", "double", "1.0",
           "global norm that gradients are clipped to; 0 leaves them">
  ];
}

def Decompose : Pass<"mpt-decompose", "::mlir::ModuleOp"> {
  let summary = "composite ops and general reductions become primitives";
  let description = [{
    Afterwards the module holds no composite op (softmax, layer_norm,
    cross_entropy), and every `mpt.reduce` is one of the two that kernels run:
    along the last axis, or over axis 0 of the chunk sums that
    `mpt.reduce_chunks` leaves. The order of summation is fixed here, for every
    target.
  }];
}

def Fuse : Pass<"mpt-fuse", "::mlir::ModuleOp"> {
  let summary = "group elementwise and row-wise ops into kernels, shared by layers";
  let description = [{
    Expects `@step` without composite ops. Ops over the same rows and columns
    that feed each other become one private function with the unit attribute
    `mpt.kernel`; equal kernels are shared. Afterwards `@step` holds kernel
    calls, products, scatters and views only.
  }];
  let statistics = [
    Statistic<"numCalls", "kernel-calls", "kernel launches in the step">,
    Statistic<"numKernels", "kernels", "distinct kernels">
  ];
}

#endif // MPT_DIALECT_MPT_TRANSFORMS_PASSES
