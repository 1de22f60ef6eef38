//===- KernelEmitter.cpp - a kernel's model as an LLVM dialect function ---===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Rows outside, phases in a row, 32 lanes at a time in a phase. What is the
// same for a whole row (index arithmetic, row reductions and what follows from
// them) is computed once per row as scalars. The last C % 32 columns are a
// block of their own, so the main loops need no masks.
//
//===----------------------------------------------------------------------===//

#include "KernelEmitter.h"
#include "VectorEmitter.h"
#include "mpt/Numerics/Math.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cpu;

namespace {

/// Index arithmetic of one access in the current row.
struct RowAccess {
  Value base; ///< offset and row terms, i64
  int64_t stride = 0;
  int64_t alignment = 1; ///< `base` is a multiple of it
  ArrayRef<IndexTerm> columnTerms = {};
};

class KernelEmitter {
public:
  KernelEmitter(const KernelModel &model, ModuleOp module)
      : model(model), kernel(model.function),
        code{OpBuilder::atBlockEnd(module.getBody()), model.function->getLoc()},
        emitter(code) {}

  void run();

private:
  using LoopBody = llvm::function_ref<SmallVector<Value>(Value, ValueRange)>;
  SmallVector<Value> loop(Value lower, Value upper, int64_t step,
                          ValueRange inits, LoopBody body);
  void branchIf(Value condition, llvm::function_ref<void()> body);

  void emitRows(Value begin, Value end);
  void emitChunks(Value begin, Value end);
  void emitColumnRange(Value begin, Value end);
  void emitRow(Value row, Value chunk);
  void enterRow(Value row);
  void prepare(unsigned phase);
  void emitPhase(unsigned phase, Value lower, Value upper, bool split);
  SmallVector<Value> emitLanes(unsigned phase, Value column,
                               ValueRange running);
  void emitSinks();
  void finishReductions(const KernelPhase &phase, ValueRange lanes);
  void storePerRow(Value row, Value chunk);
  void clearChunks(Value chunk);

  Typed lanes(NodeUse use);
  Typed rowValue(NodeUse use) { return rowValues[use.node][use.result]; }
  SmallVector<Typed, 3> evaluate(unsigned id, bool inRow);
  Typed evaluateConstant(const KernelNode &node);
  Typed evaluateLeading(unsigned id, bool inRow);
  RowAccess rowAccess(const AccessMap &access);
  LaneIndex laneIndex(const RowAccess &access, bool inRow);
  Value addTerm(Value sum, Value index, IndexTerm term, int64_t limit);

  Type memoryType(Type element);
  Value pointer(Value base, Type type, Value index) {
    return code.make<LLVM::GEPOp>(
        LLVM::LLVMPointerType::get(code.b.getContext()), type, base,
        ArrayRef<LLVM::GEPArg>{index});
  }
  Typed load(Value base, Type element, const RowAccess &access, bool inRow);
  Value loadVector(Type type, Value address);
  void storeVector(Value vector, Value address);
  void storeTransposed(Value vector, Value base, const AccessMap &access);
  Value laneAddresses(Value base, Type type, const LaneIndex &index);
  Value fromMemory(Value loaded, Type element);
  Value toMemory(Value value, Type element);
  int64_t tail() const { return model.columns % kLanes; }
  Value combine(Reduction kind, Value running, Value x);
  Value identityOf(Reduction kind, Type type);

  const KernelModel &model;
  func::FuncOp kernel;
  Code code;
  VectorEmitter emitter;
  SmallVector<Value> pointers;       ///< arguments, then results
  DenseMap<unsigned, Value> buffers; ///< row buffers by node
  Value row, chunk, column;
  Value mask; ///< lanes in use, in the tail
  const KernelPhase *phase = nullptr;
  SmallVector<SmallVector<Typed, 3>> rowValues, laneValues;
  SmallVector<RowAccess> accesses, indices, lastIndices;
  SmallVector<bool> prepared;
};

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

/// for (iv = lower; iv < upper; iv += step), carrying values.
SmallVector<Value> KernelEmitter::loop(Value lower, Value upper, int64_t step,
                                       ValueRange inits, LoopBody body) {
  OpBuilder &b = code.b;
  Block *before = b.getInsertionBlock();
  Region *region = before->getParent();
  SmallVector<Type> types{b.getI64Type()};
  llvm::append_range(types, inits.getTypes());
  SmallVector<Location> locations(types.size(), code.loc);
  Block *header = b.createBlock(region, region->end(), types, locations);
  Block *inside = b.createBlock(region, region->end());
  Block *after = b.createBlock(region, region->end());
  b.setInsertionPointToEnd(before);
  SmallVector<Value> entry{lower};
  llvm::append_range(entry, inits);
  LLVM::BrOp::create(b, code.loc, entry, header);
  b.setInsertionPointToEnd(header);
  Value iv = header->getArgument(0);
  Value more = code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::slt, iv, upper);
  LLVM::CondBrOp::create(b, code.loc, more, inside, after);
  b.setInsertionPointToEnd(inside);
  SmallVector<Value> carried(header->getArguments().drop_front());
  SmallVector<Value> next = body(iv, carried);
  next.insert(next.begin(), code.make<LLVM::AddOp>(iv, code.i64(step)));
  LLVM::BrOp::create(b, code.loc, next, header);
  b.setInsertionPointToEnd(after);
  return carried;
}

void KernelEmitter::branchIf(Value condition, llvm::function_ref<void()> body) {
  OpBuilder &b = code.b;
  Block *before = b.getInsertionBlock();
  Region *region = before->getParent();
  Block *inside = b.createBlock(region, region->end());
  Block *after = b.createBlock(region, region->end());
  b.setInsertionPointToEnd(before);
  LLVM::CondBrOp::create(b, code.loc, condition, inside, after);
  b.setInsertionPointToEnd(inside);
  body();
  LLVM::BrOp::create(b, code.loc, ValueRange(), after);
  b.setInsertionPointToEnd(after);
}

void KernelEmitter::run() {
  OpBuilder &b = code.b;
  MLIRContext *context = b.getContext();
  Type i64 = b.getI64Type(), ptr = LLVM::LLVMPointerType::get(context);
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                          {ptr, i64, i64});
  auto function = LLVM::LLVMFuncOp::create(b, code.loc, kernel.getName(), type);
  Block *entry = function.addEntryBlock(b);
  b.setInsertionPointToStart(entry);
  unsigned count = kernel.getNumArguments() + kernel.getNumResults();
  for (unsigned i = 0; i < count; ++i) {
    Value slot = pointer(entry->getArgument(0), ptr, code.i64(i));
    pointers.push_back(code.make<LLVM::LoadOp>(ptr, slot, 8));
  }
  int64_t length = llvm::alignTo(model.columns, kLanes);
  for (const KernelPhase &each : model.phases)
    for (NodeUse use : each.kept)
      buffers[use.node] = code.make<LLVM::AllocaOp>(
          ptr, b.getF32Type(), code.i64(length), /*alignment=*/64);
  Value begin = entry->getArgument(1), end = entry->getArgument(2);
  if (model.rows == 1 && model.tasks > 1)
    emitColumnRange(begin, end);
  else if (model.hasChunks())
    emitChunks(begin, end);
  else
    emitRows(begin, end);
  LLVM::ReturnOp::create(b, code.loc, ValueRange());
}

/// min(x, limit)
static Value atMost(Code &code, Value x, int64_t limit) {
  Value bound = code.i64(limit);
  Value less = code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::slt, x, bound);
  return code.make<LLVM::SelectOp>(less, x, bound);
}

void KernelEmitter::emitRows(Value begin, Value end) {
  Value perTask = code.i64(model.rowsPerTask);
  Value first = code.make<LLVM::MulOp>(begin, perTask);
  Value last = atMost(code, code.make<LLVM::MulOp>(end, perTask), model.rows);
  loop(first, last, 1, {}, [&](Value iv, ValueRange) {
    emitRow(iv, Value());
    return SmallVector<Value>();
  });
}

void KernelEmitter::emitChunks(Value begin, Value end) {
  loop(begin, end, 1, {}, [&](Value task, ValueRange) {
    clearChunks(task);
    Value perTask = code.i64(model.rowsPerTask);
    Value first = code.make<LLVM::MulOp>(task, perTask);
    Value last =
        atMost(code, code.make<LLVM::AddOp>(first, perTask), model.rows);
    loop(first, last, 1, {}, [&](Value iv, ValueRange) {
      emitRow(iv, task);
      return SmallVector<Value>();
    });
    return SmallVector<Value>();
  });
}

/// Columns of the only row: tasks are ranges of them.
void KernelEmitter::emitColumnRange(Value begin, Value end) {
  Value perTask = code.i64(model.columnsPerTask);
  Value first = code.make<LLVM::MulOp>(begin, perTask);
  Value last =
      atMost(code, code.make<LLVM::MulOp>(end, perTask), model.columns);
  enterRow(code.i64(0));
  prepare(0);
  emitPhase(0, first, last, /*split=*/true);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

void KernelEmitter::enterRow(Value index) {
  row = index;
  rowValues.assign(model.nodes.size(), {});
  accesses.assign(model.nodes.size(), {});
  indices.assign(model.nodes.size(), {});
  lastIndices.assign(model.nodes.size(), {});
  prepared.assign(model.nodes.size(), false);
}

void KernelEmitter::emitRow(Value index, Value chunkIndex) {
  enterRow(index);
  chunk = chunkIndex;
  for (unsigned i = 0; i < model.phases.size(); ++i) {
    prepare(i);
    emitPhase(i, code.i64(0), code.i64(model.columns), /*split=*/false);
  }
  prepare(model.phases.size());
  storePerRow(index, chunkIndex);
}

/// What the loops of `phase` need from the row: per-row values and the index
/// arithmetic of per-column ones.
void KernelEmitter::prepare(unsigned phase) {
  for (auto [id, node] : llvm::enumerate(model.nodes)) {
    if (prepared[id] || node.phase > phase || node.kind == NodeKind::RowReduce)
      continue;
    prepared[id] = true;
    accesses[id] = rowAccess(node.access);
    indices[id] = rowAccess(node.index);
    lastIndices[id] = rowAccess(node.lastIndex);
    if (node.kind == NodeKind::Gather) {
      Value id64 = rowValue(node.operands[0]).value;
      if (!id64.getType().isInteger(64))
        id64 = code.make<LLVM::SExtOp>(code.b.getI64Type(), id64);
      Value table = code.make<LLVM::MulOp>(id64, code.i64(node.stride));
      accesses[id].base = code.make<LLVM::AddOp>(accesses[id].base, table);
    }
    if (node.perRow)
      rowValues[id] = evaluate(id, /*inRow=*/true);
  }
}

RowAccess KernelEmitter::rowAccess(const AccessMap &access) {
  RowAccess result;
  result.stride = access.columnStride;
  result.base = code.i64(access.offset);
  result.columnTerms = access.columnTerms;
  result.alignment = access.offset ? access.offset & -access.offset : 64;
  for (const IndexTerm &term : access.rowTerms) {
    result.base = addTerm(result.base, row, term, model.rows);
    result.alignment = std::min(result.alignment, term.stride & -term.stride);
  }
  return result;
}

/// sum + ((index / div) % mod) * stride (i64), for an index below `limit`.
Value KernelEmitter::addTerm(Value sum, Value index, IndexTerm term,
                             int64_t limit) {
  auto constant = [&](int64_t value) {
    return code.constantInt(index.getType(), value);
  };
  Value digit = index;
  if (term.div != 1)
    digit = code.make<LLVM::UDivOp>(digit, constant(term.div));
  if (term.div * term.mod < limit)
    digit = code.make<LLVM::URemOp>(digit, constant(term.mod));
  if (!getElementTypeOrSelf(digit.getType()).isInteger(64))
    digit = code.convert<LLVM::ZExtOp>(digit, code.b.getI64Type());
  Value stride = code.constantInt(digit.getType(), term.stride);
  return code.make<LLVM::AddOp>(sum, code.make<LLVM::MulOp>(digit, stride));
}

void KernelEmitter::storePerRow(Value index, Value chunkIndex) {
  for (auto [i, result] : llvm::enumerate(model.results)) {
    bool sums = result.kind == ResultKind::ChunkPerRow;
    if (!sums && result.kind != ResultKind::PerRow)
      continue;
    Typed x = rowValue(result.value);
    Type type = memoryType(x.element);
    Value address = pointer(pointers[kernel.getNumArguments() + i], type,
                            sums ? chunkIndex : index);
    Value value = toMemory(x.value, x.element);
    unsigned alignment = type.getIntOrFloatBitWidth() / 8;
    if (sums)
      value = code.make<LLVM::FAddOp>(
          code.make<LLVM::LoadOp>(type, address, alignment), value);
    LLVM::StoreOp::create(code.b, code.loc, value, address, alignment);
  }
}

/// Zeros where the rows of a chunk will be summed.
void KernelEmitter::clearChunks(Value chunkIndex) {
  Type f32 = code.b.getF32Type();
  Value zeros = code.constantF32(VectorType::get({kLanes}, f32), 0.0f);
  for (auto [i, result] : llvm::enumerate(model.results)) {
    Value base = pointers[kernel.getNumArguments() + i];
    if (result.kind == ResultKind::ChunkPerRow)
      LLVM::StoreOp::create(code.b, code.loc, code.constantF32(f32, 0.0f),
                            pointer(base, f32, chunkIndex), 4);
    if (result.kind != ResultKind::Chunk)
      continue;
    Value start = pointer(
        base, f32, code.make<LLVM::MulOp>(chunkIndex, code.i64(model.columns)));
    loop(code.i64(0), code.i64(model.columns - tail()), kLanes, {},
         [&](Value iv, ValueRange) {
           storeVector(zeros, pointer(start, f32, iv));
           return SmallVector<Value>();
         });
    for (int64_t c = model.columns - tail(); c < model.columns; ++c)
      LLVM::StoreOp::create(code.b, code.loc, code.constantF32(f32, 0.0f),
                            pointer(start, f32, code.i64(c)), 4);
  }
}

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

static Reduction kindOf(const KernelNode &node) {
  return cast<ReduceOp>(node.op).getKind();
}

/// The loop over columns [lower, upper); `split` if that may be a part of them.
void KernelEmitter::emitPhase(unsigned index, Value lower, Value upper,
                              bool split) {
  phase = &model.phases[index];
  SmallVector<Value> running;
  auto type = VectorType::get({kLanes}, code.b.getF32Type());
  for (unsigned id : phase->reductions)
    running.push_back(identityOf(kindOf(model.nodes[id]), type));
  int64_t whole = model.columns - tail();
  if (whole > 0) {
    Value bound = split ? atMost(code, upper, whole) : code.i64(whole);
    running = loop(lower, bound, kLanes, running, [&](Value iv, ValueRange xs) {
      return emitLanes(index, iv, xs);
    });
  }
  auto emitTail = [&] {
    SmallVector<bool> used(kLanes);
    for (int64_t lane = 0; lane < kLanes; ++lane)
      used[lane] = lane < tail();
    auto maskType = VectorType::get({kLanes}, code.b.getI1Type());
    mask = code.make<LLVM::ConstantOp>(maskType,
                                       DenseElementsAttr::get(maskType, used));
    running = emitLanes(index, code.i64(whole), running);
    mask = Value();
  };
  if (tail() && split)
    branchIf(code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::sgt, upper,
                                     code.i64(whole)),
             emitTail);
  else if (tail())
    emitTail();
  finishReductions(*phase, running);
}

/// 32 columns from `at`; returns the reductions' lanes.
SmallVector<Value> KernelEmitter::emitLanes(unsigned index, Value at,
                                            ValueRange running) {
  column = at;
  laneValues.assign(model.nodes.size(), {});
  SmallVector<Value> next;
  for (auto [id, before] : llvm::zip(phase->reductions, running)) {
    const KernelNode &node = model.nodes[id];
    Value x = emitter.spread(lanes(node.operands[0]).value);
    Value after = combine(kindOf(node), before, x);
    if (mask)
      after = code.make<LLVM::SelectOp>(mask, after, before);
    next.push_back(after);
  }
  for (NodeUse use : phase->kept)
    LLVM::StoreOp::create(
        code.b, code.loc, lanes(use).value,
        pointer(buffers[use.node], code.b.getF32Type(), column), 64);
  if (index + 1 == model.phases.size())
    emitSinks();
  return next;
}

/// Stores and chunk sums, after all loads of the position.
void KernelEmitter::emitSinks() {
  SmallVector<Value> values(model.results.size());
  auto isPerColumn = [](const KernelResult &result) {
    return !isPerRow(result.kind);
  };
  for (auto [i, result] : llvm::enumerate(model.results))
    if (isPerColumn(result)) {
      Typed x = lanes(result.value);
      values[i] = toMemory(emitter.spread(x.value), x.element);
    }
  Value columns = code.i64(model.columns);
  for (auto [i, result] : llvm::enumerate(model.results)) {
    if (!isPerColumn(result))
      continue;
    if (result.kind == ResultKind::Transposed) {
      storeTransposed(values[i], pointers[kernel.getNumArguments() + i],
                      result.access);
      continue;
    }
    bool sums = result.kind == ResultKind::Chunk;
    Value start = code.make<LLVM::MulOp>(sums ? chunk : row, columns);
    Value address = pointer(pointers[kernel.getNumArguments() + i],
                            getElementTypeOrSelf(values[i].getType()),
                            code.make<LLVM::AddOp>(start, column));
    Value value = values[i];
    if (sums)
      value =
          code.make<LLVM::FAddOp>(loadVector(value.getType(), address), value);
    storeVector(value, address);
  }
}

Value KernelEmitter::identityOf(Reduction kind, Type type) {
  return code.constantF32(type, kind == Reduction::Max
                                    ? -std::numeric_limits<float>::infinity()
                                    : 0.0f);
}

Value KernelEmitter::combine(Reduction kind, Value running, Value x) {
  F32V a{{&code, running}}, b{{&code, x}};
  switch (kind) {
  case Reduction::Sum:
    return (a + b).v;
  case Reduction::Max:
    return num::maxOf(a, b).v;
  case Reduction::AbsMax:
    return num::maxOf(a, abs(b)).v;
  }
  llvm_unreachable("all reductions are listed");
}

/// The lanes' tree: v[i] + v[i + 16], then + 8, + 4, + 2, + 1.
void KernelEmitter::finishReductions(const KernelPhase &phase,
                                     ValueRange lanes) {
  for (auto [id, running] : llvm::zip(phase.reductions, lanes)) {
    Reduction kind = kindOf(model.nodes[id]);
    Value v = running;
    for (int32_t width = kLanes / 2; width >= 1; width /= 2) {
      auto low = llvm::to_vector(llvm::seq<int32_t>(0, width));
      auto high = llvm::to_vector(llvm::seq<int32_t>(width, 2 * width));
      Value a = code.make<LLVM::ShuffleVectorOp>(v, v, low);
      Value b = code.make<LLVM::ShuffleVectorOp>(v, v, high);
      v = combine(kind, a, b);
    }
    Value sum = code.make<LLVM::ExtractElementOp>(v, code.i64(0));
    rowValues[id] = {Typed{sum, code.b.getF32Type()}};
    prepared[id] = true;
  }
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

/// A value in the current column loop (a scalar if it is the same for the row).
Typed KernelEmitter::lanes(NodeUse use) {
  if (model.nodes[use.node].perRow)
    return rowValue(use);
  auto &values = laneValues[use.node];
  if (values.empty()) {
    bool reused = llvm::any_of(
        phase->reused, [&](NodeUse other) { return other.node == use.node; });
    if (reused) {
      Type type = VectorType::get({kLanes}, code.b.getF32Type());
      Value address = pointer(buffers[use.node], code.b.getF32Type(), column);
      values = {Typed{code.make<LLVM::LoadOp>(type, address, 64),
                      code.b.getF32Type()}};
    } else {
      SmallVector<Typed, 3> evaluated = evaluate(use.node, /*inRow=*/false);
      laneValues[use.node] = evaluated;
    }
  }
  return laneValues[use.node][use.result];
}

SmallVector<Typed, 3> KernelEmitter::evaluate(unsigned id, bool inRow) {
  const KernelNode &node = model.nodes[id];
  switch (node.kind) {
  case NodeKind::Constant:
    return {evaluateConstant(node)};
  case NodeKind::Argument:
  case NodeKind::Gather:
    return {load(pointers[node.argument], model.getElementType({id, 0}),
                 accesses[id], inRow)};
  case NodeKind::LeadingReduce:
    return {evaluateLeading(id, inRow)};
  case NodeKind::RowReduce:
    break;
  case NodeKind::Scalar: {
    SmallVector<Typed> operands;
    for (NodeUse use : node.operands)
      operands.push_back(inRow ? rowValue(use) : lanes(use));
    return emitter.emit(cast<ScalarBodyOpInterface>(node.op), operands,
                        laneIndex(indices[id], inRow),
                        laneIndex(lastIndices[id], inRow));
  }
  }
  llvm_unreachable("row reductions are made by loops");
}

Typed KernelEmitter::evaluateConstant(const KernelNode &node) {
  auto value = cast<SplatElementsAttr>(cast<ConstantOp>(node.op).getValue());
  Type element = value.getElementType();
  if (isa<FloatType>(element) && !element.isF32()) { // a code
    APInt bits = value.getSplatValue<APFloat>().bitcastToAPInt();
    return {code.constantInt(code.b.getI32Type(), bits.getZExtValue()),
            element};
  }
  if (element.isInteger(8))
    return {code.constantInt(code.b.getI32Type(),
                             value.getSplatValue<APInt>().getZExtValue()),
            element};
  return {
      code.constant(element, cast<TypedAttr>(value.getSplatValue<Attribute>())),
      element};
}

Typed KernelEmitter::evaluateLeading(unsigned id, bool inRow) {
  const KernelNode &node = model.nodes[id];
  Type f32 = code.b.getF32Type();
  bool vector = !inRow && !node.perRow;
  Type type = vector ? Type(VectorType::get({kLanes}, f32)) : f32;
  Reduction kind = kindOf(node);
  auto sums =
      loop(code.i64(0), code.i64(node.length), 1, identityOf(kind, type),
           [&](Value k, ValueRange running) {
             RowAccess access = accesses[id];
             Value offset = code.make<LLVM::MulOp>(k, code.i64(node.stride));
             access.base = code.make<LLVM::AddOp>(access.base, offset);
             Value x = load(pointers[node.argument], f32, access, inRow).value;
             return SmallVector<Value>{
                 combine(kind, running[0], vector ? emitter.spread(x) : x)};
           });
  return {sums[0], f32};
}

/// The index of the lanes at the current column.
LaneIndex KernelEmitter::laneIndex(const RowAccess &access, bool inRow) {
  if (inRow || (access.stride == 0 && access.columnTerms.empty()))
    return {access.base, 0, access.alignment, Value()};
  int64_t alignment = std::min(access.alignment, kLanes);
  if (access.columnTerms.empty())
    return {addTerm(access.base, column, {1, model.columns, access.stride},
                    model.columns),
            access.stride, alignment, Value()};
  // 32 columns of one segment lie at one stride.
  LaneIndex index{access.base, 0, 1, Value()};
  bool whole = llvm::all_of(access.columnTerms, [](const IndexTerm &term) {
    return term.div % kLanes == 0 || (term.div == 1 && term.mod % kLanes == 0);
  });
  if (!whole)
    index.lanes = emitter.spread(access.base);
  Value lanes; // in 32 bits, where division is cheap
  if (!whole)
    lanes = code.convert<LLVM::TruncOp>(
        code.make<LLVM::AddOp>(emitter.spread(column),
                               emitter.laneNumbers(kLanes, 1)),
        code.b.getI32Type());
  for (const IndexTerm &term : access.columnTerms) {
    if (!whole) {
      index.lanes = addTerm(index.lanes, lanes, term, 2 * model.columns);
      continue;
    }
    index.base = addTerm(index.base, column, term, model.columns);
    if (term.div == 1)
      index.stride = term.stride;
  }
  return index;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// How an element lies in memory: codes as integers, i1 in a byte.
Type KernelEmitter::memoryType(Type element) {
  if (element.isF32() || element.isInteger(32) || element.isInteger(64))
    return element;
  return element.isBF16() ? code.b.getI16Type() : code.b.getI8Type();
}

Value KernelEmitter::fromMemory(Value loaded, Type element) {
  if (element.isInteger(1))
    return code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::ne, loaded,
                                   code.constantInt(loaded.getType(), 0));
  if (memoryType(element) == element && !element.isInteger(8))
    return loaded;
  return code.convert<LLVM::ZExtOp>(loaded, code.b.getI32Type());
}

Value KernelEmitter::toMemory(Value value, Type element) {
  if (element.isInteger(1))
    return code.convert<LLVM::ZExtOp>(value, code.b.getI8Type());
  if (memoryType(element) == element && !element.isInteger(8))
    return value;
  return code.convert<LLVM::TruncOp>(value, memoryType(element));
}

Typed KernelEmitter::load(Value base, Type element, const RowAccess &access,
                          bool inRow) {
  Type type = memoryType(element);
  unsigned alignment = type.getIntOrFloatBitWidth() / 8;
  LaneIndex index = laneIndex(access, inRow);
  if (!index.lanes && index.stride == 0) {
    Value address = pointer(base, type, index.base);
    return {
        fromMemory(code.make<LLVM::LoadOp>(type, address, alignment), element),
        element};
  }
  auto vector = VectorType::get({kLanes}, type);
  if (!index.lanes && index.stride == 1)
    return {fromMemory(loadVector(vector, pointer(base, type, index.base)),
                       element),
            element};
  Value addresses = laneAddresses(base, type, index);
  Value zeros = type.isF32() ? code.constantF32(vector, 0.0f)
                             : code.constantInt(vector, 0);
  Value active =
      mask ? mask
           : code.constantInt(VectorType::get({kLanes}, code.b.getI1Type()), 1);
  Value loaded = code.make<LLVM::masked_gather>(
      vector, addresses, active, zeros, code.b.getI32IntegerAttr(alignment));
  return {fromMemory(loaded, element), element};
}

/// The lanes' addresses, where they do not follow each other.
Value KernelEmitter::laneAddresses(Value base, Type type,
                                   const LaneIndex &index) {
  Value offsets =
      index.lanes
          ? index.lanes
          : code.make<LLVM::AddOp>(emitter.spread(index.base),
                                   emitter.laneNumbers(kLanes, index.stride));
  auto ptrs = VectorType::get({kLanes},
                              LLVM::LLVMPointerType::get(code.b.getContext()));
  return LLVM::GEPOp::create(code.b, code.loc, ptrs, type, base,
                             ArrayRef<LLVM::GEPArg>{offsets});
}

/// Stores lane by lane.
void KernelEmitter::storeTransposed(Value vector, Value base,
                                    const AccessMap &access) {
  Type type = getElementTypeOrSelf(vector.getType());
  LaneIndex index = laneIndex(rowAccess(access), /*inRow=*/false);
  Value active =
      mask ? mask
           : code.constantInt(VectorType::get({kLanes}, code.b.getI1Type()), 1);
  LLVM::masked_scatter::create(
      code.b, code.loc, vector, laneAddresses(base, type, index), active,
      code.b.getI32IntegerAttr(type.getIntOrFloatBitWidth() / 8));
}

Value KernelEmitter::loadVector(Type type, Value address) {
  Type element = getElementTypeOrSelf(type);
  unsigned alignment = element.getIntOrFloatBitWidth() / 8;
  if (!mask)
    return code.make<LLVM::LoadOp>(type, address, alignment);
  Value zeros = element.isF32() ? code.constantF32(type, 0.0f)
                                : code.constantInt(type, 0);
  return code.make<LLVM::MaskedLoadOp>(type, address, mask, zeros,
                                       code.b.getI32IntegerAttr(alignment),
                                       UnitAttr());
}

void KernelEmitter::storeVector(Value vector, Value address) {
  Type element = getElementTypeOrSelf(vector.getType());
  unsigned alignment = element.getIntOrFloatBitWidth() / 8;
  if (!mask)
    LLVM::StoreOp::create(code.b, code.loc, vector, address, alignment);
  else
    LLVM::MaskedStoreOp::create(code.b, code.loc, vector, address, mask,
                                code.b.getI32IntegerAttr(alignment));
}

} // namespace

void mpt::cpu::emitKernel(const KernelModel &model, ModuleOp module) {
  KernelEmitter(model, module).run();
}

int64_t mpt::cpu::getStackBytes(const KernelModel &model) {
  int64_t bytes = 0;
  for (const KernelPhase &phase : model.phases)
    bytes += phase.kept.size() * llvm::alignTo(model.columns, kLanes) * 4;
  return bytes;
}
