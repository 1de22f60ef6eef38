//===- DelayedScales.h - scales that are kept between steps -----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The state of delayed scales: which casts share one, the arguments that it is
// in, and its update at the end of the step.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_DIALECT_MPT_TRANSFORMS_DELAYEDSCALES_H
#define MPT_LIB_DIALECT_MPT_TRANSFORMS_DELAYEDSCALES_H

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "llvm/ADT/MapVector.h"

namespace mpt {

/// Per value and storage a scale (f32) and a ring of its last amaxes
/// ([history]); per length of ring the place that is written next.
class DelayedScales {
public:
  explicit DelayedScales(mlir::func::FuncOp func) : func(func) {}

  /// Counts in a cast whose operand was at most `amax` in the profile (0: not
  /// known). Fails if another cast of the value and storage disagrees about
  /// history or margin.
  mlir::LogicalResult add(CastOp cast, double amax);
  /// The arguments that all casts need, to be added in front of any others.
  void addArguments(llvm::SmallVectorImpl<NewArgument> &arguments);
  /// The scale that `cast` multiplies by in this step.
  mlir::Value getScale(CastOp cast) {
    return func.getArgument(states[stateOf.lookup(cast)].scale);
  }
  /// The amax of what `cast` reads in this step.
  void setAmax(CastOp cast, mlir::Value amax) {
    states[stateOf.lookup(cast)].amax = amax;
  }
  /// Builds the state of the next step and hands each part to `addResult`, with
  /// its name and argument. Where `skip` is true nothing changes.
  using AddResult = llvm::function_ref<void(mlir::Value, const llvm::Twine &,
                                            unsigned argument)>;
  void update(mlir::OpBuilder &builder, mlir::Value skip, AddResult addResult);
  size_t size() const { return states.size(); }

private:
  struct State {
    FormatAttr format;
    std::string valueName;
    double profiled; ///< amax in the profile, or 0
    unsigned scale = 0, history = 0;
    mlir::Value amax = nullptr; ///< of this step
  };
  void updateOne(mlir::OpBuilder &builder, const State &state, mlir::Value skip,
                 AddResult addResult);

  mlir::func::FuncOp func;
  llvm::SmallVector<State> states;
  llvm::DenseMap<std::pair<mlir::Value, int>, unsigned> known;
  llvm::DenseMap<mlir::Operation *, unsigned> stateOf;
  /// The arguments that say where rings of each length stand.
  llvm::MapVector<int64_t, unsigned> positions;
};

} // namespace mpt

#endif // MPT_LIB_DIALECT_MPT_TRANSFORMS_DELAYEDSCALES_H
