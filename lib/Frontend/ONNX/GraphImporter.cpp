//===- GraphImporter.cpp - one ONNX graph as one function -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Arguments, nodes in file order, results and the function's signature.
//
//===----------------------------------------------------------------------===//

#include "GraphImporter.h"
#include "Handlers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mpt/Numerics/Philox.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::Twine;

using Shape = SmallVector<int64_t>;

std::string mpt::onnx_import::describeNode(const onnx::NodeProto &node,
                                           int64_t opset) {
  std::string name = !node.name().empty() ? "node '" + node.name() + "'"
                     : node.output_size()
                         ? "the node of '" + node.output(0) + "'"
                         : std::string("a node");
  std::string domain = node.domain().empty() ? "ai.onnx" : node.domain();
  return name + " (" + node.op_type() + ", domain " + domain + ", opset " +
         std::to_string(opset) + ")";
}

static bool isOnnxDomain(StringRef domain) {
  return domain.empty() || domain == "ai.onnx";
}

GraphImporter::GraphImporter(MLIRContext *context, const ModelFile &model,
                             const ImportOptions &options)
    : builder(context), location(builder.getUnknownLoc()), naming(model),
      model(model), options(options) {}

Expected<OwningOpRef<ModuleOp>>
GraphImporter::run(std::vector<ParameterValue> &parameters) {
  module = ModuleOp::create(location);
  function = func::FuncOp::create(location, "forward",
                                  builder.getFunctionType({}, {}));
  module->push_back(function);
  block = function.addEntryBlock();
  builder.setInsertionPointToStart(block);

  Error error = checkOpset();
  if (!error)
    error = addInitializers();
  if (!error)
    error = addInputs();
  if (!error)
    error = collectNames();
  for (const onnx::NodeProto &node : model.nodes)
    if (!error)
      error = importNode(node);
  if (!error)
    error = addResults();
  if (!error)
    error = checkDropouts();
  if (!error)
    error = checkMergedParameters();
  if (!error)
    error = finishSignature(parameters);
  if (error)
    return std::move(error);
  return std::move(module);
}

Error GraphImporter::checkOpset() {
  if (model.opset < kMinOpset || model.opset > kMaxOpset)
    return createStringError("expected opset " + Twine(kMinOpset) + " to " +
                             Twine(kMaxOpset) + " of domain ai.onnx, found " +
                             Twine(model.opset));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Initializers and inputs
//===----------------------------------------------------------------------===//

/// A tensor that is trained; other initializers are constants.
static bool isParameter(const FileTensor &tensor) {
  if (tensor.dataType != onnx::TensorProto::FLOAT || isAnonymous(tensor.name))
    return false;
  bool isScalar = tensor.shape.empty();
  return !isScalar || StringRef(tensor.name).contains('.');
}

Error GraphImporter::addInitializers() {
  llvm::StringSet<> names;
  for (const FileTensor &tensor : model.initializers) {
    if (tensor.name.empty() || tensor.name == "__metadata__")
      return createStringError("an initializer is named '" + tensor.name +
                               "', which names no tensor");
    Entry entry;
    if (isParameter(tensor)) {
      Argument argument;
      argument.name = naming.parameterName(tensor.name);
      argument.kind = Kind::Parameter;
      argument.initializer = &tensor;
      auto type = RankedTensorType::get(tensor.shape, builder.getF32Type());
      argument.value = entry.value = block->addArgument(type, location);
      if (!names.insert(argument.name).second)
        return createStringError("two parameters are named '" + argument.name +
                                 "'");
      arguments.push_back(std::move(argument));
    } else {
      entry.file = &tensor;
    }
    if (Error error = define(tensor.name, std::move(entry)))
      return error;
  }
  return Error::success();
}

Expected<Shape> GraphImporter::boundShape(const onnx::ValueInfoProto &input) {
  Shape shape;
  for (const auto &[d, dim] :
       llvm::enumerate(input.type().tensor_type().shape().dim())) {
    if (dim.value_case() == onnx::TensorShapeProto::Dimension::kDimValue) {
      if (dim.dim_value() < 1)
        return createStringError("input '" + input.name() + "': expected dim " +
                                 Twine(d) + " of size 1 or more, found " +
                                 Twine(dim.dim_value()));
      shape.push_back(dim.dim_value());
      continue;
    }
    std::string axis = dim.dim_param();
    if (axis.empty())
      axis = input.name() + "." + std::to_string(d);
    auto bound = options.bindings.find(axis);
    int64_t size = bound == options.bindings.end() ? -1 : bound->second;
    if (!boundAxes.count(axis) && size < 0)
      unbound.push_back(axis);
    boundAxes[axis] = size;
    shape.push_back(std::max<int64_t>(size, 1));
  }
  if (auto count = countElements(shape); !count)
    return createStringError("input '" + input.name() +
                             "': " + llvm::toString(count.takeError()));
  return shape;
}

Error GraphImporter::addInputs() {
  for (const onnx::ValueInfoProto &input : model.inputs) {
    // Old files list initializers among the inputs.
    auto known = values.find(input.name());
    if (known != values.end() &&
        llvm::any_of(model.initializers, [&](const FileTensor &tensor) {
          return tensor.name == input.name();
        }))
      continue;
    if (!input.type().has_tensor_type() ||
        !input.type().tensor_type().has_shape())
      return createStringError("input '" + input.name() +
                               "': expected a tensor of known rank");
    Type element;
    switch (input.type().tensor_type().elem_type()) {
    case onnx::TensorProto::FLOAT:
      element = builder.getF32Type();
      break;
    case onnx::TensorProto::INT64:
      element = builder.getI64Type();
      break;
    case onnx::TensorProto::INT32:
      element = builder.getI32Type();
      break;
    case onnx::TensorProto::BOOL:
      element = builder.getI1Type();
      break;
    default:
      return createStringError(
          "input '" + input.name() + "': unsupported element type " +
          dataTypeName(input.type().tensor_type().elem_type()) +
          ", expected FLOAT, INT32, INT64 or BOOL");
    }
    auto shape = boundShape(input);
    if (!shape)
      return shape.takeError();
    Argument argument;
    argument.name = input.name();
    Entry entry;
    argument.value = entry.value =
        block->addArgument(RankedTensorType::get(*shape, element), location);
    arguments.push_back(std::move(argument));
    if (Error error = define(input.name(), std::move(entry)))
      return error;
  }
  return checkBindings();
}

Error GraphImporter::checkBindings() {
  if (!unbound.empty()) {
    std::string remedy;
    for (const std::string &axis : unbound)
      remedy += " --bind " + axis + "=N";
    return createStringError("dynamic axes without a size: " +
                             llvm::join(unbound, ", ") + "; give" + remedy);
  }
  for (const auto &[axis, size] : options.bindings)
    if (!boundAxes.count(axis)) {
      std::vector<std::string> known;
      for (const auto &entry : boundAxes)
        known.push_back(entry.getKey().str());
      llvm::sort(known);
      return createStringError(
          "no dynamic axis is named '" + axis + "'; the model has " +
          (known.empty() ? "none" : llvm::join(known, ", ")));
    }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

Error GraphImporter::define(StringRef name, Entry entry) {
  if (name.empty()) // an output that nobody wants
    return Error::success();
  if (!llvm::json::isUTF8(name))
    return createStringError("the name of value '" + name + "' is not UTF-8");
  if (!values.try_emplace(name, std::move(entry)).second)
    return createStringError("value '" + name + "' is defined twice");
  return Error::success();
}

Error GraphImporter::collectNames() {
  for (const onnx::NodeProto &node : model.nodes) {
    for (const std::string &name : node.output()) {
      if (name.empty())
        continue;
      auto [earlier, isNew] = producers.try_emplace(name, &node);
      if (!isNew || values.count(name))
        return createStringError(
            describeNode(node, model.opset) + ": value '" + name +
            "' is already defined by " +
            (isNew ? "an input or initializer"
                   : "node '" + earlier->second->name() + "'"));
    }
    for (const std::string &name : node.input())
      used.insert(name);
  }
  for (const onnx::ValueInfoProto &output : model.outputs)
    used.insert(output.name());
  return Error::success();
}

bool GraphImporter::dependsOn(const onnx::NodeProto &node,
                              const onnx::NodeProto &other) const {
  SmallVector<const onnx::NodeProto *> open = {&node};
  llvm::DenseSet<const onnx::NodeProto *> seen;
  while (!open.empty()) {
    const onnx::NodeProto *next = open.pop_back_val();
    if (next == &other)
      return true;
    if (!seen.insert(next).second)
      continue;
    for (const std::string &name : next->input())
      if (const onnx::NodeProto *producer = producers.lookup(name))
        open.push_back(producer);
  }
  return false;
}

Error GraphImporter::importNode(const onnx::NodeProto &node) {
  scope = naming.scopeOf(node);
  location = NameLoc::get(builder.getStringAttr(
      node.name().empty() ? node.op_type() : node.name()));
  Error error = dispatch(node);
  if (!error)
    return error;
  return createStringError(describeNode(node, model.opset) + ": " +
                           llvm::toString(std::move(error)));
}

Error GraphImporter::dispatch(const onnx::NodeProto &node) {
  const OpRule *rule =
      isOnnxDomain(node.domain()) ? findRule(node.op_type()) : nullptr;
  if (!rule)
    return createStringError("unsupported op, expected one of those listed in "
                             "docs/import.md" +
                             remedyFor(node.op_type()));
  if (model.opset < rule->since)
    return createStringError("expected opset " + Twine(rule->since) +
                             " or later for this op");
  NodeContext context(*this, node);
  if (Error error = context.resolve())
    return error;
  Evaluator evaluator = findEvaluator(node.op_type());
  if (!evaluator || !context.allConstant() || node.input_size() == 0)
    return rule->handler(context);
  auto folded = evaluator(node, context.constants());
  if (!folded)
    return folded.takeError();
  return context.define(0, std::move(*folded));
}

//===----------------------------------------------------------------------===//
// What handlers build with
//===----------------------------------------------------------------------===//

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

Value GraphImporter::reshape(Value value, ArrayRef<int64_t> shape) {
  if (typeOf(value).getShape() == shape)
    return value;
  if (auto source = value.getDefiningOp<ReshapeOp>())
    return reshape(source.getX(), shape);
  return create<ReshapeOp>(
      RankedTensorType::get(shape, typeOf(value).getElementType()), value);
}

Value GraphImporter::broadcast(Value value, ArrayRef<int64_t> shape) {
  if (typeOf(value).getShape() == shape)
    return value;
  if (auto source = value.getDefiningOp<BroadcastOp>())
    value = source.getX();
  return create<BroadcastOp>(
      RankedTensorType::get(shape, typeOf(value).getElementType()), value);
}

Value GraphImporter::transpose(Value value, ArrayRef<int64_t> permutation) {
  Shape composed(permutation);
  if (auto source = value.getDefiningOp<TransposeOp>()) {
    for (int64_t &d : composed)
      d = source.getPermutation()[d];
    value = source.getX();
  }
  if (llvm::is_sorted(composed))
    return value;
  Shape shape;
  for (int64_t d : composed)
    shape.push_back(typeOf(value).getDimSize(d));
  return create<TransposeOp>(
      RankedTensorType::get(shape, typeOf(value).getElementType()), value,
      builder.getDenseI64ArrayAttr(composed));
}

Value GraphImporter::slice(Value value, ArrayRef<int64_t> offsets,
                           ArrayRef<int64_t> sizes) {
  if (typeOf(value).getShape() == sizes)
    return value;
  return create<SliceOp>(
      RankedTensorType::get(sizes, typeOf(value).getElementType()), value,
      builder.getDenseI64ArrayAttr(offsets));
}

Value GraphImporter::constant(ElementsAttr value) {
  return ConstantOp::create(builder, location, value);
}

Argument *GraphImporter::parameterOf(Value value) {
  // Arguments of the block and their descriptions are made together.
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument || arguments[argument.getArgNumber()].kind != Kind::Parameter)
    return nullptr;
  return &arguments[argument.getArgNumber()];
}

Argument *GraphImporter::argumentOf(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<ReshapeOp, BroadcastOp, TransposeOp, SliceOp>(op))
      return nullptr;
    value = op->getOperand(0);
  }
  return &arguments[cast<BlockArgument>(value).getArgNumber()];
}

Error GraphImporter::restrictRange(Value ids, int64_t count,
                                   std::optional<int64_t> ignoreIndex) {
  Argument *argument = argumentOf(ids);
  if (!argument || argument->kind == Kind::Parameter)
    return createStringError(
        "expected indices that are an input of the model or "
        "constants: computed ones cannot be checked before "
        "the step runs");
  auto &range = argument->range;
  range = range ? std::pair(std::max<int64_t>(range->first, 0),
                            std::min(range->second, count))
                : std::pair(int64_t(0), count);
  if (ignoreIndex) {
    if (argument->ignoreIndex && *argument->ignoreIndex != *ignoreIndex)
      return createStringError(
          "input '" + argument->name + "' has two ignore indices, " +
          Twine(*argument->ignoreIndex) + " and " + Twine(*ignoreIndex));
    argument->ignoreIndex = ignoreIndex;
    argument->kind = Kind::Label;
  }
  return Error::success();
}

/// The argument at `slot`, made when it is first asked for.
static Value rngArgument(std::optional<size_t> &slot, StringRef name,
                         std::vector<Argument> &arguments, Block *block,
                         OpBuilder &builder) {
  if (!slot) {
    Argument argument;
    argument.name = name.str();
    argument.kind = Kind::Rng;
    argument.value =
        block->addArgument(RankedTensorType::get({}, builder.getI64Type()),
                           builder.getUnknownLoc());
    slot = arguments.size();
    arguments.push_back(std::move(argument));
  }
  return arguments[*slot].value;
}
Value GraphImporter::rngSeed() {
  return rngArgument(seedArgument, "rng.seed", arguments, block, builder);
}
Value GraphImporter::rngStep() {
  rngSeed(); // which comes first
  return rngArgument(stepArgument, "rng.step", arguments, block, builder);
}

Expected<Value> GraphImporter::crossEntropy(Value logits, Value labels,
                                            int64_t ignoreIndex) {
  auto scores = typeOf(logits), targets = typeOf(labels);
  bool isInteger = targets.getElementType().isInteger(64) ||
                   targets.getElementType().isInteger(32);
  if (scores.getRank() != 2 || targets.getRank() != 1 || !isInteger ||
      targets.getDimSize(0) != scores.getDimSize(0)) {
    std::string found;
    llvm::raw_string_ostream(found) << scores << " and " << targets;
    return createStringError(
        "expected scores [N, C] and integer labels [N], found " + found);
  }
  if (Error error = restrictRange(labels, scores.getDimSize(1), ignoreIndex))
    return std::move(error);
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  auto column =
      RankedTensorType::get({scores.getDimSize(0), 1}, builder.getF32Type());
  auto op = create<CrossEntropyOp>(scalar, column, scalar, logits, labels,
                                   builder.getI64IntegerAttr(ignoreIndex));
  return op.getLoss();
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

/// The one output of `outputs` that `isIt` accepts, the one named `name` where
/// there are several; null if there is none.
template <typename Predicate>
static Value pick(ArrayRef<std::pair<std::string, Value>> outputs,
                  StringRef name, Predicate isIt) {
  Value only;
  unsigned count = 0;
  for (const auto &[outputName, value] : outputs) {
    if (!isIt(typeOf(value)))
      continue;
    if (outputName == name)
      return value;
    only = value;
    ++count;
  }
  return count == 1 ? only : Value();
}

Expected<Value> GraphImporter::addLabels(Value logits) {
  scope.clear();
  location = NameLoc::get(builder.getStringAttr("loss"));
  ArrayRef<int64_t> shape = typeOf(logits).getShape();
  int64_t classes = shape.back();
  int64_t rows = typeOf(logits).getNumElements() / classes;
  if (values.count("labels"))
    return createStringError(
        "--loss adds an argument 'labels', but the model has a "
        "value of that name");
  Argument argument;
  argument.name = "labels";
  argument.value = block->addArgument(
      RankedTensorType::get(shape.drop_back(), builder.getI64Type()), location);
  Value labels = argument.value;
  arguments.push_back(std::move(argument));
  return crossEntropy(reshape(logits, {rows, classes}), reshape(labels, {rows}),
                      -100);
}

Error GraphImporter::addResults() {
  SmallVector<std::pair<std::string, Value>> outputs;
  for (const onnx::ValueInfoProto &output : model.outputs) {
    auto found = values.find(output.name());
    if (found == values.end())
      return createStringError("output '" + output.name() +
                               "' is defined by no node");
    // A constant output says nothing about the model.
    if (!found->second.constant && found->second.value)
      outputs.emplace_back(output.name(), found->second.value);
  }
  auto isLoss = [](RankedTensorType type) {
    return type.getRank() == 0 && type.getElementType().isF32();
  };
  auto isLogits = [](RankedTensorType type) {
    return type.getRank() >= 2 && type.getElementType().isF32();
  };
  Value loss = pick(outputs, "loss", isLoss);
  if (!loss && options.addLoss) {
    Value logits = pick(outputs, "logits", isLogits);
    if (!logits)
      return createStringError(
          "--loss: expected an output 'logits', or one f32 "
          "output of rank 2 or more");
    auto added = addLabels(logits);
    if (!added)
      return added.takeError();
    loss = *added;
  }
  if (loss)
    outputs = {{"loss", loss}};
  if (outputs.empty())
    return createStringError(
        "the model has no output that depends on its inputs");
  SmallVector<Value> returned;
  for (auto &[name, value] : outputs)
    returned.push_back(value);
  func::ReturnOp::create(builder, builder.getUnknownLoc(), returned);
  results = std::move(outputs);
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*block)))
    if (isOpTriviallyDead(&op))
      op.erase();
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Checks of the whole graph
//===----------------------------------------------------------------------===//

Error GraphImporter::checkDropouts() {
  if (!seedArgument || inactiveDropouts.empty())
    return Error::success();
  return createStringError("node '" + inactiveDropouts.front() +
                           "' (Dropout) has no training_mode input, which ONNX "
                           "defines as the identity, "
                           "while other Dropout nodes of the model are active: "
                           "the exporter lost it; "
                           "export with attn_implementation=\"eager\", as "
                           "mpt.export(model, batch) in "
                           "Python does");
}

/// Exporters meant for inference merge parameters that are equal when they run:
/// every zero bias of a fresh model becomes one tensor. A vector that several
/// layers read although their weights are their own is such a merged one.
Error GraphImporter::checkMergedParameters() {
  llvm::DenseMap<Value, unsigned> productsOf;
  bool sharesWeights = false;
  for (auto op : block->getOps<MatmulOp>())
    if (parameterOf(op.getRhs()))
      sharesWeights |= ++productsOf[op.getRhs()] > 1;
  llvm::MapVector<Value, SmallVector<const VectorUse *>> uses;
  for (const VectorUse &use : vectorUses)
    uses[use.parameter].push_back(&use);
  for (auto &[parameter, list] : uses) {
    const VectorUse *first = list.front();
    for (const VectorUse *other : llvm::drop_begin(list)) {
      bool sameLayer =
          other->role == first->role && other->layer == first->layer;
      if (sameLayer && (!first->layer.empty() || sharesWeights))
        continue;
      return createStringError(
          "parameter '" + parameterOf(parameter)->name + "' is the " +
          first->role + " at node '" + first->node + "' and the " +
          other->role + " at node '" + other->node + "' (" +
          Twine(list.size()) +
          " uses), layers whose weights are not shared: the exporter merged "
          "parameters that were equal, and the wrong ones would be trained; "
          "export "
          "the model with mpt.export(model, batch) in Python, or with "
          "torch.onnx.export(..., dynamo=True, optimize=False)");
    }
  }
  return Error::success();
}

Error GraphImporter::assignDropoutIds() {
  llvm::DenseMap<uint32_t, DropoutOp> owners;
  for (auto op : block->getOps<DropoutOp>()) {
    StringRef name = getStableName(op);
    uint32_t id = num::nameId({name.data(), name.size()});
    auto [owner, isNew] = owners.try_emplace(id, op);
    if (!isNew)
      return createStringError("dropouts '" + getStableName(owner->second) +
                               "' and '" + name + "' have names of one hash (" +
                               Twine(id) +
                               "): they would draw one mask; rename a "
                               "module");
    builder.setInsertionPoint(op);
    op.getIdMutable().assign(
        ConstantOp::scalarInt(builder, op.getLoc(), static_cast<int64_t>(id)));
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Signature
//===----------------------------------------------------------------------===//

/// The discardable attributes that say what an argument is.
static DictionaryAttr describe(const Argument &argument, Builder &builder) {
  NamedAttrList list;
  list.append(kNameAttr, builder.getStringAttr(argument.name));
  list.append(kKindAttr, KindAttr::get(builder.getContext(), argument.kind));
  if (argument.range)
    list.append(kRangeAttr,
                builder.getDenseI64ArrayAttr(
                    {argument.range->first, argument.range->second}));
  if (argument.ignoreIndex)
    list.append(kIgnoreIndexAttr,
                builder.getI64IntegerAttr(*argument.ignoreIndex));
  return list.getDictionary(builder.getContext());
}

Error GraphImporter::finishSignature(std::vector<ParameterValue> &parameters) {
  llvm::DenseMap<Value, std::string> parameterNames;
  for (const Argument &argument : arguments)
    if (argument.kind == Kind::Parameter)
      parameterNames[argument.value] = argument.name;
  naming.nameOps(*block, parameterNames);
  if (Error error = assignDropoutIds())
    return error;

  std::vector<Argument *> ordered;
  std::string unused;
  unsigned unusedCount = 0;
  for (Kind kind : {Kind::Parameter, Kind::Input, Kind::Label, Kind::Rng})
    for (Argument &argument : arguments) {
      if (argument.kind != kind)
        continue;
      if (kind == Kind::Parameter && argument.value.use_empty()) {
        unused = unusedCount++ ? unused : argument.name;
        continue;
      }
      ordered.push_back(&argument);
    }
  if (unusedCount)
    emitWarning(builder.getUnknownLoc())
        << unusedCount
        << " parameter(s) do not reach the outputs and are left out, "
        << "first '" << unused << "'";

  unsigned before = block->getNumArguments();
  SmallVector<Attribute> argumentAttrs, resultAttrs;
  SmallVector<Type> resultTypes;
  for (Argument *argument : ordered) {
    Value value =
        block->addArgument(argument->value.getType(), builder.getUnknownLoc());
    argument->value.replaceAllUsesWith(value);
    argumentAttrs.push_back(describe(*argument, builder));
    if (argument->kind == Kind::Parameter)
      parameters.push_back(
          {argument->name,
           std::vector<int64_t>(argument->initializer->shape.begin(),
                                argument->initializer->shape.end()),
           argument->initializer->bytes});
  }
  block->eraseArguments(0, before);
  for (auto &[name, value] : results)
    resultAttrs.push_back(builder.getDictionaryAttr(
        builder.getNamedAttr(kNameAttr, builder.getStringAttr(name))));
  for (Value value : block->getTerminator()->getOperands())
    resultTypes.push_back(value.getType());
  function.setType(
      builder.getFunctionType(block->getArgumentTypes(), resultTypes));
  function.setArgAttrsAttr(builder.getArrayAttr(argumentAttrs));
  function.setResAttrsAttr(builder.getArrayAttr(resultAttrs));
  return Error::success();
}
