//===- NodeWriter.h - the values of a kernel's model as C++ ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Writes the nodes of a model as variables named after their ops, at the place
// `row`, `c` of the code around them; names, indices and constants are those of
// kernels too. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_NODEWRITER_H
#define MPT_LIB_TARGET_CUDA_NODEWRITER_H

#include "ExpressionEmitter.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "llvm/ADT/SmallSet.h"

namespace mpt {
namespace cuda {

/// An identifier from the op's name and the node's number; of a reduction, from
/// its kind.
std::string nameOfNode(const KernelModel &model, unsigned id, unsigned result);

/// An index in terms of `row` and, unless it is the row's, `c`.
std::string indexInTerms(const KernelModel &model, const AccessMap &access,
                         bool perRow);

/// The value of an mpt.constant, which is a splat.
Expression splatOf(const KernelNode &node);

class NodeWriter {
public:
  NodeWriter(const KernelModel &model, SourceWriter &w)
      : model(model), kernel(model.function), w(w),
        bodies(kernel.getContext(), "mpt::gemm"), values(model.nodes.size()) {}

  /// Writes what is needed of a node; its operands are there.
  void evaluate(unsigned id, const llvm::SmallSet<unsigned, 4> &results);
  const Expression &value(NodeUse use) const {
    return values[use.node][use.result];
  }
  void setValue(NodeUse use, Expression expression);
  std::string nameOf(unsigned id, unsigned result = 0) const {
    return nameOfNode(model, id, result);
  }

private:
  std::string indexOf(const AccessMap &access, bool perRow) const {
    return indexInTerms(model, access, perRow);
  }

  const KernelModel &model;
  mlir::func::FuncOp kernel;
  SourceWriter &w;
  ExpressionEmitter bodies;
  std::vector<llvm::SmallVector<Expression, 3>> values;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_NODEWRITER_H
