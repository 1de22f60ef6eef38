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

#endif // MPT_DIALECT_MPT_TRANSFORMS_PASSES
