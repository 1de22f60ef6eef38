//===- AttentionEmitter.h - launches of attention -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Attention and its gradient in the emitted step: a table of launches for each
// kernel, filled with tensor maps when the step is opened. Private to the CUDA
// back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_ATTENTIONEMITTER_H
#define MPT_LIB_TARGET_CUDA_ATTENTIONEMITTER_H

#include "Names.h"
#include "SourceWriter.h"
#include "llvm/ADT/DenseMap.h"
#include <functional>

namespace mpt {
namespace cuda {

/// What a launch of attention or of its gradient takes besides addresses.
struct AttentionShape {
  int64_t batches, sequence, heads, headSize;
  float scale;
  std::optional<float> keep;
  int64_t dropoutId = 0;
  bool hasBias = false;
  /// From one sequence's bias to the next, in elements.
  int64_t biasStride = 0;
  /// Operands and results [batch, sequence, heads, head size], in order;
  /// strides in elements.
  struct Heads {
    mlir::Type element;
    int64_t rows, batch;
  };
  llvm::SmallVector<Heads> views;
};

/// Describes a launch whose operands' layouts were checked when it was formed.
AttentionShape getAttentionShape(const StepPlan::Launch &launch);

class AttentionEmitter {
public:
  /// `at` gives the C++ expression of a place in device memory.
  using At = std::function<std::string(mlir::Type, StepPlan::Access)>;

  AttentionEmitter(const StepPlan &plan, At at);

  bool empty() const { return tables.empty(); }
  /// Writes the tables and the function that fills them. Refuses, by name, an
  /// operand that no kernel can read where it is.
  mlir::LogicalResult emit(SourceWriter &w) const;
  /// The statement that launches; `name` is for a comment.
  std::string launch(const StepPlan::Launch &launch,
                     llvm::StringRef name) const;
  /// The function that prepares a step: `load` ("" for none) and the tables.
  std::string loader(llvm::StringRef load) const;

private:
  /// The launches that one kernel computes.
  struct Table {
    std::string type, name;
    unsigned size = 0;
  };
  Table &tableOf(const StepPlan::Launch &launch);
  void add(const StepPlan::Launch &launch, SourceWriter &w) const;

  const StepPlan &plan;
  At at;
  llvm::SmallVector<Table> tables;
  /// By launch: its table, and its place there.
  llvm::DenseMap<const StepPlan::Launch *, std::pair<std::string, unsigned>>
      places;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_ATTENTIONEMITTER_H
