//===- VectorEmitter.cpp - scalar bodies as LLVM dialect ops --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See VectorEmitter.h. Arithmetic comes from the templates of
// include/mpt/Numerics, instantiated on LLVM dialect values.
//
//===----------------------------------------------------------------------===//

#include "VectorEmitter.h"
#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Math.h"
#include "mpt/Numerics/Philox.h"
#include "mpt/Numerics/Scales.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cpu;

static num::Format formatOf(Type storage) {
  if (storage.isBF16())
    return num::Format::BF16;
  if (isa<Float8E4M3FNType>(storage))
    return num::Format::E4M3;
  if (isa<Float8E5M2Type>(storage))
    return num::Format::E5M2;
  return storage.isInteger(8) ? num::Format::INT8 : num::Format::F32;
}

SmallVector<Typed, 3> VectorEmitter::emit(ScalarBodyOpInterface op,
                                          ArrayRef<Typed> operands,
                                          LaneIndex elementIndex,
                                          LaneIndex lastIndex) {
  index = elementIndex;
  last = lastIndex;
  slots.assign(operands.begin(), operands.end());
  SmallVector<Scalar> arguments, results;
  for (unsigned i = 0; i < operands.size(); ++i)
    arguments.push_back(Scalar{i});
  op.emitScalar(*this, arguments, results);
  SmallVector<Typed, 3> values;
  for (Scalar result : results)
    values.push_back(slots[result.id]);
  return values;
}

Value VectorEmitter::spread(Value value, int64_t lanes) {
  if (isa<VectorType>(value.getType()))
    return value;
  auto type = VectorType::get({lanes}, value.getType());
  Value none = code.make<LLVM::PoisonOp>(type);
  Value first = code.make<LLVM::InsertElementOp>(none, value, code.i64(0));
  return code.make<LLVM::ShuffleVectorOp>(first, none,
                                          SmallVector<int32_t>(lanes, 0));
}

Value VectorEmitter::laneNumbers(int64_t lanes, int64_t stride) {
  SmallVector<int64_t> numbers;
  for (int64_t lane = 0; lane < lanes; ++lane)
    numbers.push_back(lane * stride);
  auto type = VectorType::get({lanes}, code.b.getI64Type());
  return code.make<LLVM::ConstantOp>(
      type, DenseElementsAttr::get<int64_t>(type, numbers));
}

Value VectorEmitter::lanesOf(const LaneIndex &index) {
  if (index.lanes)
    return index.lanes;
  if (index.stride == 0)
    return index.base;
  return code.make<LLVM::AddOp>(spread(index.base),
                                laneNumbers(kLanes, index.stride));
}

void VectorEmitter::unify(MutableArrayRef<Scalar *> xs) {
  if (llvm::none_of(
          xs, [&](Scalar *x) { return isa<VectorType>(value(*x).getType()); }))
    return;
  for (Scalar *x : xs)
    if (!isa<VectorType>(value(*x).getType()))
      *x = add(spread(value(*x)), slots[x->id].element);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Scalar VectorEmitter::constant(float value) {
  return add(code.constantF32(code.b.getF32Type(), value), code.b.getF32Type());
}
Scalar VectorEmitter::constantInt(int64_t value) {
  return add(code.i64(value), code.b.getI64Type());
}

Scalar VectorEmitter::unary(UnaryFn fn, Scalar scalar) {
  F32V x = f32(scalar);
  switch (fn) {
  case UnaryFn::Neg:
    return add(-x);
  case UnaryFn::Exp:
    return add(num::exp(x));
  case UnaryFn::Log:
    return add(num::log(x));
  case UnaryFn::Sqrt:
    return add(sqrt(x));
  case UnaryFn::Tanh:
    return add(num::tanh(x));
  case UnaryFn::Erf:
    return add(num::erf(x));
  case UnaryFn::Gelu:
    return add(num::gelu(x));
  case UnaryFn::GeluGrad:
    return add(num::geluGrad(x));
  case UnaryFn::Abs:
    return add(abs(x));
  }
  llvm_unreachable("all functions are listed");
}

Scalar VectorEmitter::binary(BinaryFn fn, Scalar lhs, Scalar rhs) {
  Scalar *both[] = {&lhs, &rhs};
  unify(both);
  F32V a = f32(lhs), b = f32(rhs);
  switch (fn) {
  case BinaryFn::Add:
    return add(a + b);
  case BinaryFn::Sub:
    return add(a - b);
  case BinaryFn::Mul:
    return add(a * b);
  case BinaryFn::Div:
    return add(a / b);
  case BinaryFn::Max:
    return add(num::maxOf(a, b));
  }
  llvm_unreachable("all functions are listed");
}

Scalar VectorEmitter::fma(Scalar a, Scalar b, Scalar c) {
  Scalar *all[] = {&a, &b, &c};
  unify(all);
  return add(cpu::fma(f32(a), f32(b), f32(c)));
}

/// Whether each lane of first, first + 1, ... equals x (scalar, i64).
Value VectorEmitter::isLane(Value first, Value x) {
  Type i32 = code.b.getI32Type();
  Value lane = code.make<LLVM::SubOp>(x, first);
  Value inside =
      code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::ult, lane, code.i64(kLanes));
  lane = code.make<LLVM::SelectOp>(inside, lane, code.i64(kLanes));
  auto numbers = llvm::to_vector(llvm::seq<int32_t>(0, kLanes));
  auto type = VectorType::get({kLanes}, i32);
  Value lanes = code.make<LLVM::ConstantOp>(
      type, DenseElementsAttr::get<int32_t>(type, numbers));
  return code.make<LLVM::ICmpOp>(
      LLVM::ICmpPredicate::eq, lanes,
      spread(code.convert<LLVM::TruncOp>(lane, i32)));
}

Scalar VectorEmitter::compare(Predicate predicate, Scalar lhs, Scalar rhs) {
  using LLVM::FCmpPredicate, LLVM::ICmpPredicate;
  Scalar *both[] = {&lhs, &rhs};
  bool isFloat = slots[lhs.id].element.isF32();
  if (predicate == Predicate::EQ)
    for (auto [counter, x] : {std::pair(lhs, rhs), std::pair(rhs, lhs)})
      if (slots[counter.id].firstLane && !isa<VectorType>(value(x).getType()))
        return add(isLane(slots[counter.id].firstLane, value(x)),
                   code.b.getI1Type());
  unify(both);
  FCmpPredicate f = FCmpPredicate::oeq;
  ICmpPredicate i = ICmpPredicate::eq;
  switch (predicate) {
  case Predicate::EQ:
    break;
  case Predicate::NE:
    f = FCmpPredicate::une, i = ICmpPredicate::ne;
    break;
  case Predicate::LT:
    f = FCmpPredicate::olt, i = ICmpPredicate::slt;
    break;
  case Predicate::LE:
    f = FCmpPredicate::ole, i = ICmpPredicate::sle;
    break;
  case Predicate::GT:
    f = FCmpPredicate::ogt, i = ICmpPredicate::sgt;
    break;
  case Predicate::GE:
    f = FCmpPredicate::oge, i = ICmpPredicate::sge;
    break;
  }
  Value y = isFloat ? code.make<LLVM::FCmpOp>(f, value(lhs), value(rhs))
                    : code.make<LLVM::ICmpOp>(i, value(lhs), value(rhs));
  return add(y, code.b.getI1Type());
}

Scalar VectorEmitter::logicalAnd(Scalar lhs, Scalar rhs) {
  Scalar *both[] = {&lhs, &rhs};
  unify(both);
  return add(boolean(lhs) & boolean(rhs));
}
Scalar VectorEmitter::logicalOr(Scalar lhs, Scalar rhs) {
  Scalar *both[] = {&lhs, &rhs};
  unify(both);
  return add(boolean(lhs) | boolean(rhs));
}
Scalar VectorEmitter::logicalNot(Scalar x) { return add(!boolean(x)); }

Scalar VectorEmitter::select(Scalar condition, Scalar onTrue, Scalar onFalse) {
  Scalar *all[] = {&condition, &onTrue, &onFalse};
  unify(all);
  Type element = slots[onTrue.id].element;
  return add(code.make<LLVM::SelectOp>(value(condition), value(onTrue),
                                       value(onFalse)),
             element);
}

Scalar VectorEmitter::convert(Scalar scalar, Type to) {
  Value x = value(scalar);
  Type from = slots[scalar.id].element;
  if (from == to)
    return scalar;
  auto zero = [&] {
    return from.isF32() ? code.constantF32(x.getType(), 0.0f)
                        : code.constantInt(x.getType(), 0);
  };
  Value y;
  if (to.isInteger(1))
    y = from.isF32()
            ? code.make<LLVM::FCmpOp>(LLVM::FCmpPredicate::une, x, zero())
            : code.make<LLVM::ICmpOp>(LLVM::ICmpPredicate::ne, x, zero());
  else if (from.isInteger(1))
    y = to.isF32() ? code.convert<LLVM::UIToFPOp>(x, to)
                   : code.convert<LLVM::ZExtOp>(x, to);
  else if (from.isF32()) // out of range saturates, NaN gives 0
    y = LLVM::CallIntrinsicOp::create(
            code.b, code.loc, Code::shapedLike(x.getType(), to),
            code.b.getStringAttr("llvm.fptosi.sat"), ValueRange{x})
            .getResult(0);
  else if (to.isF32())
    y = code.convert<LLVM::SIToFPOp>(x, to);
  else if (to.getIntOrFloatBitWidth() > from.getIntOrFloatBitWidth())
    y = code.convert<LLVM::SExtOp>(x, to);
  else
    y = code.convert<LLVM::TruncOp>(x, to);
  return add(y, to);
}

Scalar VectorEmitter::columnIndex() {
  Scalar lanes = add(lanesOf(last), code.b.getI64Type());
  if (!last.lanes && last.stride == 1)
    slots.back().firstLane = last.base;
  return lanes;
}

//===----------------------------------------------------------------------===//
// Random bits
//===----------------------------------------------------------------------===//

/// Low and high half of i64 values.
static std::pair<U32V, U32V> halves(Code &code, Value x) {
  Type i32 = code.b.getI32Type();
  Value high = code.make<LLVM::LShrOp>(x, code.constantInt(x.getType(), 32));
  return {U32V{{&code, code.convert<LLVM::TruncOp>(x, i32)}},
          U32V{{&code, code.convert<LLVM::TruncOp>(high, i32)}}};
}

/// The words of 32 consecutive elements from a multiple of 4: eight draws.
U32V VectorEmitter::wordsOfGroups(Value seed, Value step, Value id) {
  constexpr int64_t groups = kLanes / 4;
  Value first = code.make<LLVM::LShrOp>(index.base, code.i64(2));
  Value group =
      code.make<LLVM::AddOp>(spread(first, groups), laneNumbers(groups, 1));
  auto [lo, hi] = halves(code, group);
  auto low = [&](Value x) {
    return U32V{{&code, spread(halves(code, x).first.v, groups)}};
  };
  U32V seedHi{{&code, spread(halves(code, seed).second.v, groups)}};
  num::Stream<U32V> stream{low(id), low(step), low(seed), seedHi};
  num::Words4<U32V> words = num::drawGroup(lo, hi, stream);
  auto concat = [&](Value a, Value b) {
    int64_t n = cast<VectorType>(a.getType()).getNumElements();
    auto all = llvm::to_vector(llvm::seq<int32_t>(0, 2 * n));
    return code.make<LLVM::ShuffleVectorOp>(a, b, all);
  };
  // Word w of group g lies at 8 w + g and belongs to element 4 g + w.
  Value planes =
      concat(concat(words.x.v, words.y.v), concat(words.z.v, words.w.v));
  SmallVector<int32_t> order;
  for (int32_t element = 0; element < kLanes; ++element)
    order.push_back(element % 4 * groups + element / 4);
  return {{&code, code.make<LLVM::ShuffleVectorOp>(planes, planes, order)}};
}

/// The words of any elements: one draw each.
U32V VectorEmitter::wordsOfElements(Value seed, Value step, Value id) {
  Value element = lanesOf(index);
  auto [lo, hi] = halves(code, element);
  auto like = [&](Value x) {
    bool isVector = isa<VectorType>(element.getType());
    return U32V{{&code, isVector ? spread(x) : x}};
  };
  auto [seedLo, seedHi] = halves(code, seed);
  num::Stream<U32V> stream{like(halves(code, id).first.v),
                           like(halves(code, step).first.v), like(seedLo.v),
                           like(seedHi.v)};
  return num::draw(lo, hi, stream);
}

/// The words of the current elements.
U32V VectorEmitter::words(Scalar seed, Scalar step, Scalar id) {
  bool grouped = !index.lanes && index.stride == 1 && index.alignment % 4 == 0;
  return grouped ? wordsOfGroups(value(seed), value(step), value(id))
                 : wordsOfElements(value(seed), value(step), value(id));
}

Scalar VectorEmitter::dropoutKeep(Scalar seed, Scalar step, Scalar id,
                                  float keepProbability) {
  U32V drawn = words(seed, step, id);
  return add(drawn < lit(drawn, num::keepThreshold(keepProbability)));
}

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

Scalar VectorEmitter::encode(Scalar x, Type storage) {
  if (storage.isF32())
    return x;
  return add(num::encode(formatOf(storage), f32(x)).v, storage);
}
Scalar VectorEmitter::encodeStochastic(Scalar x, Type storage, Scalar seed,
                                       Scalar step, Scalar id) {
  U32V drawn = words(seed, step, id);
  F32V real = f32(x);
  if (isa<VectorType>(drawn.v.getType()))
    real = {{&code, spread(real.v)}};
  return add(num::encodeStochastic(formatOf(storage), real, drawn).v, storage);
}
Scalar VectorEmitter::decode(Scalar x) {
  Type storage = slots[x.id].element;
  if (storage.isF32())
    return x;
  return add(num::decode(formatOf(storage), U32V{{&code, value(x)}}));
}
Scalar VectorEmitter::scaleOf(Scalar amax, Type storage, int64_t margin) {
  return add(num::computeScale(f32(amax), getStorageMax(storage, margin)));
}
Scalar VectorEmitter::scaleOr(Scalar amax, Type storage, int64_t margin,
                              Scalar otherwise) {
  Scalar *both[] = {&amax, &otherwise};
  unify(both);
  return add(
      num::scaleOr(f32(amax), getStorageMax(storage, margin), f32(otherwise)));
}
