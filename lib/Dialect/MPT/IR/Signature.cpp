//===- Signature.cpp - arguments of graphs and steps by kind and name -----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Signature.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"

using namespace mlir;
using namespace mpt;

std::optional<Kind> mpt::getArgumentKind(func::FuncOp func, unsigned index) {
  auto kind = func.getArgAttrOfType<KindAttr>(index, kKindAttr);
  return kind ? std::optional<Kind>(kind.getValue()) : std::nullopt;
}

StringRef mpt::getArgumentName(func::FuncOp func, unsigned index) {
  auto name = func.getArgAttrOfType<StringAttr>(index, kNameAttr);
  return name ? name.getValue() : StringRef();
}

BlockArgument mpt::addArgument(func::FuncOp func, Type type, StringRef name,
                               Kind kind) {
  Builder builder(func.getContext());
  auto attrs = builder.getDictionaryAttr(
      {builder.getNamedAttr(kNameAttr, builder.getStringAttr(name)),
       builder.getNamedAttr(kKindAttr,
                            KindAttr::get(func.getContext(), kind))});
  unsigned index = func.getNumArguments();
  LogicalResult inserted =
      func.insertArgument(index, type, attrs, func.getLoc());
  assert(succeeded(inserted) && "graphs have plain function types");
  (void)inserted;
  return func.getArgument(index);
}

std::optional<unsigned> mpt::getParameter(Value value) {
  while (auto view = value.getDefiningOp<ViewOpInterface>())
    value = view.getViewSource();
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument)
    return std::nullopt;
  auto func = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  if (!func ||
      getArgumentKind(func, argument.getArgNumber()) != Kind::Parameter)
    return std::nullopt;
  return argument.getArgNumber();
}

func::FuncOp mpt::getStage(ModuleOp module, StringRef name, StringRef pass) {
  auto func = module.lookupSymbol<func::FuncOp>(name);
  if (!func) {
    InFlightDiagnostic diag = module.emitError()
                              << pass << " expects a function @" << name;
    for (auto other : module.getOps<func::FuncOp>())
      if (!other.isPrivate())
        diag << "; found @" << other.getName();
    return nullptr;
  }
  if (!func.getBody().hasOneBlock()) {
    func.emitError() << pass << " expects a straight-line function";
    return nullptr;
  }
  return func;
}

void mpt::setResults(func::FuncOp func, ValueRange values,
                     ArrayRef<DictionaryAttr> attrs) {
  func.getBody().front().getTerminator()->setOperands(values);
  func.removeResAttrsAttr();
  func.setType(FunctionType::get(func.getContext(), func.getArgumentTypes(),
                                 values.getTypes()));
  func.setAllResultAttrs(attrs);
}
