//===- Passes.h - passes on the mpt dialect -------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Declarations and registration of the passes, from tablegen.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_TRANSFORMS_PASSES_H
#define MPT_DIALECT_MPT_TRANSFORMS_PASSES_H

#include "mlir/Pass/Pass.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "mpt/Precision/PolicyKind.h"

namespace mpt {
#define GEN_PASS_DECL
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

#endif // MPT_DIALECT_MPT_TRANSFORMS_PASSES_H
