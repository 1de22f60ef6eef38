//===- CuteLayouts.h - Layouts as CUTLASS has them --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// CuTe's layouts of wgmma's fragments and operands, evaluated on the host and
// handed over as tables: CUTLASS's headers and the simulator's cannot be in one
// file.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TEST_UNIT_CUDASIM_CUTELAYOUTS_H
#define MPT_TEST_UNIT_CUDASIM_CUTELAYOUTS_H

#include <cstdint>
#include <vector>

namespace mpt::test {

/// Row + 64 * column of each element: [thread][i], 128 threads.
std::vector<int> cuteAccumulators128();
std::vector<int> cuteAccumulators256();
std::vector<int> cuteFragmentA();

/// Byte offset of each element in a tile with the 128-byte swizzle: [mn][k],
/// FP8 of 64 x 128, BF16 of 64 x 64, and BF16 along mn of 128 x 64.
std::vector<int> cuteTileFP8();
std::vector<int> cuteTileBF16();
std::vector<int> cuteTileBF16Transposed();

/// A BF16 tile of 64 x 64 in panels with a swizzle of 32, 64 or 128 bytes: as
/// [mn][k], with rows along k (`cuteRows`) or along mn (`cuteColumns`), and the
/// descriptor of the 16 k at its beginning, without the address.
struct CuteOperand {
  std::vector<int> offsets;
  uint64_t descriptor;
};
CuteOperand cuteRows(int span);
CuteOperand cuteColumns(int span);

/// Descriptors of the tiles with the 128-byte swizzle, without their address.
uint64_t cuteDescriptorFP8();
uint64_t cuteDescriptorBF16Transposed();

} // namespace mpt::test

#endif // MPT_TEST_UNIT_CUDASIM_CUTELAYOUTS_H
