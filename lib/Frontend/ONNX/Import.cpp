//===- Import.cpp - the importer's entry points ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reads the file, builds the graph, brings it into canonical form and verifies
// it.
//
//===----------------------------------------------------------------------===//

#include "mpt/Frontend/ONNX/Import.h"
#include "GraphImporter.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;

ImportedModel::ImportedModel() = default;
ImportedModel::ImportedModel(ImportedModel &&) = default;
ImportedModel &ImportedModel::operator=(ImportedModel &&) = default;
ImportedModel::~ImportedModel() = default;

FailureOr<ImportedModel>
mpt::onnx_import::importModel(MLIRContext *context, StringRef path,
                              const ImportOptions &options) {
  context->loadDialect<func::FuncDialect, MPTDialect>();
  auto fail = [&](llvm::Error error) -> LogicalResult {
    return emitError(UnknownLoc::get(context))
           << path << ": "
           << llvm::json::fixUTF8(llvm::toString(std::move(error)));
  };
  ImportedModel result;
  result.files = std::make_unique<MappedFiles>();
  auto model = readModelFile(path, *result.files);
  if (!model)
    return fail(model.takeError());
  GraphImporter importer(context, *model, options);
  auto module = importer.run(result.parameters);
  if (!module)
    return fail(module.takeError());
  result.module = std::move(*module);
  auto tied = model->metadata.find("mpt.tied");
  if (tied != model->metadata.end())
    result.tiedNames = tied->second;

  PassManager passes(context);
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  if (failed(passes.run(*result.module)))
    return fail(
        llvm::createStringError("the imported graph could not be brought "
                                "into canonical form"));
  return result;
}
