//===- TestPasses.h - passes that show analyses ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Registration of the passes that print what an analysis found, for tests.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_TESTPASSES_H
#define MPT_DIALECT_MPT_ANALYSIS_TESTPASSES_H

namespace mpt {

/// `--test-mpt-kernel-model`: one remark per line of each kernel's model, on
/// the kernel.
void registerTestKernelModelPass();

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_TESTPASSES_H
