//===- LaunchShape.cpp - who does what in an emitted kernel ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See LaunchShape.h. What is summed down the columns or written transposed
// wants the 64 rows of a chunk in one block; the rest a thread an element or a
// warp a row.
//
//===----------------------------------------------------------------------===//

#include "LaunchShape.h"
#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kMostBlocks = 4096;
/// Kept rows of one warp: beyond, they are computed anew. Beyond 48 KiB for a
/// block mpt::launch asks for more; sm_90 has 227.
constexpr int64_t kMostSharedPerWarp = 96 * 1024, kMostShared = 48 * 1024;
/// Warps of a block that takes 64 rows, and its shared memory: two blocks to a
/// multiprocessor where it keeps whole rows, four where it goes by tiles.
constexpr int64_t kBlockWarps = 8;
constexpr int64_t kMostSharedRows = 112 * 1024, kMostSharedTiles = 56 * 1024;
constexpr int64_t kMostTile = 128;

bool hasRowReduction(const KernelModel &model) {
  return llvm::any_of(model.nodes, [](const KernelNode &node) {
    return node.kind == NodeKind::RowReduce;
  });
}

int64_t padded(int64_t columns) {
  return llvm::alignTo(columns, KernelModel::kLanes);
}

/// Collects the arrays of a block.
struct SharedMemory {
  const KernelModel &model;
  LaunchShape &launch;

  void add(SharedArray::Use use, unsigned index, int64_t elements,
           int64_t bytes = 4) {
    launch.arrays.push_back({use, index, elements, launch.sharedBytes});
    launch.sharedBytes += llvm::alignTo(elements * bytes, 16);
  }
  void addKept(int64_t warps) {
    for (const KernelPhase &phase : model.phases)
      for (NodeUse use : phase.kept) {
        add(SharedArray::Use::Kept, use.node, warps * padded(model.columns));
        launch.keepsRows = true;
      }
  }
  /// Arrays of the results, for `rows` rows and `columns` columns at a time.
  void addResults(int64_t rows, int64_t columns, bool sums) {
    using Use = SharedArray::Use;
    for (auto [i, result] : llvm::enumerate(model.results)) {
      if (result.kind == ResultKind::Chunk)
        add(Use::Stage, i, rows * columns);
      if (result.kind == ResultKind::Chunk && sums)
        add(Use::Sums, i, columns);
      if (result.kind == ResultKind::ChunkPerRow)
        add(Use::Stage, i, KernelModel::kChunkRows);
      if (result.kind == ResultKind::Transposed) {
        int64_t bytes = getElementBytes(model.getElementType(result.value));
        add(Use::Turned, i, columns * getTurnedPitch(bytes), bytes);
      }
    }
  }
};

/// A warp takes whole rows, as in WarpPerRow; nullopt if that takes too much
/// shared memory.
std::optional<LaunchShape> blockRows(const KernelModel &model) {
  for (int64_t warps = kBlockWarps; warps >= 2; warps /= 2) {
    LaunchShape launch;
    launch.shape = Shape::BlockRows;
    int64_t used = std::min(warps, model.rows);
    SharedMemory shared{model, launch};
    shared.addKept(used);
    shared.addResults(used, model.columns, /*sums=*/true);
    launch.block = used * 32;
    if (launch.sharedBytes <= kMostSharedRows || model.phases.empty())
      return launch;
  }
  return std::nullopt;
}

/// Some columns of all rows at a time: what fits whatever the columns are.
LaunchShape blockTiles(const KernelModel &model) {
  LaunchShape launch;
  int64_t rows = std::min(model.rows, KernelModel::kChunkRows);
  for (int64_t tile = kMostTile; tile >= 32; tile /= 2) {
    launch = {};
    launch.shape = Shape::BlockTiles;
    launch.block = std::min(kBlockWarps, model.rows) * 32;
    launch.tile = std::min(tile, padded(model.columns));
    int64_t tiles = llvm::divideCeil(model.columns, launch.tile);
    SharedMemory shared{model, launch};
    for (auto [i, phase] : llvm::enumerate(model.phases))
      for (unsigned id : phase.reductions) {
        if (i + 1 < model.phases.size())
          shared.add(SharedArray::Use::RowValue, id, rows);
        else if (tiles > 1)
          shared.add(SharedArray::Use::Lanes, id, rows * KernelModel::kLanes);
      }
    shared.addResults(rows, launch.tile, /*sums=*/false);
    launch.spreadsTiles =
        tiles > 1 && !hasRowReduction(model) && !model.hasPerRow();
    launch.gridY = launch.spreadsTiles ? tiles : 1;
    if (launch.sharedBytes <= kMostSharedTiles)
      break;
  }
  return launch;
}

LaunchShape blockShape(const KernelModel &model) {
  std::optional<LaunchShape> launch;
  if (model.phases.size() != 1)
    launch = blockRows(model);
  if (!launch)
    launch = blockTiles(model);
  launch->gridX = llvm::divideCeil(model.rows, KernelModel::kChunkRows);
  return *launch;
}

LaunchShape warpPerRow(const KernelModel &model) {
  LaunchShape launch;
  launch.shape = Shape::WarpPerRow;
  int64_t kept = 0;
  for (const KernelPhase &phase : model.phases)
    kept += phase.kept.size();
  int64_t perWarp = kept * padded(model.columns) * 4;
  int64_t warps = std::min<int64_t>(model.rows, kThreads / 32);
  if (perWarp > kMostSharedPerWarp)
    perWarp = 0;
  while (warps > 1 && warps * perWarp > kMostShared)
    --warps;
  launch.block = warps * 32;
  launch.gridX = llvm::divideCeil(model.rows, warps);
  if (perWarp > 0)
    SharedMemory{model, launch}.addKept(warps);
  return launch;
}

Shape chooseShape(const KernelModel &model) {
  bool reduces = hasRowReduction(model) || model.hasPerRow();
  if (model.hasTransposed() || (model.hasChunks() && reduces))
    return Shape::BlockTiles;
  if (model.hasChunks())
    return Shape::ThreadPerColumn;
  if (!hasRowReduction(model) && model.columns == 1)
    return Shape::ThreadPerRow;
  return !reduces && model.rows == 1 ? Shape::ThreadPerElement
                                     : Shape::WarpPerRow;
}

} // namespace

LaunchShape cuda::getLaunchShape(const KernelModel &model) {
  LaunchShape launch;
  launch.shape = chooseShape(model);
  int64_t threads =
      launch.shape == Shape::ThreadPerRow ? model.rows : model.columns;
  launch.block = std::min(llvm::alignTo(threads, 32), uint64_t(kThreads));
  launch.gridX = llvm::divideCeil(threads, launch.block);
  switch (launch.shape) {
  case Shape::ThreadPerElement:
    launch.gridX = std::min(launch.gridX, kMostBlocks);
    return launch;
  case Shape::ThreadPerRow:
    return launch;
  case Shape::ThreadPerColumn:
    launch.gridY = llvm::divideCeil(model.rows, KernelModel::kChunkRows);
    return launch;
  case Shape::WarpPerRow:
    return warpPerRow(model);
  case Shape::BlockRows:
  case Shape::BlockTiles:
    return blockShape(model);
  }
  llvm_unreachable("all shapes are listed");
}
