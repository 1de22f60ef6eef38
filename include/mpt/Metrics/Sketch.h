//===- Sketch.h - few numbers that keep inner products ----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The part of a gradient's error that persists over batches is a mean of inner
// products between the errors of different batches (docs/metrics.md), and so
// are its interval and the gradient's noise. Vectors of a whole layer cannot be
// kept for every batch; a sketch can.
//
// A sketch is the linear map R^n -> R^d that adds every element, with a random
// sign, to one of d coordinates: inner products keep their expectation, with a
// relative error of about sqrt(1/d) of the norms (Charikar, Chen and
// Farach-Colton, "Finding frequent items in data streams", 2002; as a
// dimension reduction: Weinberger et al. 2009). With n <= d it is the identity.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_METRICS_SKETCH_H
#define MPT_METRICS_SKETCH_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mpt::metrics {

/// Coordinates of x[0, n): min(n, d) of them. Element i of block t = i / d goes
/// to coordinate (i + rotation(seed, t)) mod d with sign(seed, i); both come
/// from Philox, and rotation and signs of n <= d are 0 and +.
std::vector<float> sketch(const float *x, size_t n, size_t d, uint64_t seed);

/// Inner products of the sketches of B batches.
class Gram {
public:
  /// All of one length.
  explicit Gram(const std::vector<const std::vector<float> *> &vectors);

  size_t size() const { return batches; }
  double at(size_t a, size_t b) const { return entries[a * batches + b]; }

  /// Mean squared norm.
  double meanSquare() const;
  /// Squared norm of the mean.
  double squaredMean() const;
  /// Unbiased estimate of the squared norm of the expectation,
  /// |mean|^2 - var / B, which is the mean of the inner products of different
  /// batches; NaN for one batch.
  double persistent() const;
  /// Mean squared distance from the mean; 0 where it is within rounding of it,
  /// as for equal batches.
  double variance() const {
    double square = meanSquare(), found = square - squaredMean();
    return found <= 1e-12 * square ? 0 : found;
  }

  /// The same with batches drawn with replacement: `choice` holds their
  /// indices. A pair of a batch with itself is left out of `persistent`.
  Gram resample(const std::vector<size_t> &choice) const;

private:
  Gram() = default;
  size_t batches = 0;
  std::vector<double> entries;
  std::vector<size_t> origin; // batch each row was drawn from
};

} // namespace mpt::metrics

#endif // MPT_METRICS_SKETCH_H
