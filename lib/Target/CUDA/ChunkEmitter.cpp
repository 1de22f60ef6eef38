//===- ChunkEmitter.cpp - kernels whose blocks take 64 rows ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Sums down the columns and transposed results want 64 rows in one block. Its
// warps take the rows in turn, as they would alone; what they have for the
// columns goes through shared memory, and behind a barrier threads own columns:
// they add the rows in ascending order, which is the definition, and write
// transposed codes in pieces of 16 bytes.
//
//===----------------------------------------------------------------------===//

#include "KernelEmitter.h"
#include "KernelWriter.h"
#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

constexpr int64_t kRows = KernelModel::kChunkRows;

SmallVector<unsigned> KernelWriter::resultsOf(ResultKind kind) const {
  SmallVector<unsigned> found;
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == kind)
      found.push_back(i);
  return found;
}

/// Which rows the block (or the thread) has: [begin, end) of chunk `chunk`.
void KernelWriter::enterChunk(StringRef index) {
  if (model.hasChunks())
    w.assign("const int64_t chunk", index);
  std::string chunk = model.hasChunks() ? "chunk" : "blockIdx.x";
  w.assign("const int64_t begin", Twine(kRows) + " * " + chunk);
  std::string rows = std::to_string(model.rows);
  if (model.rows % kRows == 0)
    w.assign("const int64_t end", "begin + " + Twine(kRows));
  else
    w.assign("const int64_t end", "begin + " + Twine(kRows) + " < " + rows +
                                      " ? begin + " + Twine(kRows) + " : " +
                                      rows);
}

std::string KernelWriter::arrayName(const SharedArray &array) {
  std::string number = std::to_string(array.index);
  switch (array.use) {
  case SharedArray::Use::Kept:
    return "kept" + number;
  case SharedArray::Use::RowValue:
    return nameOf(array.index) + "Rows";
  case SharedArray::Use::Lanes:
    return nameOf(array.index) + "Lanes";
  case SharedArray::Use::Stage:
    return "stage" + number;
  case SharedArray::Use::Sums:
    return "sums" + number;
  case SharedArray::Use::Turned:
    return "turned" + number;
  }
  llvm_unreachable("all uses are listed");
}

/// The arrays of the block; kept rows are those of the warp.
void KernelWriter::declareShared() {
  if (launch.arrays.empty())
    return;
  w.line("MPT_SHARED_DYN(float, shared);");
  int64_t warps = launch.block / 32;
  for (const SharedArray &array : launch.arrays) {
    std::string at = "shared";
    if (array.offset)
      at += " + " + std::to_string(array.offset / 4);
    if (array.use == SharedArray::Use::Kept && warps > 1)
      at += " + mpt::warpId() * " + std::to_string(array.elements / warps);
    StringRef type = "float";
    if (array.use == SharedArray::Use::Turned)
      type = memoryType(resultElement(array.index));
    if (type != "float")
      at = ("reinterpret_cast<" + type + " *>(" + at + ")").str();
    w.assign(type + " *const " + arrayName(array), at);
  }
}

//===----------------------------------------------------------------------===//
// A warp a row at a time
//===----------------------------------------------------------------------===//

/// Adds the rows that the warps have staged, one a warp.
void KernelWriter::sumRows() {
  SmallVector<unsigned> sums = resultsOf(ResultKind::Chunk);
  if (sums.empty())
    return;
  int64_t warps = launch.block / 32;
  w.line("__syncthreads();");
  w.line("for (int64_t c = threadIdx.x; c < " + Twine(model.columns) +
         "; c += " + Twine(launch.block) + ")");
  w.enter();
  w.open("for (int64_t r = 0; r < " + Twine(warps) +
         " && first + r < end; ++r) {");
  for (unsigned i : sums) {
    std::string sum = "sums" + std::to_string(i) + "[c]";
    w.assign(sum, sum + " + stage" + Twine(i) + "[r * " + Twine(model.columns) +
                      " + c]");
  }
  w.close();
  w.close("__syncthreads();");
}

void KernelWriter::emitBlockRows() {
  SmallVector<unsigned> sums = resultsOf(ResultKind::Chunk);
  std::string columnLoop = "for (int64_t c = threadIdx.x; c < " +
                           std::to_string(model.columns) +
                           "; c += " + std::to_string(launch.block) + ") {";
  enterChunk("blockIdx.x");
  declareShared();
  if (!sums.empty()) {
    w.open(columnLoop);
    for (unsigned i : sums)
      w.assign("sums" + Twine(i) + "[c]", "0.0f");
    w.close();
  }
  int64_t warps = launch.block / 32;
  w.open("for (int64_t first = begin; first < end; first += " + Twine(warps) +
         ") {");
  w.assign("const int64_t row", "first + mpt::warpId()");
  w.open("if (row < end) {");
  emitPhases();
  w.close();
  sumRows();
  w.close();
  if (sums.empty())
    w.line("__syncthreads();");
  if (!sums.empty()) {
    w.open(columnLoop);
    for (unsigned i : sums)
      w.assign(result(i) + "[chunk * " + Twine(model.columns) + " + c]",
               "sums" + Twine(i) + "[c]");
    w.close();
  }
  sumChunkPerRow();
  storeTurned();
}

//===----------------------------------------------------------------------===//
// Some columns of all rows at a time
//===----------------------------------------------------------------------===//

/// All column loops but the last, row by row; what they reduce is saved.
void KernelWriter::emitTilePreparation(ArrayRef<unsigned> saved) {
  unsigned last = model.phases.size() - 1;
  demandRows(0, last);
  int64_t warps = launch.block / 32;
  w.open("for (int64_t row = begin + mpt::warpId(); row < end; row += " +
         Twine(warps) + ") {");
  enterRow();
  for (unsigned i = 0; i < last; ++i) {
    prepare(i);
    emitPhase(i);
  }
  w.open("if (mpt::laneId() == 0) {");
  for (unsigned id : saved)
    w.assign(nameOf(id) + "Rows[row - begin]", nameOf(id));
  w.close();
  w.close();
  w.line("__syncwarp();");
}

/// The last column loop over the tile's columns of one row.
void KernelWriter::emitTileRow(ArrayRef<unsigned> saved) {
  unsigned last = model.phases.size() - 1;
  enterRow();
  for (unsigned id : saved) {
    w.assign("const float " + nameOf(id), nameOf(id) + "Rows[row - begin]");
    setValue({id, 0},
             {nameOf(id), Binding::Atom, model.getElementType({id, 0})},
             /*inRow=*/true);
    rowEntered[id] = true;
  }
  prepare(last);
  const KernelPhase &phase = model.phases[last];
  std::string lane = "[(row - begin) * 32 + mpt::laneId()]";
  for (unsigned id : phase.reductions)
    w.assign("float " + nameOf(id),
             hasOneTile() ? identityOf(kindOf(id))
                          : "first == 0 ? " + identityOf(kindOf(id)) + " : " +
                                nameOf(id) + "Lanes" + lane);
  w.open("for (int64_t c = " + firstColumn() + "mpt::laneId(); c < " +
         lastColumn() + "; c += 32) {");
  emitLoopBody(last);
  w.close();
  bool hasRowResults = llvm::any_of(
      model.results, [](const auto &each) { return isPerRow(each.kind); });
  if (!hasOneTile() && (hasRowResults || !phase.reductions.empty())) {
    w.open("if (last < " + Twine(model.columns) + ") {");
    for (unsigned id : phase.reductions)
      w.assign(nameOf(id) + "Lanes" + lane, nameOf(id));
    w.line("continue;");
    w.close();
  }
  for (unsigned id : phase.reductions)
    finishReduction(id);
  prepare(model.phases.size());
  storeRows();
}

/// Sums of the tile's columns, rows ascending.
void KernelWriter::sumTile() {
  SmallVector<unsigned> sums = resultsOf(ResultKind::Chunk);
  if (sums.empty())
    return;
  w.open("for (int64_t c = " + firstColumn() + "threadIdx.x; c < " +
         lastColumn() + "; c += " + Twine(launch.block) + ") {");
  for (unsigned i : sums)
    w.assign("float sum" + Twine(i), "0.0f");
  w.open("for (int64_t row = begin; row < end; ++row) {");
  for (unsigned i : sums) {
    std::string sum = "sum" + std::to_string(i);
    w.assign(sum, sum + " + stage" + Twine(i) + "[(row - begin) * " +
                      Twine(launch.tile) + " + " + columnOfTile() + "]");
  }
  w.close();
  for (unsigned i : sums)
    w.assign(result(i) + "[chunk * " + Twine(model.columns) + " + c]",
             "sum" + Twine(i));
  w.close();
}

void KernelWriter::emitTile(ArrayRef<unsigned> saved) {
  int64_t warps = launch.block / 32;
  if (!hasOneTile()) {
    std::string next = "first + " + std::to_string(launch.tile);
    std::string columns = std::to_string(model.columns);
    w.assign("const int64_t last",
             model.columns % launch.tile == 0
                 ? next
                 : next + " < " + columns + " ? " + next + " : " + columns);
  }
  w.open("for (int64_t row = begin + mpt::warpId(); row < end; row += " +
         Twine(warps) + ") {");
  emitTileRow(saved);
  w.close();
  w.line("__syncthreads();");
  sumTile();
  storeTurned();
}

void KernelWriter::emitBlockTiles() {
  unsigned last = model.phases.size() - 1;
  enterChunk("blockIdx.x");
  demandRows(last, last + 2);
  SmallVector<unsigned> saved;
  llvm::erase_if(launch.arrays, [&](const SharedArray &array) {
    return array.use == SharedArray::Use::RowValue &&
           !rowDemand.contains(array.index);
  });
  for (const SharedArray &array : launch.arrays)
    if (array.use == SharedArray::Use::RowValue)
      saved.push_back(array.index);
  declareShared();
  if (last > 0)
    emitTilePreparation(saved);
  demandRows(last, last + 2);
  std::string tile = std::to_string(launch.tile);
  if (launch.spreadsTiles)
    w.assign("const int64_t first", "blockIdx.y * " + tile);
  else if (!hasOneTile())
    w.open("for (int64_t first = 0; first < " + Twine(model.columns) +
           "; first += " + tile + ") {");
  emitTile(saved);
  if (!hasOneTile() && !launch.spreadsTiles) {
    w.line("__syncthreads();");
    w.close();
  }
  sumChunkPerRow();
}

//===----------------------------------------------------------------------===//
// What both have behind a barrier
//===----------------------------------------------------------------------===//

/// Sums of one value a row.
void KernelWriter::sumChunkPerRow() {
  SmallVector<unsigned> sums = resultsOf(ResultKind::ChunkPerRow);
  if (sums.empty())
    return;
  w.open("if (threadIdx.x == 0) {");
  for (unsigned i : sums) {
    std::string sum = "sum" + std::to_string(i);
    w.assign("float " + sum, "0.0f");
    w.line("for (int64_t row = begin; row < end; ++row)");
    w.assign("  " + sum, sum + " + stage" + Twine(i) + "[row - begin]");
    w.assign(result(i) + "[chunk]", sum);
  }
  w.close();
}

void KernelWriter::storeTurned() {
  for (unsigned i : resultsOf(ResultKind::Transposed))
    storeTurned(i);
}

/// Elements of a transposed result that one store may take: 16 bytes if rows
/// follow each other in pieces of that size, else one.
static int64_t getPiece(const AccessMap &access, int64_t elementBytes) {
  int64_t piece = elementBytes <= 2 ? 16 / elementBytes : 1;
  auto fits = [&](ArrayRef<IndexTerm> terms) {
    return llvm::all_of(
        terms, [&](const IndexTerm &term) { return term.stride % piece == 0; });
  };
  ArrayRef<IndexTerm> rows = access.rowTerms;
  bool contiguous = !rows.empty() && rows[0].div == 1 && rows[0].stride == 1 &&
                    (rows.size() == 1 || rows[0].mod % piece == 0);
  return contiguous && fits(rows.drop_front()) && fits(access.columnTerms) &&
                 access.columnStride % piece == 0 && access.offset % piece == 0
             ? piece
             : 1;
}

void KernelWriter::storeTurned(unsigned index) {
  const AccessMap &access = model.results[index].access;
  int64_t bytes = getElementBytes(resultElement(index));
  int64_t piece = getPiece(access, bytes), pieces = kRows / piece;
  std::string columns =
      hasOneTile() ? std::to_string(model.columns) : "(last - first)";
  w.open("for (int64_t i = threadIdx.x; i < " + columns + " * " +
         Twine(pieces) + "; i += " + Twine(launch.block) + ") {");
  w.assign("const int64_t c", firstColumn() + "i / " + Twine(pieces));
  w.assign("const int64_t row", "begin + i % " + Twine(pieces) +
                                    (piece > 1 ? " * " + Twine(piece) : ""));
  std::string from = "turned" + std::to_string(index);
  std::string offset = columnOfTile() + " * " +
                       std::to_string(getTurnedPitch(bytes)) + " + row - begin";
  std::string to = elementIndex(access, /*inRow=*/false);
  if (piece > 1) {
    w.list("mpt::storePiece",
           {from + " + " + offset, result(index) + " + " + to, "end - row"},
           ";");
  } else {
    w.line("if (row < end)");
    w.assign("  " + result(index) + "[" + to + "]", from + "[" + offset + "]");
  }
  w.close();
}
