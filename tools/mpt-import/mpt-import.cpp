//===- mpt-import.cpp - ONNX model to mpt graph ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt-import model.onnx -o graph.mlir: the forward graph, and the parameters'
// initial values in graph.safetensors.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/MLIRContext.h"
#include "mpt/Frontend/ONNX/Import.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/raw_ostream.h"

namespace cl = llvm::cl;
using namespace mpt::onnx_import;

static cl::OptionCategory category("mpt-import options");
static cl::opt<std::string> input(cl::Positional, cl::Required,
                                  cl::desc("<model.onnx>"), cl::cat(category));
static cl::opt<std::string>
    output("o", cl::init("-"), cl::value_desc("graph.mlir"), cl::cat(category),
           cl::desc("Where the graph goes; the parameters go beside it as "
                    ".safetensors. - prints the graph only"));
static cl::opt<bool> addLoss(
    "loss", cl::cat(category),
    cl::desc("Add cross entropy (ignore index -100) on the logits when the "
             "graph has no loss"));
static cl::list<std::string>
    bind("bind", cl::value_desc("axis=size"), cl::cat(category),
         cl::desc("Size of a dynamic axis, once per axis"));

/// Parses `axis=size`; false after an error message.
static bool parseBinding(llvm::StringRef text, ImportOptions &options) {
  auto [axis, size] = text.rsplit('=');
  int64_t value = 0;
  bool isNumber = !size.getAsInteger(10, value) && value > 0;
  if (!axis.empty() && isNumber &&
      options.bindings.emplace(axis.str(), value).second)
    return true;
  llvm::errs()
      << "mpt-import: error: --bind " << text
      << ": expected AXIS=SIZE with a size of 1 or more, each axis once\n";
  return false;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv,
                              "imports an ONNX model as an mpt graph\n");
  ImportOptions options;
  options.addLoss = addLoss;
  for (const std::string &text : bind)
    if (!parseBinding(text, options))
      return 1;
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  mlir::ScopedDiagnosticHandler printer(
      &context, [](mlir::Diagnostic &diagnostic) {
        bool isError =
            diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error;
        llvm::errs() << "mpt-import: " << (isError ? "error: " : "warning: ")
                     << diagnostic << "\n";
      });
  auto model = importModel(&context, input, options);
  if (failed(model) || failed(writeModel(*model, output)))
    return 1;
  return 0;
}
