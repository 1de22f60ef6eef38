//===- Profile.h - reading metrics.json -------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The metrics file as the passes see it: per product, the worst point of
// training of every metric of every candidate. The file comes from outside, so
// every hole in it is an error that names product, step, candidate and field.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_PROFILE_H
#define MPT_PRECISION_PROFILE_H

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace mpt {
namespace precision {

/// The newest version of metrics.json that is understood, and the only one.
inline constexpr int64_t kProfileVersion = 2;

/// One product of the profiled step.
struct ProductProfile {
  std::string name;
  Role role;
  int64_t batch;
  /// Sizes as profiled. Candidate values by name: an error (`be_median`,
  /// `be_p99`, `be_max`, `rel_var`, `loss_mse`, `noise_ratio`, `persistent`) is
  /// the upper end of its interval at the worst point of training, a quality
  /// (`sqnr_db`, `cosine`) the lower end; `<name>_spread` is the width of that
  /// interval and `<name>_step` the point's step. `role_persistent` is the
  /// whole gradient's `persistent` with all products of this role so rounded,
  /// where there was such a probe; `flushed_lhs`, `saturated_rhs`, `excluded`
  /// and so on are largest shares. Candidates that FormatAttr cannot tell apart
  /// (MX, margins, histories, fixed scales) are left out.
  MetricsAttr metrics;
};

struct Profile {
  std::string graphHash;
  std::vector<ProductProfile> products;

  /// The product of that name, or null.
  const ProductProfile *find(llvm::StringRef name) const;

  llvm::StringMap<size_t> index;
};

/// Reads the metrics file at `path`. Fails, naming the file and the place in
/// it, if it cannot be read, is not a metrics file of this version, names a
/// product twice, or has a value that is missing or not finite.
llvm::Expected<Profile> readProfile(mlir::MLIRContext *context,
                                    llvm::StringRef path);
/// As `readProfile`, of `text`; `source` stands for the file in messages.
llvm::Expected<Profile> parseProfile(mlir::MLIRContext *context,
                                     llvm::StringRef text,
                                     llvm::StringRef source);

/// `metrics` as they are expected at another length of the contraction: the
/// backward errors fall as 1/sqrt(K). The factor is recorded in each candidate
/// as `rescaled`; the sizes stay those of the profile.
MetricsAttr rescale(MetricsAttr metrics, int64_t k);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_PROFILE_H
