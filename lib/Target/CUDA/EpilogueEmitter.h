//===- EpilogueEmitter.h - a kernel as a product's epilogue ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The model of a kernel that a product takes in, written as one op of
// include/mpt/CUDA/GemmEpilogue.h. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_EPILOGUEEMITTER_H
#define MPT_LIB_TARGET_CUDA_EPILOGUEEMITTER_H

#include "SourceWriter.h"
#include "mpt/Dialect/MPT/Analysis/Epilogue.h"

namespace mpt {
namespace cuda {

/// What the epilogue struct is called: of a fused product's kernel, with or
/// without the product's own result.
std::string getEpilogueName(FusedMatmulOp op);

/// Writes the struct.
void emitEpilogue(FusedMatmulOp op, const KernelModel &model, SourceWriter &w);

/// The struct's pointers as an initializer, in the order of its members:
/// `arguments` are the kernel's without the product, `results` its results,
/// with the product's own in front where it is kept.
std::string getEpilogueValue(FusedMatmulOp op, const KernelModel &model,
                             llvm::ArrayRef<std::string> arguments,
                             llvm::ArrayRef<std::string> results);

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_EPILOGUEEMITTER_H
