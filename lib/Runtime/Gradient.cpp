//===- Gradient.cpp - forward and backward without an update --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Runs what planGradient keeps of the launch list: all that reaches the loss
// and the gradients, nothing that writes an argument. No state is touched, so
// that a failure halfway costs the gradients only.
//
//===----------------------------------------------------------------------===//

#include "Package.h"

namespace mpt::rt {

const GradientPlan &Package::gradientPlan() {
  if (!plannedGradient)
    plannedGradient = planGradient(description);
  return *plannedGradient;
}

void Package::runGradient(int64_t rngStep) {
  if (rngStep < 0)
    fail(MPT_ERROR_ARGUMENT, "rng_step is ", rngStep, ", expected at least 0");
  refuseDuringStep("compute a gradient");
  const GradientPlan &plan = gradientPlan();
  checkReady(&plan);
  struct Guard {
    Package &package;
    std::optional<int64_t> rngStep;
    bool finished = false;
    explicit Guard(Package &p) : package(p), rngStep(p.rngStep()) {
      p.stepping = true;
      p.hasGradients = false;
    }
    ~Guard() {
      package.stepping = false;
      package.hasGradients = finished;
      if (rngStep)
        package.setRngStep(*rngStep);
    }
  } guard(*this);
  setRngStep(rngStep);
  derive();
  for (size_t i = 0; i != bound.size(); ++i)
    if (plan.runs[i])
      runLaunch(i);
  gatherGradients();
  guard.finished = true;
}

/// Copies what lies with strides (the product wrote it transposed, say).
void Package::gatherGradients() {
  for (size_t i = 0; i != description.gradients.size(); ++i) {
    const Gradient &gradient = description.gradients[i];
    if (gradient.strides.empty())
      continue;
    const Shape &shape = description.arguments[gradient.parameter].shape;
    std::vector<float> &dense = gathered[i];
    dense.resize(
        static_cast<size_t>(description.arguments[gradient.parameter].bytes) /
        sizeof(float));
    const auto *from = reinterpret_cast<const float *>(address(gradient.place));
    for (size_t e = 0; e != dense.size(); ++e) {
      auto rest = static_cast<int64_t>(e);
      int64_t at = 0;
      for (size_t d = shape.size(); d-- != 0; rest /= shape[d])
        at += rest % shape[d] * gradient.strides[d];
      dense[e] = from[at];
    }
  }
}

const float *Package::gradient(size_t index) const {
  const Gradient &gradient = description.gradients.at(index);
  if (!hasGradients)
    fail(MPT_ERROR_STATE, "the gradient of '",
         description.arguments[gradient.parameter].name,
         "' is not there: the last run was no gradient, or it failed");
  if (!gradient.strides.empty())
    return gathered.at(index).data();
  return reinterpret_cast<const float *>(address(gradient.place));
}

void Package::requireComputed(const Tensor &result) const {
  if (!hasGradients)
    return;
  const std::string &launch =
      plannedGradient->missing[&result - description.results.data()];
  if (!launch.empty())
    fail(MPT_ERROR_STATE, "result '", result.name,
         "' was not computed: the last run was a gradient, which leaves out "
         "what depends on launch '",
         launch, "'");
}

void Package::setProductRunner(ProductRunner runner) {
  refuseDuringStep("change the product runner");
  productRunner = std::move(runner);
}

void Package::runProduct(const Product &product) {
  rt::runProduct(product, gemm, pool);
}

} // namespace mpt::rt
