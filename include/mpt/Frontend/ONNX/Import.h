//===- Import.h - ONNX models as mpt forward graphs -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The public face of the ONNX importer: one call reads a model file and gives
// the forward graph and the places in the mapped files where the parameters'
// values lie; a second one writes those as safetensors without copying them.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_FRONTEND_ONNX_IMPORT_H
#define MPT_FRONTEND_ONNX_IMPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mpt::onnx_import {

struct ImportOptions {
  /// Adds mean cross entropy with ignore index -100 on the logits when the
  /// graph has no loss: an argument `labels` of the logits' leading dims.
  bool addLoss = false;
  /// Size of each dynamic axis, by its name in the file or `input.dim`.
  std::map<std::string, int64_t> bindings;
};

/// One parameter's initial value: `bytes` lies in a file that ImportedModel
/// keeps mapped.
struct ParameterValue {
  std::string name;
  std::vector<int64_t> shape;
  llvm::StringRef bytes;
};

/// What keeps the model's files mapped.
class MappedFiles;

struct ImportedModel {
  ImportedModel();
  ImportedModel(ImportedModel &&);
  ImportedModel &operator=(ImportedModel &&);
  ~ImportedModel();

  /// `func.func @forward`: parameters, inputs, labels, then `rng.seed` and
  /// `rng.step` where there is dropout; results: the loss if the graph has one
  /// (or was given one), else every output.
  mlir::OwningOpRef<mlir::ModuleOp> module;
  /// In the order of the function's arguments.
  std::vector<ParameterValue> parameters;
  /// Further names of tied parameters, as the file gives them: a JSON object
  /// {name: [aliases]}, empty if there are none.
  std::string tiedNames;
  std::unique_ptr<MappedFiles> files;
};

/// Imports the model at `path`. Every failure is an error diagnostic that names
/// the file and, where there is one, the node, its op, domain and opset, what
/// was expected and what was found.
mlir::FailureOr<ImportedModel> importModel(mlir::MLIRContext *context,
                                           llvm::StringRef path,
                                           const ImportOptions &options);

/// Writes `<output>` (the module as text) and, beside it with the extension
/// replaced, `.safetensors` (the parameters). Both are written to temporary
/// files first and renamed: after a failure neither exists. `-` prints the
/// module only.
mlir::LogicalResult writeModel(const ImportedModel &model,
                               llvm::StringRef output);

} // namespace mpt::onnx_import

#endif // MPT_FRONTEND_ONNX_IMPORT_H
