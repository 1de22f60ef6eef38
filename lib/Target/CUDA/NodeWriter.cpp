//===- NodeWriter.cpp - the values of a kernel's model as C++ -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See NodeWriter.h.
//
//===----------------------------------------------------------------------===//

#include "NodeWriter.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

std::string cuda::nameOfNode(const KernelModel &model, unsigned id,
                             unsigned result) {
  const KernelNode &node = model.nodes[id];
  if (!node.op)
    return "x" + std::to_string(id);
  StringRef op = node.op->getName().stripDialect();
  std::string name;
  if (auto reduce = dyn_cast<ReduceOp>(node.op))
    op = stringifyReduction(reduce.getKind());
  for (size_t i = 0; i < op.size(); ++i)
    name += i > 0 && op[i - 1] == '_' ? llvm::toUpper(op[i]) : op[i];
  llvm::erase(name, '_');
  name += std::to_string(id);
  if (node.op->getNumResults() > 1)
    name += "_" + std::to_string(result);
  return name;
}

/// `variable / div % mod * stride` for each term, for a variable below `size`.
static void appendTerms(ArrayRef<IndexTerm> terms, StringRef variable,
                        int64_t size, std::string &text) {
  for (const IndexTerm &term : terms) {
    std::string digit = variable.str();
    if (term.div != 1)
      digit += " / " + std::to_string(term.div);
    if (term.div * term.mod < size)
      digit += " % " + std::to_string(term.mod);
    if (term.stride != 1)
      digit += " * " + std::to_string(term.stride);
    text += (text.empty() ? "" : " + ") + digit;
  }
}

std::string cuda::indexInTerms(const KernelModel &model,
                               const AccessMap &access, bool perRow) {
  std::string text;
  appendTerms(access.rowTerms, "row", model.rows, text);
  if (access.offset)
    text += (text.empty() ? "" : " + ") + std::to_string(access.offset);
  if (!perRow && access.columnStride)
    appendTerms(IndexTerm{1, model.columns, access.columnStride}, "c",
                model.columns, text);
  if (!perRow)
    appendTerms(access.columnTerms, "c", model.columns, text);
  return text.empty() ? "0" : text;
}

void NodeWriter::setValue(NodeUse use, Expression expression) {
  auto &results = values[use.node];
  if (results.size() <= use.result)
    results.resize(use.result + 1);
  results[use.result] = std::move(expression);
}

Expression cuda::splatOf(const KernelNode &node) {
  auto splat = cast<SplatElementsAttr>(cast<ConstantOp>(node.op).getValue());
  Type element = splat.getElementType();
  if (element.isF32()) {
    float x = splat.getSplatValue<APFloat>().convertToFloat();
    return {floatLiteral(x), std::signbit(x) ? Binding::Unary : Binding::Atom,
            element};
  }
  if (isa<FloatType>(element))
    return intLiteral(
        splat.getSplatValue<APFloat>().bitcastToAPInt().getZExtValue(),
        element);
  APInt bits = splat.getSplatValue<APInt>();
  bool isCode = element.isInteger(8) || element.isInteger(1);
  return intLiteral(isCode ? bits.getZExtValue() : bits.getSExtValue(),
                    element);
}

void NodeWriter::evaluate(unsigned id,
                          const llvm::SmallSet<unsigned, 4> &results) {
  const KernelNode &node = model.nodes[id];
  if (node.kind == NodeKind::Constant)
    return setValue({id, 0}, splatOf(node));
  if (node.kind == NodeKind::Argument) {
    Type type = cast<RankedTensorType>(kernel.getArgumentTypes()[node.argument])
                    .getElementType();
    // What a kernel reads, it does not write: the read-only path.
    Expression loaded =
        fromMemory("__ldg(in" + std::to_string(node.argument) + " + " +
                       indexOf(node.access, node.perRow) + ")",
                   type);
    std::string name = nameOf(id);
    w.assign("const " + valueType(type) + " " + name, loaded.text);
    return setValue({id, 0}, {name, Binding::Atom, type});
  }
  SmallVector<Expression> operands;
  for (NodeUse use : node.operands)
    operands.push_back(value(use));
  SmallVector<std::string> names;
  for (unsigned r = 0; r < node.op->getNumResults(); ++r)
    names.push_back(results.contains(r) ? nameOf(id, r) : std::string());
  auto found = bodies.emit(cast<ScalarBodyOpInterface>(node.op), operands,
                           names, indexOf(node.index, node.perRow),
                           indexOf(node.lastIndex, node.perRow), w);
  for (auto [r, each] : llvm::enumerate(found))
    setValue({id, static_cast<unsigned>(r)}, each);
}
