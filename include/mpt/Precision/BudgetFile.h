//===- BudgetFile.h - budget problems and solutions as JSON -----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What `mpt-solve` reads and writes; the schema is in docs/budget.md. The file
// comes from outside: every hole in it is an error that names the place.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_BUDGETFILE_H
#define MPT_PRECISION_BUDGETFILE_H

#include "mpt/Precision/Budget.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

namespace mpt {
namespace precision {
namespace budget {

inline constexpr int64_t kBudgetFileVersion = 1;

/// Parses and checks a problem; `source` stands for the file in messages.
llvm::Expected<Problem> parseProblem(llvm::StringRef text,
                                     llvm::StringRef source);

/// Writes a problem as `parseProblem` reads it.
void writeProblem(llvm::raw_ostream &os, const Problem &problem);

/// Writes a solution. Equal inputs give equal bytes.
void writeSolution(llvm::raw_ostream &os, const Problem &problem,
                   const Solution &solution);

} // namespace budget
} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_BUDGETFILE_H
