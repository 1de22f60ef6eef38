//===- ExpressionEmitter.cpp - scalar bodies as C++ expressions -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See ExpressionEmitter.h. Functions are those of include/mpt/Numerics, so the
// bits are the CPU back end's.
//
//===----------------------------------------------------------------------===//

#include "ExpressionEmitter.h"
#include "mpt/Numerics/Philox.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include <cmath>

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

//===----------------------------------------------------------------------===//
// Types and literals
//===----------------------------------------------------------------------===//

StringRef cuda::valueType(Type element) {
  if (element.isF32())
    return "float";
  if (element.isInteger(1))
    return "bool";
  if (element.isInteger(64))
    return "int64_t";
  return element.isInteger(32) ? "int32_t" : "uint32_t";
}

StringRef cuda::memoryType(Type element) {
  if (element.isF32() || element.isInteger(32) || element.isInteger(64))
    return valueType(element);
  return element.isBF16() ? "uint16_t" : "uint8_t";
}

Expression cuda::fromMemory(std::string text, Type element) {
  if (element.isInteger(1))
    return {text + " != 0", Binding::Equal, element};
  return {std::move(text), Binding::Atom, element};
}

std::string cuda::toMemory(const Expression &value) {
  StringRef memory = memoryType(value.element);
  if (memory == valueType(value.element))
    return value.text;
  return ("static_cast<" + memory + ">(" + value.text + ")").str();
}

std::string cuda::floatLiteral(float value) {
  if (!std::isfinite(value)) {
    std::string text;
    llvm::raw_string_ostream(text)
        << "num::asFloat("
        << llvm::format_hex(llvm::bit_cast<uint32_t>(value), 10) << "u)";
    return text;
  }
  char text[32];
  for (int digits = 1; digits <= 9; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits,
                  static_cast<double>(value));
    if (std::strtof(text, nullptr) == value)
      break;
  }
  std::string result = text;
  if (result.find_first_of(".e") == std::string::npos)
    result += ".0";
  return result + "f";
}

Expression cuda::intLiteral(int64_t value, Type element) {
  if (element.isInteger(1))
    return {value ? "true" : "false", Binding::Atom, element};
  if (valueType(element) == "uint32_t")
    return {std::to_string(value & 0xffffffff) + "u", Binding::Atom, element};
  std::string type = valueType(element).str();
  if (value == std::numeric_limits<int64_t>::min())
    return {"INT64_MIN", Binding::Atom, element};
  return {type + "(" + std::to_string(value) + ")", Binding::Atom, element};
}

static StringRef formatName(Type storage) {
  if (storage.isBF16())
    return "BF16";
  if (isa<Float8E4M3FNType>(storage))
    return "E4M3";
  return isa<Float8E5M2Type>(storage) ? "E5M2" : "Int8";
}

//===----------------------------------------------------------------------===//
// Recording
//===----------------------------------------------------------------------===//

Scalar ExpressionEmitter::leaf(Expression value) {
  Slot slot;
  slot.element = value.element;
  slot.printed = std::move(value);
  return add(std::move(slot));
}

Scalar ExpressionEmitter::call(StringRef callee, Type element,
                               ArrayRef<Scalar> operands, StringRef leading) {
  Slot slot{Form::Call, Binding::Atom, element, callee.str(), leading.str()};
  for (Scalar operand : operands)
    slot.operands.push_back(operand.id);
  return add(std::move(slot));
}

Scalar ExpressionEmitter::infix(StringRef symbol, Binding binding, Type element,
                                Scalar lhs, Scalar rhs) {
  Slot slot{Form::Infix, binding, element, symbol.str(), ""};
  slot.operands = {lhs.id, rhs.id};
  return add(std::move(slot));
}

Scalar ExpressionEmitter::constant(float value) {
  Binding binding = std::signbit(value) ? Binding::Unary : Binding::Atom;
  return leaf({floatLiteral(value), binding, f32()});
}
Scalar ExpressionEmitter::constantInt(int64_t value) {
  return leaf(intLiteral(value, i64()));
}

Scalar ExpressionEmitter::unary(UnaryFn fn, Scalar x) {
  switch (fn) {
  case UnaryFn::Neg: {
    Slot slot{Form::Prefix, Binding::Unary, f32(), "-", ""};
    slot.operands = {x.id};
    return add(std::move(slot));
  }
  case UnaryFn::Exp:
    return call("num::exp", f32(), x);
  case UnaryFn::Log:
    return call("num::log", f32(), x);
  case UnaryFn::Sqrt:
    return call("num::sqrt", f32(), x);
  case UnaryFn::Tanh:
    return call("num::tanh", f32(), x);
  case UnaryFn::Erf:
    return call("num::erf", f32(), x);
  case UnaryFn::Gelu:
    return call("num::gelu", f32(), x);
  case UnaryFn::GeluGrad:
    return call("num::geluGrad", f32(), x);
  case UnaryFn::Abs:
    return call("num::abs", f32(), x);
  }
  llvm_unreachable("all functions are listed");
}

Scalar ExpressionEmitter::binary(BinaryFn fn, Scalar lhs, Scalar rhs) {
  switch (fn) {
  case BinaryFn::Add:
    return infix("+", Binding::Sum, f32(), lhs, rhs);
  case BinaryFn::Sub:
    return infix("-", Binding::Sum, f32(), lhs, rhs);
  case BinaryFn::Mul:
    return infix("*", Binding::Product, f32(), lhs, rhs);
  case BinaryFn::Div:
    return infix("/", Binding::Product, f32(), lhs, rhs);
  case BinaryFn::Max:
    return call("num::maxOf", f32(), {lhs, rhs});
  }
  llvm_unreachable("all functions are listed");
}

Scalar ExpressionEmitter::fma(Scalar a, Scalar b, Scalar c) {
  return call("num::fma", f32(), {a, b, c});
}

Scalar ExpressionEmitter::compare(Predicate predicate, Scalar lhs, Scalar rhs) {
  switch (predicate) {
  case Predicate::EQ:
    return infix("==", Binding::Equal, boolean(), lhs, rhs);
  case Predicate::NE:
    return infix("!=", Binding::Equal, boolean(), lhs, rhs);
  case Predicate::LT:
    return infix("<", Binding::Less, boolean(), lhs, rhs);
  case Predicate::LE:
    return infix("<=", Binding::Less, boolean(), lhs, rhs);
  case Predicate::GT:
    return infix(">", Binding::Less, boolean(), lhs, rhs);
  case Predicate::GE:
    return infix(">=", Binding::Less, boolean(), lhs, rhs);
  }
  llvm_unreachable("all predicates are listed");
}

Scalar ExpressionEmitter::logicalAnd(Scalar lhs, Scalar rhs) {
  return infix("&&", Binding::And, boolean(), lhs, rhs);
}
Scalar ExpressionEmitter::logicalOr(Scalar lhs, Scalar rhs) {
  return infix("||", Binding::Or, boolean(), lhs, rhs);
}
Scalar ExpressionEmitter::logicalNot(Scalar x) {
  Slot slot{Form::Prefix, Binding::Unary, boolean(), "!", ""};
  slot.operands = {x.id};
  return add(std::move(slot));
}

Scalar ExpressionEmitter::select(Scalar condition, Scalar onTrue,
                                 Scalar onFalse) {
  Slot slot{Form::Select, Binding::Conditional, slots[onTrue.id].element, "",
            ""};
  slot.operands = {condition.id, onTrue.id, onFalse.id};
  return add(std::move(slot));
}

Scalar ExpressionEmitter::convert(Scalar x, Type to) {
  Type from = slots[x.id].element;
  if (from == to)
    return x;
  if (to.isInteger(1))
    return infix("!=", Binding::Equal, to, x,
                 from.isF32() ? constant(0.0f) : leaf(intLiteral(0, from)));
  if (from.isF32()) // out of range saturates, NaN gives 0
    return call(to.isInteger(64) ? "mpt::toInt64" : "mpt::toInt32", to, x);
  return call(("static_cast<" + valueType(to) + ">").str(), to, x);
}

Scalar ExpressionEmitter::columnIndex() {
  return leaf({last, Binding::Sum, i64()});
}

Scalar ExpressionEmitter::dropoutKeep(Scalar seed, Scalar step, Scalar id,
                                      float keepProbability) {
  Scalar threshold =
      leaf({std::to_string(num::keepThreshold(keepProbability)) + "u",
            Binding::Atom, i64()});
  return call("mpt::keeps", boolean(), {seed, step, id, threshold}, index);
}

Scalar ExpressionEmitter::encode(Scalar x, Type storage) {
  if (storage.isF32())
    return x;
  bool float8 = isa<Float8E4M3FNType, Float8E5M2Type>(storage);
  return call(
      ((float8 ? codes : "num") + "::encode" + formatName(storage)).str(),
      storage, x);
}
Scalar ExpressionEmitter::encodeStochastic(Scalar x, Type storage, Scalar seed,
                                           Scalar step, Scalar id) {
  Scalar word = call("mpt::randomWord", storage, {seed, step, id}, index);
  return call(("num::encode" + formatName(storage) + "Stochastic").str(),
              storage, {x, word});
}
Scalar ExpressionEmitter::decode(Scalar code) {
  Type storage = slots[code.id].element;
  if (storage.isF32())
    return code;
  return call(("num::decode" + formatName(storage)).str(), f32(), code);
}
Scalar ExpressionEmitter::scaleOf(Scalar amax, Type storage, int64_t margin) {
  return call("num::computeScale", f32(),
              {amax, constant(getStorageMax(storage, margin))});
}
Scalar ExpressionEmitter::scaleOr(Scalar amax, Type storage, int64_t margin,
                                  Scalar otherwise) {
  return call("num::scaleOr", f32(),
              {amax, constant(getStorageMax(storage, margin)), otherwise});
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

void ExpressionEmitter::countUses(unsigned id) {
  if (slots[id].uses++ == 0)
    for (unsigned operand : slots[id].operands)
      countUses(operand);
}

Expression ExpressionEmitter::format(const Slot &slot, StringRef prefix,
                                     SourceWriter &writer) {
  auto operand = [&](unsigned i, Binding least) {
    return print(slot.operands[i], prefix, writer).at(least);
  };
  auto above = [](Binding binding) {
    return static_cast<Binding>(static_cast<int>(binding) + 1);
  };
  std::string text;
  switch (slot.form) {
  case Form::Leaf:
    return slot.printed;
  case Form::Prefix:
    // Two signs in a row would be another operator.
    text = slot.text + operand(0, Binding::Atom);
    break;
  case Form::Infix: {
    // Compilers want && inside || in parentheses.
    bool isOr = slot.binding == Binding::Or;
    text = operand(0, isOr ? Binding::Equal : slot.binding);
    text += " " + slot.text + " ";
    text += operand(1, isOr ? Binding::Equal : above(slot.binding));
    break;
  }
  case Form::Call:
    text = slot.text + "(" + slot.leading;
    for (unsigned i = 0; i < slot.operands.size(); ++i)
      text += (i || !slot.leading.empty() ? ", " : "") +
              operand(i, Binding::Conditional);
    text += ")";
    break;
  case Form::Select:
    text = operand(0, Binding::Or) + " ? " + operand(1, Binding::Or) + " : " +
           operand(2, Binding::Or);
    break;
  }
  return {std::move(text), slot.binding, slot.element};
}

/// The slot's expression; a variable if it is used more than once or long.
const Expression &ExpressionEmitter::print(unsigned id, StringRef prefix,
                                           SourceWriter &writer) {
  if (slots[id].form == Form::Leaf || !slots[id].printed.text.empty())
    return slots[id].printed;
  Slot slot = slots[id]; // formatting may print others
  Expression value = format(slot, prefix, writer);
  constexpr size_t longest = 36;
  if (slot.uses > 1 || value.text.size() > longest) {
    std::string name = prefix.str() + "t" + std::to_string(++temporaries);
    writer.assign("const " + valueType(slot.element) + " " + name, value.text);
    value = {name, Binding::Atom, slot.element};
  }
  slots[id].printed = value;
  return slots[id].printed;
}

SmallVector<Expression, 3>
ExpressionEmitter::emit(ScalarBodyOpInterface op, ArrayRef<Expression> operands,
                        ArrayRef<std::string> names, std::string elementIndex,
                        std::string lastIndex, SourceWriter &writer) {
  index = std::move(elementIndex);
  last = std::move(lastIndex);
  slots.clear();
  temporaries = 0;
  SmallVector<Scalar> arguments, results;
  for (const Expression &operand : operands)
    arguments.push_back(leaf(operand));
  op.emitScalar(*this, arguments, results);
  for (auto [result, name] : llvm::zip(results, names))
    if (!name.empty())
      countUses(result.id);
  SmallVector<Expression, 3> values;
  for (auto [result, name] : llvm::zip(results, names)) {
    Expression value;
    if (!name.empty()) {
      const Slot &slot = slots[result.id];
      if (slot.form == Form::Leaf) {
        value = slot.printed;
      } else if (!slot.printed.text.empty()) {
        value = slot.printed;
      } else {
        // The result's own name serves its other uses in the body.
        value = format(Slot(slot), name, writer);
        writer.assign("const " + valueType(value.element) + " " + name,
                      value.text);
        value = {name, Binding::Atom, value.element};
        slots[result.id].printed = value;
      }
    }
    values.push_back(std::move(value));
  }
  return values;
}
