//===- mpt-solve.cpp - budget problems by hand ----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reads a budget problem (docs/budget.md) and writes its solution: for tests,
// and for trying other bounds without a graph.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/BudgetFile.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

using namespace llvm;
using namespace mpt::precision;

namespace {
cl::OptionCategory category("mpt-solve options");
cl::opt<std::string> input(cl::Positional, cl::desc("<problem.json>"),
                           cl::init("-"), cl::cat(category));
cl::opt<std::string> output("o", cl::desc("Output file"), cl::init("-"),
                            cl::value_desc("file"), cl::cat(category));
cl::opt<int64_t> labels("labels", cl::init(budget::Limits().labels),
                        cl::desc("Partial choices kept side by side"),
                        cl::cat(category));
cl::opt<int64_t> nodes("nodes", cl::init(budget::Limits().nodes),
                       cl::desc("Subproblems to look at"), cl::cat(category));

Error run() {
  auto buffer = MemoryBuffer::getFileOrSTDIN(input);
  if (!buffer)
    return createStringError(
        "'" + input + "' cannot be read: " + buffer.getError().message());
  auto problem = budget::parseProblem((*buffer)->getBuffer(), input);
  if (!problem)
    return problem.takeError();
  auto solution = budget::solve(*problem, {labels, nodes});
  if (!solution)
    return solution.takeError();
  if (Error error = budget::verify(*problem, *solution))
    return error;
  return writeToOutput(output, [&](raw_ostream &os) {
    budget::writeSolution(os, *problem, *solution);
    return Error::success();
  });
}
} // namespace

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv,
                              "least time under bounds on errors\n");
  if (Error error = run()) {
    WithColor::error(errs(), "mpt-solve") << toString(std::move(error)) << "\n";
    return 1;
  }
  return 0;
}
