//===- DecisionRecord.h - decisions.json ------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What was decided and why, for reports and for `mptc explain`. The schema is
// in docs/precision.md.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_DECISIONRECORD_H
#define MPT_PRECISION_DECISIONRECORD_H

#include "mpt/Precision/Policy.h"

namespace mpt {
namespace precision {

inline constexpr int64_t kDecisionRecordVersion = 1;

/// Writes the record as JSON. Equal inputs give equal bytes.
void writeDecisions(llvm::raw_ostream &os, const Problem &problem,
                    const Outcome &outcome, llvm::StringRef graphHash);

/// Writes the record beside `path` and renames it, so that `path` is whole or
/// as it was.
llvm::Error writeDecisionsFile(llvm::StringRef path, const Problem &problem,
                               const Outcome &outcome,
                               llvm::StringRef graphHash);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_DECISIONRECORD_H
