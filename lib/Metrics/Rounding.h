//===- Rounding.h - arrays through a format and back ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// value = decode(encode(x * scale)) * (1 / scale), to nearest or
// stochastically, over panels whose vectors lie side by side and over single
// vectors; and the random words of both.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_ROUNDING_H
#define MPT_LIB_METRICS_ROUNDING_H

#include "mpt/Metrics/Metrics.h"
#include "mpt/Numerics/Philox.h"

#include <cstddef>

namespace mpt::metrics {

/// Vectors side by side that a panel may have: 8 (a tile's rows) or 16 (its
/// columns).
constexpr int kMostWidth = 16;

/// Which random words an operand takes under a format: those of
///   id   = nameId(formatText(format), nameId("lhs" or "rhs", draw.product))
///   step = draw.step
///   seed = sampling seed xor draw.round * 2^32
///   element = (b * count + i) * k + p
/// for element p along the contraction of vector i of batch element b, b being
/// b0 * batch[1] + b1.
num::Stream<uint32_t> roundingStream(const OperandFormat &format, bool isLhs,
                                     const Draw &draw, uint64_t seed);

/// out[p*outStride + i] = round trip of in[p*inStride + i], p < lines, i <
/// width, with scales[i]. `words` [lines][width], or null for nearest. Width is
/// 8 or 16.
void roundPanel(num::Format format, const float *in, int64_t inStride,
                int64_t lines, int width, const float *scales,
                const uint32_t *words, float *out, int64_t outStride);

/// out[p] = round trip of in[p], p < n, with one scale.
void roundVector(num::Format format, const float *in, size_t n, float scale,
                 const uint32_t *words, float *out);

/// words[p*width + i] = word of element bases[i] + p.
void drawPanel(num::Stream<uint32_t> stream, const uint64_t *bases,
               int64_t lines, int width, uint32_t *words);

/// words[p] = word of element base + p.
void drawVector(num::Stream<uint32_t> stream, uint64_t base, size_t n,
                uint32_t *words);

/// Adds to counts[0] the finite nonzero elements of `in` that are zero in
/// `out`, and to counts[1] those whose scaled magnitude is beyond `last`
/// (lastUnsaturated), over a panel of in's layout.
void countPanelLosses(const float *in, const float *out, int64_t lines,
                      int width, const float *scales, uint32_t last,
                      uint64_t counts[2]);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_ROUNDING_H
