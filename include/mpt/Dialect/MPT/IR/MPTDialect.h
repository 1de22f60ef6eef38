//===- MPTDialect.h - the mpt dialect -------------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Declarations of the dialect, its attributes, interfaces and ops.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_MPTDIALECT_H
#define MPT_DIALECT_MPT_IR_MPTDIALECT_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mpt/Dialect/MPT/IR/Layout.h"

#include "mpt/Dialect/MPT/IR/MPTEnums.h.inc"
#include "mpt/Dialect/MPT/IR/ScalarEmitter.h"

#include "mpt/Dialect/MPT/IR/MPTDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "mpt/Dialect/MPT/IR/MPTAttrs.h.inc"
#include "mpt/Dialect/MPT/IR/MPTInterfaces.h.inc"

namespace mpt {

/// Names of the discardable attributes (see the dialect's description).
inline constexpr llvm::StringLiteral kNameAttr = "mpt.name";
inline constexpr llvm::StringLiteral kKindAttr = "mpt.kind";
inline constexpr llvm::StringLiteral kAliasAttr = "mpt.alias";
inline constexpr llvm::StringLiteral kInitAttr = "mpt.init";
inline constexpr llvm::StringLiteral kAmaxAttr = "mpt.amax";
inline constexpr llvm::StringLiteral kRangeAttr = "mpt.range";
inline constexpr llvm::StringLiteral kIgnoreIndexAttr = "mpt.ignore_index";
inline constexpr llvm::StringLiteral kGraphHashAttr = "mpt.graph_hash";
inline constexpr llvm::StringLiteral kImplementationAttr = "mpt.implementation";
inline constexpr llvm::StringLiteral kReasonAttr = "mpt.reason";

/// The op's `mpt.name`, or its op name where it has none.
llvm::StringRef getStableName(mlir::Operation *op);
void setStableName(mlir::Operation *op, llvm::StringRef name);

/// Equal up to tensor encodings.
bool compatibleIgnoringEncoding(mlir::TypeRange lhs, mlir::TypeRange rhs);
/// `type` without its encoding.
mlir::RankedTensorType withoutEncoding(mlir::Type type);
/// The format in `type`'s encoding, or null.
class FormatAttr;
FormatAttr getFormat(mlir::Type type);
/// The element type that codes are stored in.
mlir::Type getStorageType(mlir::MLIRContext *context, Storage storage);
/// The largest finite value of an element type that codes are stored in, times
/// 2^-margin.
float getStorageMax(mlir::Type storage, int64_t margin = 0);

/// NumPy broadcast of shapes; nullopt if they do not fit.
std::optional<llvm::SmallVector<int64_t>>
broadcastShapes(llvm::ArrayRef<int64_t> lhs, llvm::ArrayRef<int64_t> rhs);

/// Result type of an elementwise op: broadcast shape of `operands` and the
/// element type that `element` says ('f' f32, 'b' i1, 'i' i64, 's' that of
/// operand 0). Reports operands that do not broadcast.
mlir::LogicalResult
inferBroadcastType(std::optional<mlir::Location> location,
                   llvm::StringRef opName, mlir::ValueRange operands,
                   char element, llvm::SmallVectorImpl<mlir::Type> &types);

/// Sums `grad` over the dims in which an operand of `type` was broadcast, so
/// that the result has the operand's shape.
mlir::Value sumToShape(mlir::OpBuilder &builder, mlir::Location location,
                       mlir::Value grad, mlir::Type type);

} // namespace mpt

#define GET_OP_CLASSES
#include "mpt/Dialect/MPT/IR/MPTOps.h.inc"

#endif // MPT_DIALECT_MPT_IR_MPTDIALECT_H
