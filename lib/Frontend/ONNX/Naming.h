//===- Naming.h - stable names from what exporters write ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Where names come from: parameters keep their module paths; ops are named by
// the parameter they multiply with or by the exporter's module scope, without
// the model's base prefix, so that names do not depend on the exporter's own
// numbering.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_FRONTEND_ONNX_NAMING_H
#define MPT_LIB_FRONTEND_ONNX_NAMING_H

#include "ModelFile.h"
#include "mlir/IR/Block.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"

namespace mpt::onnx_import {

/// Whether an exporter made this name up for a folded constant (`val_12`,
/// `onnx::MatMul_34`, `56`).
bool isAnonymous(llvm::StringRef name);

class Naming {
public:
  explicit Naming(const ModelFile &model);

  /// The parameter's module path, without an exporter's wrapper.
  std::string parameterName(llvm::StringRef initializer) const;
  /// Module path of the code that `node` comes from (empty: unknown or the
  /// model itself), as parameters spell it.
  std::string scopeOf(const onnx::NodeProto &node) const;

  /// Remembers which module `op` comes from.
  void setScope(mlir::Operation *op, std::string scope);
  /// Sets `mpt.name` on every op of `block` but constants. `parameters` are the
  /// names of the arguments that hold parameters.
  void nameOps(mlir::Block &block,
               const llvm::DenseMap<mlir::Value, std::string> &parameters);

private:
  std::string withoutBase(llvm::StringRef path) const;
  std::string
  pathOf(mlir::Operation *op,
         const llvm::DenseMap<mlir::Value, std::string> &parameters);

  std::string wrapper; // with its dot, or empty
  std::string base;    // with its dot, or empty
  llvm::StringMap<llvm::SmallVector<std::string>> aliases;
  llvm::DenseMap<mlir::Operation *, std::string> scopes;
  llvm::StringMap<unsigned> productsOfScope;
};

} // namespace mpt::onnx_import

#endif // MPT_LIB_FRONTEND_ONNX_NAMING_H
