//===- Hopper.h - sm_90a's instructions, for the simulator ------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the wrappers of mpt/CUDA/Hopper.h call when the compiler is not nvcc:
// mbarriers, named barriers, setmaxnreg, tensor copies (TMA) and wgmma, with
// the semantics of the PTX ISA 8.x and none of its speed. Asynchronous work
// completes at a time that the order in force (Sim.h) chooses: at once in
// forward order, as late as possible in reverse order, at drawn times in the
// others. docs/cuda-gemm.md lists what is a fault.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDASIM_HOPPER_H
#define MPT_CUDASIM_HOPPER_H

#include "mpt/CUDASim/CudaSim.h"
#include "mpt/Numerics/Formats.h"

namespace mpt::sim {

//===----------------------------------------------------------------------===//
// Barriers, fences, registers (Barriers.cpp)
//===----------------------------------------------------------------------===//

void barrierInit(void *barrier, unsigned arrivals, const char *file, int line);
/// mbarrier.arrive, .expect_tx, or both in one (.arrive.expect_tx).
void barrierArrive(void *barrier, bool arrive, unsigned expectBytes,
                   const char *file, int line);
/// Waits a while; returns whether the phase of `parity` is over.
bool barrierTryWait(void *barrier, unsigned parity, const char *file, int line);

/// fence.mbarrier_init, and fence.proxy.async.
void barrierInitFence();
void proxyFence();

/// bar.sync (`wait`) and bar.arrive.
void namedBarrier(unsigned id, unsigned threads, bool wait, const char *file,
                  int line);

/// setmaxnreg.inc (`raise`) and .dec.
void setRegisters(unsigned count, bool raise, const char *file, int line);

//===----------------------------------------------------------------------===//
// Tensor copies (TensorCopy.cpp)
//===----------------------------------------------------------------------===//

/// What the driver's CUtensorMap says, in as many bytes.
struct alignas(64) TensorMap {
  static constexpr uint32_t validMagic = 0x7ea5041a;
  uint32_t magic;
  uint32_t rank;
  uint64_t base;
  uint64_t strideBytes[4]; ///< of dimensions 1 and up
  uint32_t size[5];
  uint16_t box[5];
  uint16_t elementBytes;
  uint32_t swizzleSpan; ///< 0, 32, 64 or 128
};
static_assert(sizeof(TensorMap) == 128, "as large as a CUtensorMap");

/// cp.async.bulk.tensor to shared memory, and from there.
void copyTile(void *to, const TensorMap *map, const int *at, unsigned rank,
              void *barrier, const char *file, int line);
void storeTile(const TensorMap *map, const int *at, unsigned rank,
               const void *from, const char *file, int line);
/// cp.async.bulk.commit_group, and .wait_group (`readOnly`: .read).
void commitStores();
void waitStores(unsigned pending, bool readOnly, const char *file, int line);

//===----------------------------------------------------------------------===//
// wgmma (Wgmma.cpp)
//===----------------------------------------------------------------------===//

/// One wgmma.mma_async: D[64, n] (+)= A[64, k] * B[k, n], k being 32 bytes.
struct MmaShape {
  unsigned n;
  num::Format a, b;
  /// A and B are contiguous along m or n, and not along k (BF16 only).
  bool transposeA, transposeB;
};

/// The address of dynamic shared memory in its window of 256 KiB.
uint32_t sharedAddress(const void *pointer);

/// `d` has n / 2 numbers. A comes from shared memory, or from 4 registers if
/// `fragment` is not null.
void wgmmaIssue(const MmaShape &shape, float *d, uint64_t a,
                const uint32_t *fragment, uint64_t b, bool accumulate,
                const char *file, int line);
void wgmmaFence();
void wgmmaCommit();
void wgmmaWait(unsigned pending, const char *file, int line);

} // namespace mpt::sim

#endif // MPT_CUDASIM_HOPPER_H
