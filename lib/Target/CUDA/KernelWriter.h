//===- KernelWriter.h - a kernel's model as a __global__ function ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The state in which one kernel is written: KernelEmitter.cpp has values, rows
// and the shapes without shared results, ChunkEmitter.cpp the blocks of 64
// rows. Private to these two.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_KERNELWRITER_H
#define MPT_LIB_TARGET_CUDA_KERNELWRITER_H

#include "KernelEmitter.h"
#include "NodeWriter.h"
#include "llvm/ADT/MapVector.h"

namespace mpt {
namespace cuda {

class KernelWriter {
public:
  KernelWriter(const KernelModel &model, llvm::StringRef name, KernelForm form,
               SourceWriter &w)
      : model(model), kernel(model.function), name(name), form(form),
        launch(getLaunchShape(model)), w(w), bodies(kernel.getContext()),
        rowValues(model.nodes.size()), rowEntered(model.nodes.size(), false) {
    demandRows(0, model.phases.size() + 1);
  }

  void run(llvm::StringRef uses);

private:
  void comment(llvm::StringRef uses);
  void signature();
  void emitRows();
  void emitElements();
  void emitColumns();

  // Blocks of 64 rows.
  void enterChunk(llvm::StringRef index);
  void declareShared();
  void emitBlockRows();
  void sumRows();
  void emitBlockTiles();
  void emitTilePreparation(llvm::ArrayRef<unsigned> saved);
  void emitTile(llvm::ArrayRef<unsigned> saved);
  void emitTileRow(llvm::ArrayRef<unsigned> saved);
  void sumTile();
  void sumChunkPerRow();
  void storeTurned();
  void storeTurned(unsigned result);
  bool hasOneTile() const {
    return launch.shape != Shape::BlockTiles || launch.tile >= model.columns;
  }
  std::string columnOfTile() const {
    return hasOneTile() ? "c" : "(c - first)";
  }
  std::string firstColumn() const { return hasOneTile() ? "" : "first + "; }
  std::string lastColumn() const {
    return hasOneTile() ? std::to_string(model.columns) : "last";
  }
  llvm::SmallVector<unsigned> resultsOf(ResultKind kind) const;

  /// Which results of which nodes a loop (or a row) needs.
  using Demand = llvm::MapVector<unsigned, llvm::SmallSet<unsigned, 4>>;
  void demandRows(unsigned firstPhase, unsigned lastPhase);
  void visitRow(NodeUse use);
  void visitColumn(NodeUse use, const KernelPhase &phase, Demand &demand);
  Demand demandOf(unsigned phase);

  void enterRow();
  void prepare(unsigned phase);
  void emitPhase(unsigned phase);
  void emitLoopBody(unsigned phase);
  void emitPhases();
  void finishReduction(unsigned id);
  void storeColumns();
  void storeColumn(unsigned result);
  void storeRows();

  Expression value(NodeUse use);
  void evaluate(unsigned id, const llvm::SmallSet<unsigned, 4> &results,
                bool inRow);
  void setValue(NodeUse use, Expression expression, bool inRow);
  void emitLeading(unsigned id, bool inRow);
  std::string nameOf(unsigned id, unsigned result = 0) const {
    return nameOfNode(model, id, result);
  }
  std::string elementIndex(const AccessMap &access, bool inRow) const {
    return indexInTerms(model, access, inRow);
  }
  std::string element(unsigned id, bool inRow);
  Reduction kindOf(unsigned id) {
    return llvm::cast<ReduceOp>(model.nodes[id].op).getKind();
  }
  static std::string identityOf(Reduction kind);
  std::string combined(Reduction kind, llvm::StringRef running,
                       const Expression &x);
  std::string argument(unsigned index) { return "in" + std::to_string(index); }
  std::string result(unsigned index) { return "out" + std::to_string(index); }
  std::string arrayName(const SharedArray &array);
  mlir::Type resultElement(unsigned index) {
    return model.getElementType(model.results[index].value);
  }
  bool mayShareBuffer(unsigned argument) {
    for (unsigned r = 0; r < model.results.size(); ++r)
      if (model.canAlias(r, argument))
        return true;
    return false;
  }
  bool isBlock() const {
    return launch.shape == Shape::BlockRows ||
           launch.shape == Shape::BlockTiles;
  }
  bool isPart() const { return form != KernelForm::Kernel; }
  /// What tells threads apart: of the grid, or of the part's share of it.
  std::string inGrid(llvm::StringRef what) const {
    return ((isPart() ? "block." : "mpt::grid") + what + "()").str();
  }
  std::string threadId() const {
    return inGrid(isPart() ? "threadId" : "ThreadId");
  }
  std::string warpId() const { return inGrid(isPart() ? "warpId" : "WarpId"); }
  std::string threads() const {
    return inGrid(isPart() ? "threads" : "Threads");
  }

  const KernelModel &model;
  mlir::func::FuncOp kernel;
  llvm::StringRef name;
  KernelForm form;
  LaunchShape launch;
  SourceWriter &w;
  ExpressionEmitter bodies;
  /// Values of the current row and of the current column loop.
  std::vector<llvm::SmallVector<Expression, 3>> rowValues, columnValues;
  std::vector<bool> rowEntered;
  Demand rowDemand;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_KERNELWRITER_H
