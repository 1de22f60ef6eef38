//===- DelayedScales.cpp - scales that are kept between steps -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See DelayedScales.h and docs/precision.md.
//
//===----------------------------------------------------------------------===//

#include "DelayedScales.h"
#include "mpt/Numerics/Scales.h"

using namespace mlir;
using namespace mpt;

namespace {

/// Builds named scalar and elementwise ops.
struct NamedBuilder {
  OpBuilder &b;
  Location loc;
  std::string name;

  template <typename Op, typename... Args> Value make(Args &&...args) {
    auto op = Op::create(b, loc, std::forward<Args>(args)...);
    setStableName(op, name);
    return op->getResult(0);
  }
  Value constant(float value) { return ConstantOp::scalar(b, loc, value); }
  RankedTensorType f32(ArrayRef<int64_t> shape = {}) {
    return RankedTensorType::get(shape, b.getF32Type());
  }
};

} // namespace

LogicalResult DelayedScales::add(CastOp cast, double amax) {
  FormatAttr format = cast.getFormat();
  auto [it, isNew] = known.try_emplace(
      {cast.getX(), static_cast<int>(format.getStorage())}, states.size());
  if (isNew)
    states.push_back({format, getValueName(cast.getX()).str(), 0});
  stateOf[cast] = it->second;
  State &state = states[it->second];
  if (state.format.getHistory() != format.getHistory() ||
      state.format.getMargin() != format.getMargin())
    return cast.emitOpError()
           << "named '" << getStableName(cast)
           << "': one value and storage have one delayed scale, found "
           << state.format << " and " << format;
  if (amax <= std::numeric_limits<float>::max()) // neither infinite nor NaN
    state.profiled = std::max(state.profiled, amax);
  return success();
}

/// The scale that an amax gives; 1 if it is 0.
static double firstScale(FormatAttr format, float amax) {
  Type storage = getStorageType(format.getContext(), format.getStorage());
  return num::scaleOr(amax, getStorageMax(storage, format.getMargin()), 1.0f);
}

void DelayedScales::addArguments(SmallVectorImpl<NewArgument> &arguments) {
  Type f32 = Float32Type::get(func.getContext());
  unsigned next = func.getNumArguments();
  auto addState = [&](ArrayRef<int64_t> shape, const Twine &name, double init) {
    arguments.push_back({RankedTensorType::get(shape, f32), name.str(),
                         Kind::ScaleState, init});
    return next++;
  };
  for (State &state : states) {
    StringRef storage = stringifyStorage(state.format.getStorage());
    int64_t length = state.format.getHistory();
    auto amax = static_cast<float>(state.profiled);
    state.scale = addState({}, state.valueName + "/scale." + storage,
                           firstScale(state.format, amax));
    state.history =
        addState({length}, state.valueName + "/amax_history." + storage, amax);
    if (length > 1)
      positions.try_emplace(length, 0);
  }
  for (auto &[length, argument] : positions)
    argument = addState({}, "amax_history.position." + Twine(length), 0);
}

/// Writes this step's amax over the oldest of the ring, and takes the next
/// step's scale from the largest in it.
void DelayedScales::updateOne(OpBuilder &builder, const State &state,
                              Value skip, AddResult addResult) {
  int64_t length = state.format.getHistory();
  std::string storage = stringifyStorage(state.format.getStorage()).str();
  Value history = func.getArgument(state.history);
  Value scale = func.getArgument(state.scale);
  NamedBuilder b{builder, func.getLoc(),
                 state.valueName + "/amax_history." + storage};
  Value next;
  if (length == 1) {
    next = b.make<ReshapeOp>(b.f32({1}), state.amax);
  } else {
    Value index =
        b.make<IotaOp>(RankedTensorType::get({length}, builder.getI32Type()));
    Value here = b.make<CompareOp>(
        Predicate::EQ, b.make<ConvertOp>(b.f32({length}), index),
        Value(func.getArgument(positions.lookup(length))));
    next = b.make<SelectOp>(here, state.amax, history);
  }
  next = b.make<SelectOp>(skip, history, next);
  std::string historyName = b.name;
  b.name = state.valueName + "/scale." + storage;
  Value largest = next;
  if (length > 1)
    largest = b.make<ReduceOp>(Reduction::AbsMax, next, ArrayRef<int64_t>{0});
  largest = b.make<ReshapeOp>(b.f32(), largest);
  Type element =
      getStorageType(builder.getContext(), state.format.getStorage());
  Value nextScale =
      b.make<ScaleOp>(largest, scale, element, state.format.getMargin());
  addResult(b.make<SelectOp>(skip, scale, nextScale), b.name, state.scale);
  addResult(next, historyName, state.history);
}

void DelayedScales::update(OpBuilder &builder, Value skip,
                           AddResult addResult) {
  for (const State &state : states)
    updateOne(builder, state, skip, addResult);
  for (auto [length, argument] : positions) {
    NamedBuilder b{builder, func.getLoc(),
                   "amax_history.position." + std::to_string(length)};
    Value position = func.getArgument(argument);
    Value next = b.make<AddOp>(position, b.constant(1.0f));
    Value end =
        b.make<CompareOp>(Predicate::GE, next, b.constant(float(length)));
    next = b.make<SelectOp>(end, b.constant(0.0f), next);
    addResult(b.make<SelectOp>(skip, position, next), b.name, argument);
  }
}
