//===- MPTDialect.cpp - the dialect, its attributes and their verifiers ---===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Registration, the format and metrics attributes, and what the discardable
// attributes of functions must satisfy.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mpt;

#include "mpt/Dialect/MPT/IR/MPTDialect.cpp.inc"
#include "mpt/Dialect/MPT/IR/MPTEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "mpt/Dialect/MPT/IR/MPTAttrs.cpp.inc"
#include "mpt/Dialect/MPT/IR/MPTInterfaces.cpp.inc"

void MPTDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "mpt/Dialect/MPT/IR/MPTAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "mpt/Dialect/MPT/IR/MPTOps.cpp.inc"
      >();
}

Operation *MPTDialect::materializeConstant(OpBuilder &builder, Attribute value,
                                           Type type, Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements)
    return nullptr;
  return ConstantOp::create(builder, loc, elements);
}

//===----------------------------------------------------------------------===//
// Discardable attributes
//===----------------------------------------------------------------------===//

LogicalResult MPTDialect::verifyOperationAttribute(Operation *op,
                                                   NamedAttribute attribute) {
  if (attribute.getName() == kNameAttr &&
      !isa<StringAttr>(attribute.getValue()))
    return op->emitOpError() << "'" << kNameAttr << "' must be a string, found "
                             << attribute.getValue();
  if (attribute.getName() == kImplementationAttr) {
    auto value = dyn_cast<StringAttr>(attribute.getValue());
    if (!value || (value != "own" && value != "cublaslt"))
      return op->emitOpError() << "'" << kImplementationAttr
                               << "' must be \"own\" or \"cublaslt\", found "
                               << attribute.getValue();
  }
  if (attribute.getName() == kGraphHashAttr) {
    auto hash = dyn_cast<StringAttr>(attribute.getValue());
    if (!hash || hash.size() != 16 ||
        !llvm::all_of(hash.getValue(), [](char c) {
          return llvm::isDigit(c) || (c >= 'a' && c <= 'f');
        }))
      return op->emitOpError() << "'" << kGraphHashAttr
                               << "' must be 16 lower-case hex digits, found "
                               << attribute.getValue();
  }
  return success();
}

LogicalResult MPTDialect::verifyRegionArgAttribute(Operation *op,
                                                   unsigned region,
                                                   unsigned index,
                                                   NamedAttribute attribute) {
  StringRef name = attribute.getName();
  Attribute value = attribute.getValue();
  auto fail = [&](const Twine &expected) {
    return op->emitOpError() << "argument " << index << ": '" << name
                             << "' must be " << expected << ", found " << value;
  };
  if (name == kNameAttr && !isa<StringAttr>(value))
    return fail("a string");
  if (name == kKindAttr && !isa<KindAttr>(value))
    return fail("a #mpt.kind");
  if (name == kIgnoreIndexAttr && !isa<IntegerAttr>(value))
    return fail("an integer");
  if (name == kInitAttr &&
      (!isa<FloatAttr>(value) || !cast<FloatAttr>(value).getValue().isFinite()))
    return fail("a finite float");
  if (name == kRangeAttr) {
    auto range = dyn_cast<DenseI64ArrayAttr>(value);
    if (!range || range.size() != 2 || range[0] >= range[1])
      return fail("a half open range array<i64: low, high> with low < high");
    auto function = dyn_cast<FunctionOpInterface>(op);
    if (function && !getElementTypeOrSelf(function.getArgumentTypes()[index])
                         .isSignlessInteger())
      return op->emitOpError() << "argument " << index << ": '" << name
                               << "' is for integer tensors, found "
                               << function.getArgumentTypes()[index];
  }
  return success();
}

/// That no two results update one argument. Called for every result with an
/// alias, it looks at all of them for the first one only: steps have thousands.
static LogicalResult verifyAliasesOnce(func::FuncOp func, unsigned index) {
  for (unsigned other = 0; other < index; ++other)
    if (func.getResultAttr(other, kAliasAttr))
      return success();
  DenseMap<Attribute, unsigned> updatedBy;
  for (unsigned result = index; result < func.getNumResults(); ++result) {
    auto alias = func.getResultAttrOfType<IntegerAttr>(result, kAliasAttr);
    if (!alias)
      continue; // its own check reports what is no integer
    auto [it, isNew] = updatedBy.try_emplace(alias, result);
    if (!isNew)
      return func.emitOpError() << "results " << it->second << " and " << result
                                << " both update argument " << alias.getInt();
  }
  return success();
}

LogicalResult MPTDialect::verifyRegionResultAttribute(
    Operation *op, unsigned region, unsigned index, NamedAttribute attribute) {
  if (attribute.getName() == kNameAttr &&
      !isa<StringAttr>(attribute.getValue()))
    return op->emitOpError()
           << "result " << index << ": '" << kNameAttr
           << "' must be a string, found " << attribute.getValue();
  if (attribute.getName() != kAliasAttr)
    return success();
  auto func = dyn_cast<func::FuncOp>(op);
  auto alias = dyn_cast<IntegerAttr>(attribute.getValue());
  if (!func || !alias)
    return op->emitOpError() << "result " << index << ": '" << kAliasAttr
                             << "' must be an integer on a func.func";
  int64_t argument = alias.getInt();
  if (argument < 0 || argument >= func.getNumArguments())
    return op->emitOpError()
           << "result " << index << ": '" << kAliasAttr << "' names argument "
           << argument << ", but there are " << func.getNumArguments();
  if (func.getArgumentTypes()[argument] != func.getResultTypes()[index])
    return op->emitOpError()
           << "result " << index << " of type " << func.getResultTypes()[index]
           << " cannot update argument " << argument << " of type "
           << func.getArgumentTypes()[argument];
  return verifyAliasesOnce(func, index);
}

//===----------------------------------------------------------------------===//
// #mpt.format
//===----------------------------------------------------------------------===//

namespace {
/// The properties of a format while it is parsed.
struct FormatText {
  AsmParser &parser;
  Granularity scale;
  Recipe recipe;
  Rounding rounding;
  APFloat value;
  int64_t history, margin;

  ParseResult parseProperty();

private:
  template <typename Enum>
  ParseResult parseWord(StringRef key, SMLoc loc,
                        std::optional<Enum> (*symbolize)(StringRef),
                        Enum &target) {
    StringRef word;
    if (parser.parseKeyword(&word))
      return failure();
    std::optional<Enum> parsed = symbolize(word);
    if (!parsed)
      return parser.emitError(loc)
             << "unknown format property '" << key << " = " << word << "'";
    target = *parsed;
    return success();
  }
};
} // namespace

ParseResult FormatText::parseProperty() {
  StringRef key;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseKeyword(&key) || parser.parseEqual())
    return failure();
  if (key == "scale")
    return parseWord<Granularity>(key, loc, symbolizeGranularity, scale);
  if (key == "recipe")
    return parseWord<Recipe>(key, loc, symbolizeRecipe, recipe);
  if (key == "rounding")
    return parseWord<Rounding>(key, loc, symbolizeRounding, rounding);
  if (key == "value")
    return parser.parseFloat(APFloat::IEEEsingle(), value);
  if (key == "history")
    return parser.parseInteger(history);
  if (key == "margin")
    return parser.parseInteger(margin);
  return parser.emitError(loc)
         << "unknown format property '" << key
         << "', expected scale, recipe, value, history, margin or rounding";
}

Attribute FormatAttr::parse(AsmParser &parser, Type) {
  StringRef word;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeyword(&word))
    return {};
  auto storage = symbolizeStorage(word);
  if (!storage) {
    parser.emitError(loc) << "unknown storage '" << word
                          << "', expected f32, bf16, f8E4M3FN, f8E5M2 or i8";
    return {};
  }
  FormatAttr defaults = FormatAttr::get(parser.getContext(), *storage);
  FormatText text{parser,
                  defaults.getScale(),
                  defaults.getRecipe(),
                  defaults.getRounding(),
                  defaults.getValue(),
                  defaults.getHistory(),
                  defaults.getMargin()};
  while (succeeded(parser.parseOptionalComma()))
    if (text.parseProperty())
      return {};
  if (parser.parseGreater())
    return {};
  return parser.getChecked<FormatAttr>(loc, parser.getContext(), *storage,
                                       text.scale, text.recipe, text.rounding,
                                       text.value, text.history, text.margin);
}

void FormatAttr::print(AsmPrinter &printer) const {
  FormatAttr defaults = FormatAttr::get(getContext(), getStorage());
  printer << "<" << stringifyStorage(getStorage());
  if (getScale() != Granularity::None)
    printer << ", scale = " << stringifyGranularity(getScale());
  if (getRecipe() != Recipe::None)
    printer << ", recipe = " << stringifyRecipe(getRecipe());
  if (getValue() != defaults.getValue()) {
    printer << ", value = ";
    printer.printFloat(getValue());
  }
  if (getHistory() != defaults.getHistory())
    printer << ", history = " << getHistory();
  if (getMargin() != defaults.getMargin())
    printer << ", margin = " << getMargin();
  if (getRounding() != Rounding::Nearest)
    printer << ", rounding = " << stringifyRounding(getRounding());
  printer << ">";
}

LogicalResult FormatAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Storage storage, Granularity scale,
                                 Recipe recipe, Rounding rounding,
                                 APFloat value, int64_t history,
                                 int64_t margin) {
  bool takesScale = storage != Storage::F32 && storage != Storage::BF16;
  if (takesScale != (scale != Granularity::None))
    return emitError() << "storage " << stringifyStorage(storage)
                       << (takesScale ? " needs a scale" : " takes no scale")
                       << ", found scale = " << stringifyGranularity(scale);
  if (takesScale != (recipe != Recipe::None))
    return emitError() << "storage " << stringifyStorage(storage)
                       << (takesScale ? " needs a recipe" : " takes no recipe")
                       << ", found recipe = " << stringifyRecipe(recipe);
  if (&value.getSemantics() != &APFloat::IEEEsingle() ||
      !value.isFiniteNonZero() || value.isNegative() || value.isDenormal())
    return emitError() << "value must be a positive, normal f32, found "
                       << value.convertToDouble();
  if (history < 1 || history > kMaxHistory)
    return emitError() << "history must be 1 to " << kMaxHistory
                       << " steps, found " << history;
  if (margin < -kMaxMargin || margin > kMaxMargin)
    return emitError() << "margin must be " << -kMaxMargin << " to "
                       << kMaxMargin << ", found " << margin;
  if (recipe != Recipe::Fixed && !value.isExactlyValue(1.0))
    return emitError() << "value belongs to recipe fixed, found recipe = "
                       << stringifyRecipe(recipe);
  if (recipe != Recipe::Delayed && (history != kDefaultHistory || margin != 0))
    return emitError() << "history and margin belong to recipe delayed, found "
                          "recipe = "
                       << stringifyRecipe(recipe);
  return success();
}

LogicalResult
FormatAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType,
                           function_ref<InFlightDiagnostic()> emitError) const {
  if (!elementType.isF32())
    return emitError() << "a format annotates f32 tensors, found element type "
                       << elementType;
  return success();
}

unsigned FormatAttr::getBytes() const {
  switch (getStorage()) {
  case Storage::F32:
    return 4;
  case Storage::BF16:
    return 2;
  case Storage::E4M3:
  case Storage::E5M2:
  case Storage::I8:
    return 1;
  }
  llvm_unreachable("all storages are listed");
}

//===----------------------------------------------------------------------===//
// #mpt.metrics
//===----------------------------------------------------------------------===//

LogicalResult MetricsAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t m, int64_t n, int64_t k,
                                  ArrayRef<CandidateMetricsAttr>) {
  if (m < 1 || n < 1 || k < 1)
    return emitError() << "a product's sizes are positive, found m = " << m
                       << ", n = " << n << ", k = " << k;
  return success();
}

//===----------------------------------------------------------------------===//
// Shared helpers
//===----------------------------------------------------------------------===//

StringRef mpt::getStableName(Operation *op) {
  if (auto name = op->getAttrOfType<StringAttr>(kNameAttr))
    return name.getValue();
  return op->getName().getStringRef();
}

void mpt::setStableName(Operation *op, StringRef name) {
  op->setAttr(kNameAttr, StringAttr::get(op->getContext(), name));
}

RankedTensorType mpt::withoutEncoding(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor.getShape(), tensor.getElementType());
}

bool mpt::compatibleIgnoringEncoding(TypeRange lhs, TypeRange rhs) {
  if (lhs.size() != rhs.size())
    return false;
  for (auto [l, r] : llvm::zip(lhs, rhs)) {
    auto lt = dyn_cast<RankedTensorType>(l), rt = dyn_cast<RankedTensorType>(r);
    if (!lt || !rt || withoutEncoding(lt) != withoutEncoding(rt))
      return false;
  }
  return true;
}

FormatAttr mpt::getFormat(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? dyn_cast_or_null<FormatAttr>(tensor.getEncoding())
                : FormatAttr();
}

std::optional<SmallVector<int64_t>>
mpt::broadcastShapes(ArrayRef<int64_t> lhs, ArrayRef<int64_t> rhs) {
  size_t rank = std::max(lhs.size(), rhs.size());
  SmallVector<int64_t> result(rank);
  for (size_t i = 0; i < rank; ++i) {
    int64_t l = i < lhs.size() ? lhs[lhs.size() - 1 - i] : 1;
    int64_t r = i < rhs.size() ? rhs[rhs.size() - 1 - i] : 1;
    if (l != r && l != 1 && r != 1)
      return std::nullopt;
    result[rank - 1 - i] = l == 1 ? r : l;
  }
  return result;
}

LogicalResult mpt::inferBroadcastType(std::optional<Location> location,
                                      StringRef opName, ValueRange operands,
                                      char element,
                                      SmallVectorImpl<Type> &types) {
  SmallVector<int64_t> shape;
  for (Value operand : operands) {
    auto type = dyn_cast<RankedTensorType>(operand.getType());
    if (!type || !type.hasStaticShape())
      return emitOptionalError(location, "'", opName,
                               "' takes statically shaped tensors, found ",
                               operand.getType());
    auto merged = broadcastShapes(shape, type.getShape());
    if (!merged)
      return emitOptionalError(location, "'", opName, "' operand of type ",
                               type, " does not broadcast with the others");
    shape = *merged;
  }
  MLIRContext *context = operands.front().getContext();
  Builder builder(context);
  Type elementType =
      element == 'b'   ? Type(builder.getI1Type())
      : element == 'i' ? Type(builder.getI64Type())
      : element == 's'
          ? cast<RankedTensorType>(operands.front().getType()).getElementType()
          : Type(builder.getF32Type());
  types.push_back(RankedTensorType::get(shape, elementType));
  return success();
}

Value mpt::sumToShape(OpBuilder &builder, Location location, Value grad,
                      Type type) {
  auto from = cast<RankedTensorType>(grad.getType());
  auto to = withoutEncoding(type);
  if (from.getShape() == to.getShape())
    return grad;
  int64_t lead = from.getRank() - to.getRank();
  SmallVector<int64_t> axes;
  for (int64_t d = 0; d < from.getRank(); ++d)
    if (from.getDimSize(d) != 1 && (d < lead || to.getDimSize(d - lead) == 1))
      axes.push_back(d);
  Value sum = grad;
  if (!axes.empty())
    sum = ReduceOp::create(builder, location, Reduction::Sum, grad, axes);
  if (cast<RankedTensorType>(sum.getType()).getShape() != to.getShape())
    sum = ReshapeOp::create(builder, location, to, sum);
  return sum;
}
