//===- StepPlan.h - buffers and launches of a training step ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The step as data: which buffer every value lives in, one arena, and the
// launches in order. Every target prints the same plan: the CPU as a manifest,
// CUDA as C++.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_STEPPLAN_H
#define MPT_DIALECT_MPT_ANALYSIS_STEPPLAN_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/Analysis/Storage.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mpt {

class KernelModel;

struct StepPlanOptions {
  /// Whether the target can run launches of this kernel as parts of a larger
  /// one. Null: every launch stays alone.
  llvm::function_ref<bool(const KernelModel &)> canGroup;
};

struct StepPlan {
  enum class BufferKind { Argument, Arena, Constant };
  struct Buffer {
    BufferKind kind = BufferKind::Arena;
    int64_t bytes = 0;
    /// In the arena, bytes.
    int64_t offset = 0;
    /// Contents of a constant, row-major, little endian.
    std::vector<char> data;
    /// Arena: first and last launch that touches it.
    int64_t begin = -1, end = -1;
  };
  /// A value inside a buffer; the offset is in bytes.
  struct Access {
    unsigned buffer = 0;
    int64_t offset = 0;
  };
  enum class LaunchKind {
    Kernel,
    Product,
    ScatterAdd,
    Copy,
    Fill,
    Attention,
    AttentionGrad,
    Group
  };
  /// One of the kernel calls that a group launches at once. It reads
  /// `accesses[firstRead...]` of the group and writes `[firstWritten...]`.
  struct Part {
    std::string name;
    mlir::Operation *op = nullptr;
    unsigned firstRead = 0, numRead = 0;
    unsigned firstWritten = 0, numWritten = 0;
  };
  struct Launch {
    LaunchKind kind;
    std::string name;
    /// The op of the step that this launches; null for copies and fills.
    mlir::Operation *op = nullptr;
    /// Kernel: arguments, then results. Product: lhs, rhs, inverse scales,
    /// result; with an epilogue, its other arguments and its results, of which
    /// the product comes first where it is kept. Scatter: init, ids, updates,
    /// result. Copy: source, result. Fill: result. Attention and its gradient:
    /// operands, then results. Group: all that its parts read, then all they
    /// write.
    llvm::SmallVector<Access, 8> accesses;
    /// How many of `accesses`, from the back, are written.
    unsigned numWritten = 1;
    /// Products: strides in elements; offsets are in `accesses`.
    std::optional<ProductViews> product;
    /// Copies and fills.
    int64_t bytes = 0;
    /// Groups: kernel calls that do not depend on each other.
    std::vector<Part> parts;

    /// What a part's kernel takes: arguments, then results.
    llvm::SmallVector<Access, 8> getAccesses(const Part &part) const;
  };
  struct Argument {
    std::string name;
    Kind kind;
    mlir::RankedTensorType type;
    unsigned buffer;
    std::optional<std::pair<int64_t, int64_t>> range;
    std::optional<int64_t> ignoreIndex;
  };
  struct Result {
    std::string name;
    mlir::RankedTensorType type;
    Access access;
    /// The argument that this result updates in place.
    std::optional<unsigned> alias;
  };

  mlir::func::FuncOp step;
  llvm::SmallVector<Argument> arguments;
  llvm::SmallVector<Result> results;
  std::vector<Buffer> buffers;
  std::vector<Launch> launches;
  /// What computes the derived arguments from the rest of the state, to be run
  /// before the first step and after state came from outside (`@init`).
  std::vector<Launch> init;
  int64_t arenaBytes = 0;
  /// The most bytes that are live at once: no arena can be smaller.
  int64_t liveBytes = 0;

  /// Plans `step`, which holds kernel calls, products, attention, scatters,
  /// views and constants only, and beside it `@init`, if the module has it,
  /// whose launches stay alone.
  static mlir::FailureOr<StepPlan> build(mlir::func::FuncOp step,
                                         const StepPlanOptions &options = {});
  /// Every access inside its buffer, everything read was written before, no two
  /// buffers share bytes while both are live, and no part of a group touches
  /// what another part writes.
  mlir::LogicalResult verify() const;

  /// Calls `visit` for each kernel call of the step and of `init`, alone or
  /// part of a group, with its name and its accesses.
  void
  forEachCall(llvm::function_ref<void(mlir::func::CallOp, llvm::StringRef name,
                                      llvm::ArrayRef<Access>)>
                  visit) const;
};

/// Bytes of one element as stored (i1 takes one byte).
int64_t getElementBytes(mlir::Type type);

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_STEPPLAN_H
