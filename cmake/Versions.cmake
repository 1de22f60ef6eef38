# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
#
# The one place where versions are pinned.
set(MPT_VERSION 0.1.0)
set(MPT_MLIR_VERSION 22.1)
set(MPT_LLVM_DIR /usr/lib/llvm-22 CACHE PATH "Prefix of the LLVM and MLIR 22 installation")
