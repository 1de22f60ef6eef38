//===- KernelModel.h - what a fused kernel computes, ready to emit --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A kernel function as every back end needs it: an iteration domain of rows
// and columns, a DAG of nodes whose views are resolved to index arithmetic,
// and phases: column loops that the row reductions separate. Back ends walk
// the model; they look at ops only to emit scalar bodies.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_KERNELMODEL_H
#define MPT_DIALECT_MPT_ANALYSIS_KERNELMODEL_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/Analysis/IndexMap.h"

namespace mpt {

/// Marks the functions that are kernels (contract:
/// docs/rationale-cpu-kernels.md).
inline constexpr llvm::StringLiteral kKernelAttr = "mpt.kernel";

/// Result `result` of node `node`.
struct NodeUse {
  unsigned node = ~0u;
  unsigned result = 0;
};

enum class NodeKind {
  Argument,      ///< element `access` of argument `argument`
  Constant,      ///< the splat value of an mpt.constant
  Scalar,        ///< the scalar body of a ScalarBodyOpInterface op
  RowReduce,     ///< operand 0 over the columns of the row: 32 lanes and a tree
  LeadingReduce, ///< over `length` elements of `argument` from `access`,
                 ///< `stride` apart, in ascending order from the identity
  Gather         ///< element operand 0 * `stride` + `access` of `argument`
};

/// One value, at one index of its tensor as a function of row and column.
struct KernelNode {
  NodeKind kind;
  /// The op; null for arguments.
  mlir::Operation *op = nullptr;
  llvm::SmallVector<NodeUse, 4> operands;
  unsigned argument = 0;
  AccessMap access;
  /// Scalar: row-major index in the op's iteration space, and the index along
  /// its last axis (mpt.dropout and mpt.iota ask for them).
  AccessMap index, lastIndex;
  int64_t length = 0, stride = 0;
  /// The same for all columns of a row: evaluated once per row.
  bool perRow = false;
  /// The first phase in whose column loop the value can be used.
  unsigned phase = 0;
  /// What evaluating it anew costs, in simple instructions (operands included).
  int64_t cost = 0;
};

enum class ResultKind {
  Full,        ///< element r * C + c
  PerRow,      ///< element r
  Chunk,       ///< sum over the 64 rows of chunk k: element k * C + c
  ChunkPerRow, ///< sum over the 64 rows of chunk k: element k
  Transposed   ///< element `access`: columns do not follow each other
};

struct KernelResult {
  ResultKind kind;
  NodeUse value;
  AccessMap access;
};

/// One element a row, or one a chunk of rows, whatever the columns.
inline bool isPerRow(ResultKind kind) {
  return kind == ResultKind::PerRow || kind == ResultKind::ChunkPerRow;
}

/// What `copy` lays out anew so that the last axis is no longer the last, for
/// a product that contracts over another. The kernel that makes the value can
/// write both layouts. Null if the copy is of another kind.
mlir::Value getTransposedSource(CopyOp copy);

/// One loop over the columns of a row. All stores and chunk sums happen in the
/// last phase, after every load of the same position: a result may lie in the
/// buffer of an argument that is read at the position it is written.
struct KernelPhase {
  /// RowReduce nodes whose operand this loop accumulates.
  llvm::SmallVector<unsigned, 2> reductions;
  /// Full values that this loop computes and keeps in a row buffer, and those
  /// that it reads from one.
  llvm::SmallVector<NodeUse, 2> kept, reused;
};

class KernelModel {
public:
  /// Reports, on the op in question, what cannot be in a kernel. The columns of
  /// the domain are `columns` where nothing in the kernel settles them (0: as
  /// many as can be accessed at single strides).
  static mlir::FailureOr<KernelModel> build(mlir::func::FuncOp kernel,
                                            int64_t columns = 0);

  mlir::func::FuncOp function;
  /// The domain: n = r * columns + c.
  int64_t rows = 1, columns = 1;
  /// In the order of their evaluation.
  llvm::SmallVector<KernelNode, 16> nodes;
  llvm::SmallVector<KernelResult, 4> results;
  /// At least one; empty phases do not occur but in kernels without columns.
  llvm::SmallVector<KernelPhase, 4> phases;

  /// Task t does rows [t * rowsPerTask, (t + 1) * rowsPerTask) or, if there is
  /// one row, columns [t * columnsPerTask, (t + 1) * columnsPerTask).
  int64_t tasks = 1, rowsPerTask = 1, columnsPerTask = 1;
  /// Whether there is a Chunk or ChunkPerRow result.
  bool hasChunks() const;
  bool hasTransposed() const;
  /// Whether there is a PerRow or ChunkPerRow result.
  bool hasPerRow() const;
  /// Whether `result` may be written to the buffer of `argument`: same element
  /// type and size, and read only where it is written.
  bool canAlias(unsigned result, unsigned argument) const;

  /// The element type of a use (of the tensor that it is an element of).
  mlir::Type getElementType(NodeUse use) const;
  void print(llvm::raw_ostream &os) const;

  static constexpr int64_t kLanes = 32;
  static constexpr int64_t kChunkRows = 64;
};

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_KERNELMODEL_H
