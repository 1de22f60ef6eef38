//===- Signature.h - arguments of graphs and steps by kind and name -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reading and extending the function ABI (MPTBase.td): argument names and
// kinds live in argument attributes.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_SIGNATURE_H
#define MPT_DIALECT_MPT_IR_SIGNATURE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace mpt {

/// The step's result (i1) that is true if the step changed no state: the one
/// flag that masks all updates.
inline constexpr llvm::StringLiteral kSkippedName = "skipped";

/// The name of what `getInit` finds.
inline constexpr llvm::StringLiteral kInitFunction = "init";

/// The kind of argument `index`, if it has one.
std::optional<Kind> getArgumentKind(mlir::func::FuncOp func, unsigned index);
/// The `mpt.name` of argument `index`, or "".
llvm::StringRef getArgumentName(mlir::func::FuncOp func, unsigned index);
/// The stable name of what makes `value`: an op, or an argument of a function.
llvm::StringRef getValueName(mlir::Value value);
/// An argument to be added.
struct NewArgument {
  mlir::Type type;
  std::string name;
  Kind kind;
  /// What all its elements start from, if it is state that is in no file.
  std::optional<double> init = std::nullopt;
};
/// Appends arguments, all at once: each insertion rebuilds the signature.
/// Returns the index of the first.
unsigned addArguments(mlir::func::FuncOp func,
                      llvm::ArrayRef<NewArgument> arguments);
/// The parameter argument that `value` is, through view ops; nullopt if it is
/// none.
std::optional<unsigned> getParameter(mlir::Value value);
/// The one function `name` of `module`, or null after a diagnostic that says
/// what `pass` expects.
mlir::func::FuncOp getStage(mlir::ModuleOp module, llvm::StringRef name,
                            llvm::StringRef pass);
/// The function that computes the derived arguments of `step` from its
/// parameters and scale state (`--mpt-carry-casts` makes it), or null. It takes
/// arguments of the step by name; each result has a derived argument's name.
mlir::func::FuncOp getInit(mlir::func::FuncOp step);
/// Fills the function's result list anew from `values`; `attrs[i]` are the
/// attributes of result i.
void setResults(mlir::func::FuncOp func, mlir::ValueRange values,
                llvm::ArrayRef<mlir::DictionaryAttr> attrs);

} // namespace mpt

#endif // MPT_DIALECT_MPT_IR_SIGNATURE_H
