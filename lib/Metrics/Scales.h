//===- Scales.h - which scale an operand's elements take --------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// From the amax of a group of elements to their scale, by recipe and
// granularity, and the amax of all groups of an operand.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_SCALES_H
#define MPT_LIB_METRICS_SCALES_H

#include "OperandView.h"

namespace mpt::metrics {

/// Elements of a block along each side, and along the contraction of an Mx
/// group (OCP Microscaling Formats 1.0, section 5.2: k = 32).
constexpr int64_t kBlock128 = 128, kMxGroup = 32;

/// Throws rt::Failure where the members do not go together.
void checkFormat(const OperandFormat &format);

/// The scale of a group of elements with this amax (infinite or NaN if one is
/// not finite), as recipe Current takes it: scaleOr and, of Mx, mxScale of
/// mpt/Numerics/Scales.h. 1 where amax is 0 or not finite; NaN of Mx where it
/// is not finite.
float scaleOf(const OperandFormat &format, float amax);

/// The scale of a whole operand by its recipe, of granularity None or
/// PerTensor. Delayed takes the last finite entries of the history; without one
/// above 0 the operand's own amax is taken.
float tensorScale(const OperandFormat &format, float amax,
                  const std::vector<float> &history);

/// amax of the groups of one operand: of each batch element ceil(count / rows)
/// x ceil(k / along), row-major; infinity or NaN if an element is not finite.
struct GroupAmax {
  int64_t rows = 1, along = 1; // elements in a group
  int64_t rowGroups = 1, alongGroups = 1;
  std::vector<float> values;

  float at(int64_t element, int64_t row, int64_t p) const {
    return values[size_t((element * rowGroups + row / rows) * alongGroups +
                         p / along)];
  }
};
GroupAmax groupAmax(const OperandView &view, int64_t rows, int64_t along,
                    rt::ThreadPool &pool);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_SCALES_H
