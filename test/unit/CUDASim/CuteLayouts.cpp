//===- CuteLayouts.cpp - Layouts as CUTLASS has them ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See CuteLayouts.h. Compiled only where CUTLASS's headers are.
//
//===----------------------------------------------------------------------===//

#include "CuteLayouts.h"

#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

using namespace cute;

namespace {

template <typename Layout> std::vector<int> table(Layout layout) {
  std::vector<int> result;
  for (int thread = 0; thread < int(size<0>(layout)); ++thread)
    for (int i = 0; i < int(size<1>(layout)); ++i)
      result.push_back(int(layout(thread, i)));
  return result;
}

/// A tile of `Rows` x `Columns` elements of T (which stands for their size).
/// Atoms follow each other along k first unless `Order` says otherwise.
template <typename T, template <class> class Atom, int Rows, int Columns,
          typename Order = Step<_2, _1>>
struct Tile {
  static auto layout() {
    return tile_to_shape(Atom<T>{}, Shape<Int<Rows>, Int<Columns>>{}, Order{});
  }
  static T *memory() {
    alignas(1024) static T values[Rows * Columns];
    return values;
  }
  static auto tensor() {
    return make_tensor(make_smem_ptr(memory()), layout());
  }
  static std::vector<int> offsets() {
    std::vector<int> result;
    // Swizzles are applied to addresses.
    for (int mn = 0; mn < Rows; ++mn)
      for (int k = 0; k < Columns; ++k)
        result.push_back(int(&tensor()(mn, k) - memory()) * int(sizeof(T)));
    return result;
  }
  /// The descriptor of the first instruction's part of the tile.
  template <GMMA::Major Major> static uint64_t descriptor() {
    auto part = local_tile(tensor(), Shape<Int<Rows>, Int<32 / sizeof(T)>>{},
                           make_coord(0, 0));
    return GMMA::make_gmma_desc<Major>(part).desc_;
  }
};

using FP8 = Tile<uint8_t, GMMA::Layout_K_SW128_Atom, 64, 128>;
using BF16 = Tile<uint16_t, GMMA::Layout_K_SW128_Atom, 64, 64>;
using Transposed = Tile<uint16_t, GMMA::Layout_MN_SW128_Atom, 128, 64>;

/// Boxes of the copy engine have all rows of a panel.
template <template <class> class Atom>
using Rows = Tile<uint16_t, Atom, 64, 64, Step<_1, _2>>;
template <template <class> class Atom>
using Columns = Tile<uint16_t, Atom, 64, 64>;

template <typename T, GMMA::Major Major> mpt::test::CuteOperand operand() {
  return {T::offsets(), T::template descriptor<Major>()};
}

} // namespace

namespace mpt::test {

std::vector<int> cuteAccumulators128() { return table(GMMA::CLayout_64x128{}); }
std::vector<int> cuteAccumulators256() { return table(GMMA::CLayout_64x256{}); }
std::vector<int> cuteFragmentA() { return table(GMMA::ALayout_64x16{}); }
std::vector<int> cuteTileFP8() { return FP8::offsets(); }
std::vector<int> cuteTileBF16() { return BF16::offsets(); }
std::vector<int> cuteTileBF16Transposed() { return Transposed::offsets(); }
CuteOperand cuteRows(int span) {
  if (span == 32)
    return operand<Rows<GMMA::Layout_K_SW32_Atom>, GMMA::Major::K>();
  if (span == 64)
    return operand<Rows<GMMA::Layout_K_SW64_Atom>, GMMA::Major::K>();
  return operand<Rows<GMMA::Layout_K_SW128_Atom>, GMMA::Major::K>();
}
CuteOperand cuteColumns(int span) {
  if (span == 32)
    return operand<Columns<GMMA::Layout_MN_SW32_Atom>, GMMA::Major::MN>();
  if (span == 64)
    return operand<Columns<GMMA::Layout_MN_SW64_Atom>, GMMA::Major::MN>();
  return operand<Columns<GMMA::Layout_MN_SW128_Atom>, GMMA::Major::MN>();
}
uint64_t cuteDescriptorFP8() { return FP8::descriptor<GMMA::Major::K>(); }
uint64_t cuteDescriptorBF16Transposed() {
  return Transposed::descriptor<GMMA::Major::MN>();
}

} // namespace mpt::test
