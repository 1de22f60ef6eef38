//===- Hopper.h - sm_90a's instructions -------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One function for each instruction of sm_90a that our kernels use beyond plain
// CUDA C++: mbarriers, named barriers, fences, setmaxnreg, tensor copies (TMA)
// and, in HopperMma.h, wgmma. Inline PTX under nvcc
// (-gencode=arch=compute_90a,code=sm_90a); calls into the simulator elsewhere.
// Names and semantics: PTX ISA 8.x, "Parallel Synchronization and Communication
// Instructions" and "Asynchronous Data Movement".
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_HOPPER_H
#define MPT_CUDA_HOPPER_H

#include "mpt/CUDA/TensorMap.h"

#if defined(__CUDACC__)
#define MPT_HOPPER __device__ __forceinline__
/// In front of a loop whose counter indexes registers.
#define MPT_UNROLL _Pragma("unroll")
#else
#define MPT_HOPPER MPT_SIM_INTERNAL inline
#define MPT_UNROLL
#endif

namespace mpt {

/// Address in shared memory, as instructions take it.
MPT_HOPPER uint32_t sharedAddress(const void *pointer) {
#if defined(__CUDACC__)
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#else
  return sim::sharedAddress(pointer);
#endif
}

/// Offset in a tile of which `offset` is the place without a swizzle. The tile
/// begins at a multiple of 8 spans.
template <Swizzle S> MPT_HOPPER constexpr int swizzled(int offset) {
  constexpr int span = static_cast<int>(S);
  return span ? offset ^ ((offset >> 3) & (span / 16 - 1) << 4) : offset;
}

//===----------------------------------------------------------------------===//
// mbarriers: 8 aligned bytes of shared memory
//===----------------------------------------------------------------------===//

/// Prepares `barrier` for phases of `arrivals` arrivals. One thread does this,
/// then fenceBarrierInit() and a barrier for all who use it.
MPT_HOPPER void initBarrier(uint64_t *barrier,
                            unsigned arrivals MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
               :
               : "r"(sharedAddress(barrier)), "r"(arrivals)
               : "memory");
#else
  sim::barrierInit(barrier, arrivals MPT_SITE_ARG);
#endif
}

/// Makes initBarrier() of this thread visible to the copy engine.
MPT_HOPPER void fenceBarrierInit() {
#if defined(__CUDACC__)
  asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
#else
  sim::barrierInitFence();
#endif
}

MPT_HOPPER void arrive(uint64_t *barrier MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];"
               :
               : "r"(sharedAddress(barrier))
               : "memory");
#else
  sim::barrierArrive(barrier, true, 0 MPT_SITE_ARG);
#endif
}

/// Makes the running phase wait for `bytes` of copies. Comes before the copies
/// are issued, and before the phase's last arrival.
MPT_HOPPER void expectBytes(uint64_t *barrier, unsigned bytes MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
               :
               : "r"(sharedAddress(barrier)), "r"(bytes)
               : "memory");
#else
  sim::barrierArrive(barrier, false, bytes MPT_SITE_ARG);
#endif
}

/// Arrives, and makes the phase wait for `bytes` of copies. Comes before the
/// copies are issued.
MPT_HOPPER void arriveExpecting(uint64_t *barrier,
                                unsigned bytes MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :
               : "r"(sharedAddress(barrier)), "r"(bytes)
               : "memory");
#else
  sim::barrierArrive(barrier, true, bytes MPT_SITE_ARG);
#endif
}

/// Waits for a while; returns whether the latest phase of `parity` is over. A
/// fresh barrier runs phase 0, and the phase before it, of parity 1, is over.
MPT_HOPPER bool tryWait(uint64_t *barrier, unsigned parity MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  uint32_t over;
  asm volatile("{\n"
               ".reg .pred p;\n"
               "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
               "selp.u32 %0, 1, 0, p;\n"
               "}"
               : "=r"(over)
               : "r"(sharedAddress(barrier)), "r"(parity)
               : "memory");
  return over != 0;
#else
  return sim::barrierTryWait(barrier, parity MPT_SITE_ARG);
#endif
}

/// Waits until the phase of `parity` is over.
MPT_HOPPER void wait(uint64_t *barrier, unsigned parity MPT_SITE_PARAM) {
  while (!tryWait(barrier, parity MPT_SITE_ARG)) {
  }
}

//===----------------------------------------------------------------------===//
// Named barriers, fences, registers
//===----------------------------------------------------------------------===//

/// Waits until `threads` threads (whole warps) have come to barrier `id`, 1 to
/// 15, here or by arriveNamed().
MPT_HOPPER void syncNamed(unsigned id, unsigned threads MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("bar.sync %0, %1;" : : "r"(id), "r"(threads) : "memory");
#else
  sim::namedBarrier(id, threads, true MPT_SITE_ARG);
#endif
}

MPT_HOPPER void arriveNamed(unsigned id, unsigned threads MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("bar.arrive %0, %1;" : : "r"(id), "r"(threads) : "memory");
#else
  sim::namedBarrier(id, threads, false MPT_SITE_ARG);
#endif
}

/// Makes this thread's ordinary stores to shared memory visible to copies and
/// wgmma, which are issued behind a barrier.
MPT_HOPPER void fenceAsyncProxy() {
#if defined(__CUDACC__)
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
#else
  sim::proxyFence();
#endif
}

/// Gives registers of a warpgroup back to the block, or takes some. `Count` is
/// a multiple of 8 from 24 to 256; kernels need __launch_bounds__.
template <int Count>
MPT_HOPPER void lowerRegisters(int unused = 0 MPT_SITE_PARAM) {
  (void)unused; // MPT_SITE_PARAM begins with a comma
#if defined(__CUDACC__)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(Count));
#else
  sim::setRegisters(Count, false MPT_SITE_ARG);
#endif
}
template <int Count>
MPT_HOPPER void raiseRegisters(int unused = 0 MPT_SITE_PARAM) {
  (void)unused;
#if defined(__CUDACC__)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(Count));
#else
  sim::setRegisters(Count, true MPT_SITE_ARG);
#endif
}

//===----------------------------------------------------------------------===//
// Tensor copies. Tiles in shared memory begin at a multiple of 128 bytes, or of
// 8 spans of their swizzle; coordinates are elements, the contiguous one first.
//===----------------------------------------------------------------------===//

/// Starts to copy the box at (x, y) to shared memory; its bytes count for the
/// running phase of `barrier`. Outside of the tensor there are zeros.
MPT_HOPPER void copyTile(void *to, const TensorMap *map, int x, int y,
                         uint64_t *barrier MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global"
               ".mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
               :
               : "r"(sharedAddress(to)), "l"(map), "r"(sharedAddress(barrier)),
                 "r"(x), "r"(y)
               : "memory");
#else
  int at[] = {x, y};
  sim::copyTile(to, map, at, 2, barrier MPT_SITE_ARG);
#endif
}

MPT_HOPPER void copyTile(void *to, const TensorMap *map, int x, int y, int z,
                         uint64_t *barrier MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global"
               ".mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
               :
               : "r"(sharedAddress(to)), "l"(map), "r"(sharedAddress(barrier)),
                 "r"(x), "r"(y), "r"(z)
               : "memory");
#else
  int at[] = {x, y, z};
  sim::copyTile(to, map, at, 3, barrier MPT_SITE_ARG);
#endif
}

/// Starts to copy a tile to the box at (x, y); what is outside of the tensor is
/// dropped. Belongs to the thread's next commitStores().
MPT_HOPPER void storeTile(const TensorMap *map, int x, int y,
                          const void *from MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group "
               "[%0, {%2, %3}], [%1];"
               :
               : "l"(map), "r"(sharedAddress(from)), "r"(x), "r"(y)
               : "memory");
#else
  int at[] = {x, y};
  sim::storeTile(map, at, 2, from MPT_SITE_ARG);
#endif
}

MPT_HOPPER void storeTile(const TensorMap *map, int x, int y, int z,
                          const void *from MPT_SITE_PARAM) {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group "
               "[%0, {%2, %3, %4}], [%1];"
               :
               : "l"(map), "r"(sharedAddress(from)), "r"(x), "r"(y), "r"(z)
               : "memory");
#else
  int at[] = {x, y, z};
  sim::storeTile(map, at, 3, from MPT_SITE_ARG);
#endif
}

MPT_HOPPER void commitStores() {
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.commit_group;" : : : "memory");
#else
  sim::commitStores();
#endif
}

/// Waits until at most `Pending` of this thread's groups of stores have yet to
/// read shared memory.
template <int Pending>
MPT_HOPPER void waitStoresRead(int unused = 0 MPT_SITE_PARAM) {
  (void)unused;
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.wait_group.read %0;" : : "n"(Pending) : "memory");
#else
  sim::waitStores(Pending, true MPT_SITE_ARG);
#endif
}

/// Waits until at most `Pending` groups have yet to be finished.
template <int Pending>
MPT_HOPPER void waitStores(int unused = 0 MPT_SITE_PARAM) {
  (void)unused;
#if defined(__CUDACC__)
  asm volatile("cp.async.bulk.wait_group %0;" : : "n"(Pending) : "memory");
#else
  sim::waitStores(Pending, false MPT_SITE_ARG);
#endif
}

} // namespace mpt

#include "mpt/CUDA/HopperMma.h"

#endif // MPT_CUDA_HOPPER_H
