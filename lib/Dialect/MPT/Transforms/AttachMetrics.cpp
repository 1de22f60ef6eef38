//===- AttachMetrics.cpp - measured errors go onto the products -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Matches a metrics file with the step that it claims to be of, so that the
// graph carries its profile with it.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Precision/Profile.h"

#define DEBUG_TYPE "mpt-attach-metrics"

namespace mpt {
#define GEN_PASS_DEF_ATTACHMETRICS
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;
using precision::ProductProfile;
using precision::Profile;

namespace {

/// How many names an error lists.
constexpr size_t kNamed = 8;

struct Driver {
  func::FuncOp func;
  const Profile &profile;
  StringRef path;
  struct Match {
    MatmulOp product;
    MetricsAttr metrics;
    std::optional<std::array<float, 2>> amax;
  };
  SmallVector<Match> matched;
  int64_t numRescaled = 0;

  LogicalResult checkHash();
  LogicalResult match();
  LogicalResult matchOne(MatmulOp product, const ProductProfile &measured);
  void attach();
};

LogicalResult Driver::checkHash() {
  auto module = func->getParentOfType<ModuleOp>();
  auto hash = module->getAttrOfType<StringAttr>(kGraphHashAttr);
  if (!hash)
    return module.emitError()
           << "mpt-attach-metrics expects a module with '" << kGraphHashAttr
           << "', which --mpt-differentiate sets";
  if (hash.getValue() != profile.graphHash)
    return module.emitError()
           << path << ": metrics of another graph: expected graph_hash '"
           << hash.getValue() << "', found '" << profile.graphHash << "'";
  return success();
}

LogicalResult Driver::match() {
  SmallVector<StringRef> missing;
  for (Operation &op : func.getBody().front()) {
    auto product = dyn_cast<MatmulOp>(op);
    if (!product)
      continue;
    StringRef name = getStableName(product);
    const ProductProfile *measured = profile.find(name);
    if (!measured)
      missing.push_back(name);
    else if (failed(matchOne(product, *measured)))
      return failure();
  }
  if (missing.empty())
    return success();
  InFlightDiagnostic diag =
      func.emitError() << path << ": no metrics for " << missing.size()
                       << (missing.size() == 1 ? " product: " : " products: ");
  llvm::interleaveComma(ArrayRef(missing).take_front(kNamed), diag,
                        [&](StringRef name) { diag << "'" << name << "'"; });
  if (missing.size() > kNamed)
    diag << " and " << missing.size() - kNamed << " more";
  return diag;
}

LogicalResult Driver::matchOne(MatmulOp product,
                               const ProductProfile &measured) {
  auto role = product.getProductRole();
  if (!role)
    return product.emitOpError()
           << "named '" << getStableName(product)
           << "' has no role; --mpt-differentiate gives it one";
  if (*role != measured.role)
    return product.emitOpError()
           << "named '" << getStableName(product) << "' is "
           << stringifyRole(*role) << ", but " << path << " has it as "
           << stringifyRole(measured.role);
  MetricsAttr metrics = measured.metrics;
  if (metrics.getK() != product.getK()) {
    metrics = precision::rescale(metrics, product.getK());
    ++numRescaled;
  }
  matched.push_back({product, metrics, measured.amax});
  return success();
}

void Driver::attach() {
  Builder builder(func.getContext());
  for (Match &match : matched) {
    match.product.setMetricsAttr(match.metrics);
    if (match.amax)
      match.product->setAttr(kAmaxAttr,
                             builder.getDenseF32ArrayAttr(*match.amax));
  }
}

struct AttachMetrics : mpt::impl::AttachMetricsBase<AttachMetrics> {
  using AttachMetricsBase::AttachMetricsBase;

  void runOnOperation() override {
    func::FuncOp func = getStage(getOperation(), "step", "mpt-attach-metrics");
    if (!func)
      return signalPassFailure();
    if (profile.empty()) {
      func.emitError("mpt-attach-metrics needs profile=<metrics.json>");
      return signalPassFailure();
    }
    llvm::Expected<Profile> measured =
        precision::readProfile(&getContext(), profile);
    if (!measured) {
      func.emitError(llvm::toString(measured.takeError()));
      return signalPassFailure();
    }
    Driver driver{func, *measured, profile, {}};
    if (failed(driver.checkHash()) || failed(driver.match()))
      return signalPassFailure();
    driver.attach();
    numProducts += driver.matched.size();
    numRescaled += driver.numRescaled;
  }
};

} // namespace
