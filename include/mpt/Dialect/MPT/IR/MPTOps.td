//===- MPTOps.td - all op families of the mpt dialect ------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One file to include: every op family.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_MPTOPS
#define MPT_DIALECT_MPT_IR_MPTOPS

include "mpt/Dialect/MPT/IR/AttentionOps.td"
include "mpt/Dialect/MPT/IR/ElementwiseOps.td"
include "mpt/Dialect/MPT/IR/FormatOps.td"
include "mpt/Dialect/MPT/IR/IndexOps.td"
include "mpt/Dialect/MPT/IR/OptimizerOps.td"
include "mpt/Dialect/MPT/IR/ProductOps.td"
include "mpt/Dialect/MPT/IR/ReductionOps.td"
include "mpt/Dialect/MPT/IR/ShapeOps.td"

#endif // MPT_DIALECT_MPT_IR_MPTOPS
