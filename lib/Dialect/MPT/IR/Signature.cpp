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

StringRef mpt::getValueName(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument)
    return getStableName(value.getDefiningOp());
  auto func = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  return func ? getArgumentName(func, argument.getArgNumber()) : StringRef();
}

unsigned mpt::addArguments(func::FuncOp func, ArrayRef<NewArgument> arguments) {
  Builder builder(func.getContext());
  unsigned first = func.getNumArguments();
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs;
  for (const NewArgument &argument : arguments) {
    types.push_back(argument.type);
    NamedAttrList list;
    list.set(kNameAttr, builder.getStringAttr(argument.name));
    list.set(kKindAttr, KindAttr::get(func.getContext(), argument.kind));
    if (argument.init)
      list.set(kInitAttr, builder.getF64FloatAttr(*argument.init));
    attrs.push_back(list.getDictionary(func.getContext()));
  }
  SmallVector<unsigned> indices(arguments.size(), first);
  SmallVector<Location> locations(arguments.size(), func.getLoc());
  LogicalResult inserted =
      func.insertArguments(indices, types, attrs, locations);
  assert(succeeded(inserted) && "graphs have plain function types");
  (void)inserted;
  return first;
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

func::FuncOp mpt::getInit(func::FuncOp step) {
  return step->getParentOfType<ModuleOp>().lookupSymbol<func::FuncOp>(
      kInitFunction);
}

void mpt::setResults(func::FuncOp func, ValueRange values,
                     ArrayRef<DictionaryAttr> attrs) {
  func.getBody().front().getTerminator()->setOperands(values);
  func.removeResAttrsAttr();
  func.setType(FunctionType::get(func.getContext(), func.getArgumentTypes(),
                                 values.getTypes()));
  func.setAllResultAttrs(attrs);
}
