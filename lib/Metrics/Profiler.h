//===- Profiler.h - metrics of a whole step, over batches -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Runs forward and backward passes of an open package without updating it, and
// measures what they compute: every product where its operands are alive, every
// parameter's gradient by a sketch, and with probes once more the gradient when
// some products are rounded.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_PROFILER_H
#define MPT_LIB_METRICS_PROFILER_H

#include "Package.h"
#include "ProfileData.h"
#include "mpt/Metrics/RoundedProduct.h"

#include <exception>
#include <map>

namespace mpt::metrics {

struct ProfilerOptions {
  Sampling sampling;
  int threads = 1;
  bool stopOnNonfinite = false;
  std::string candidates; // for every product; empty: by its gradient side
  std::string probes;     // as parseProbes takes them; empty: none
  size_t batches = 1;     // most at a point
  /// Coordinates of every sketch; 0: as many as memory allows
  /// (docs/metrics.md).
  size_t sketch = 0;
};

/// Probes from text such as "dgrad i8*i8;wgrad@3 i8*i8[stochastic];whole
/// bf16*bf16": a role or `whole`, a layer where one is meant, a candidate whose
/// second format is the gradient's. A product without a gradient operand takes
/// the first format for both. A probe that changes nothing that one before it
/// does not change in the same way is left out. Throws rt::Failure.
std::vector<ProbeModel> parseProbes(std::string_view text,
                                    const StepModel &model);

/// Sketches of one point, by batch.
struct PointSketches {
  using Batches = std::vector<std::vector<float>>;
  std::vector<Batches> gradients; // by gradient of the package
  struct Product {
    Batches result;
    std::vector<Batches> errors; // by candidate
  };
  std::map<size_t, Product> products; // wgrad ones
  struct Probe {
    Batches errors; // of all gradients together
    std::vector<double> relVar, lossChange;
  };
  std::vector<Probe> probes;
};

class Profiler {
public:
  /// Throws rt::Failure on a package without gradients or products. The package
  /// must outlive the profiler, whose observer replaces its own while it runs.
  Profiler(rt::Package &package, ProfilerOptions options);

  /// `step`: steps taken before; points come in ascending order.
  void beginPoint(int64_t step);
  /// Measures the batch that is set as inputs.
  void measure(int64_t rngStep);
  size_t probeCount() const { return data.probes.size(); }
  /// Runs the batch that has just been measured again, rounded.
  void probe(size_t index, int64_t rngStep);
  void endBatch();
  void discardBatch();
  /// Makes what takes all batches of the point.
  void endPoint();

  /// Whether there is something to write, and no point is open.
  bool isReady() const { return !isOpen && !data.points.empty(); }
  std::string text(bool complete) const {
    return metricsText(model, data, complete);
  }

private:
  /// What the batch that is running has given.
  struct Pending {
    bool isMeasured = false;
    double loss = 0;
    std::vector<std::optional<OperandStatistics>> tensors;
    std::map<size_t, ProductMetrics> products;
    std::vector<std::vector<float>> gradients;
    struct Probe {
      std::vector<float> errors;
      double relVar = kNoValue, lossChange = kNoValue;
    };
    std::map<size_t, Probe> probes;
  };

  void chooseSketches();
  void summarizeGradients();
  void summarizeProbes();
  void observe(const mpt_product_view &seen);
  void measureProduct(size_t index);
  const OperandStatistics &scan(size_t tensor);
  mpt_product_view viewOf(const ProductModel &product) const;
  Draw drawOf(const ProductModel &product) const;
  const std::vector<float> &amaxHistory(size_t tensor) const;
  void refuse(const TensorModel &tensor, const OperandStatistics &s) const;
  double loss() const;
  std::vector<std::vector<float>> sketchGradients() const;
  PointData &point() { return data.points.back(); }

  rt::Package &package;
  ProfilerOptions options;
  StepModel model;
  Measurer measurer;
  RoundedProduct rounder;
  std::vector<std::vector<size_t>> reached; // gradients, by product; of dgrad
  size_t gradientSketch = 0, errorSketch = 0;
  ProfileData data;
  Pending pending;
  std::vector<std::optional<OperandStatistics>> parameters; // by tensor
  PointSketches sketches;
  bool isOpen = false;        // a point
  std::exception_ptr failure; // inside the observer
};

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_PROFILER_H
