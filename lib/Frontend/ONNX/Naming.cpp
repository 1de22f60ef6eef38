//===- Naming.cpp - stable names from what exporters write ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reads module scopes out of the metadata that torch.onnx writes on each node
// and gives every op a unique name.
//
//===----------------------------------------------------------------------===//

#include "Naming.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Support/Json.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;

namespace {

/// One module of the path from the model to a node.
struct Level {
  std::string path;
  std::string type; // class name, empty if unknown
};

/// The strings of a Python list literal, as `repr` writes it.
SmallVector<std::string> parsePythonList(StringRef text) {
  SmallVector<std::string> items;
  while (true) {
    size_t open = text.find_first_of("'\"");
    if (open == StringRef::npos)
      return items;
    char quote = text[open];
    size_t close = text.find(quote, open + 1);
    if (close == StringRef::npos)
      return items;
    items.push_back(text.slice(open + 1, close).str());
    text = text.drop_front(close + 1);
  }
}

/// Drops the `@1` by which torch.export tells calls of one module apart.
std::string withoutCallNumber(StringRef path) {
  SmallVector<StringRef> parts;
  path.split(parts, '.');
  for (StringRef &part : parts)
    part = part.split('@').first;
  return llvm::join(parts, ".");
}

/// Modules around `node`, the model first, without the node itself.
SmallVector<Level> levelsOf(const onnx::NodeProto &node) {
  SmallVector<std::string> paths, types;
  StringRef nested;
  for (const auto &entry : node.metadata_props()) {
    if (entry.key() == "pkg.torch.onnx.name_scopes")
      paths = parsePythonList(entry.value());
    else if (entry.key() == "pkg.torch.onnx.class_hierarchy")
      types = parsePythonList(entry.value());
    else if (entry.key() == "namespace")
      nested = entry.value();
  }
  if (paths.empty() && !nested.empty()) { // "path: type/path: type/..."
    SmallVector<StringRef> parts;
    nested.split(parts, '/');
    for (StringRef part : parts) {
      paths.push_back(part.split(": ").first.str());
      types.push_back(part.split(": ").second.str());
    }
  }
  if (!paths.empty())
    paths.pop_back();
  SmallVector<Level> levels;
  for (auto [i, path] : llvm::enumerate(paths))
    levels.push_back({withoutCallNumber(path),
                      i < types.size()
                          ? StringRef(types[i]).rsplit('.').second.str()
                          : std::string()});
  return levels;
}

/// The first component of a dotted name with its dot; empty if it has no dot.
StringRef firstComponent(StringRef name) {
  size_t dot = name.find('.');
  return dot == StringRef::npos ? StringRef() : name.take_front(dot + 1);
}

/// Whether a class name is that of a whole model with a head.
bool isTaskModel(StringRef type) {
  size_t at = type.find("For");
  return (at != StringRef::npos && at + 3 < type.size() &&
          llvm::isUpper(type[at + 3])) ||
         type.contains("LMHead");
}

std::string strip(StringRef name, StringRef prefix) {
  name.consume_front(prefix);
  return name.str();
}

} // namespace

bool mpt::onnx_import::isAnonymous(StringRef name) {
  if (name.starts_with("onnx::"))
    return true;
  name.consume_front("val_");
  return !name.empty() && llvm::all_of(name, llvm::isDigit);
}

Naming::Naming(const ModelFile &model) {
  // A wrapper is the module that every parameter lies in: one of torch's own or
  // one that holds a complete task model.
  SmallVector<StringRef> parameters;
  for (const FileTensor &tensor : model.initializers)
    if (tensor.dataType == onnx::TensorProto::FLOAT &&
        !isAnonymous(tensor.name))
      parameters.push_back(tensor.name);
  StringRef common =
      parameters.empty() ? StringRef() : firstComponent(parameters.front());
  auto inCommon = [&](StringRef name) { return name.starts_with(common); };
  bool isCommon = !common.empty() && llvm::all_of(parameters, inCommon);
  if (isCommon && (common == "module." || common == "_orig_mod."))
    wrapper = common.str();
  for (const onnx::NodeProto &node : model.nodes) {
    SmallVector<Level> levels = levelsOf(node);
    if (wrapper.empty() && isCommon && levels.size() > 1 &&
        levels[1].path + "." == common && isTaskModel(levels[1].type))
      wrapper = common.str();
    for (Level &level : levels) {
      std::string path = strip(level.path + ".", wrapper);
      if (base.empty() && StringRef(level.type).ends_with("Model") &&
          StringRef(path).count('.') == 1 && path != wrapper && path != ".")
        base = path;
    }
  }
  if (base.empty()) { // no scopes: the prefixes that transformers uses
    for (StringRef known : {"bert.", "roberta.", "distilbert.", "electra.",
                            "albert.", "deberta.", "transformer."})
      for (StringRef name : parameters)
        if (StringRef(strip(name, wrapper)).starts_with(known))
          base = known.str();
  }
  auto tied = model.metadata.find("mpt.tied");
  auto parsed = tied == model.metadata.end()
                    ? llvm::Expected<llvm::json::Value>(nullptr)
                    : parseJson(tied->second);
  if (!parsed) {
    llvm::consumeError(parsed.takeError());
    return;
  }
  if (auto *object = parsed->getAsObject())
    for (auto &[name, others] : *object)
      if (auto *list = others.getAsArray())
        for (llvm::json::Value &other : *list)
          if (auto alias = other.getAsString())
            aliases[parameterName(name.str())].push_back(parameterName(*alias));
}

std::string Naming::parameterName(StringRef initializer) const {
  return strip(initializer, wrapper);
}

std::string Naming::scopeOf(const onnx::NodeProto &node) const {
  SmallVector<Level> levels = levelsOf(node);
  if (levels.empty())
    return {};
  std::string path = strip(levels.back().path + ".", wrapper);
  if (!path.empty())
    path.pop_back();
  return path;
}

void Naming::setScope(Operation *op, std::string scope) {
  if (!scope.empty())
    scopes[op] = std::move(scope);
}

std::string Naming::withoutBase(StringRef path) const {
  if ((path + ".").str() == base)
    return {};
  return strip(path, base);
}

/// `attention.output.LayerNorm` and `layer_norm` say the same.
static bool repeats(StringRef scope, StringRef kind) {
  auto squash = [](StringRef text) {
    std::string letters;
    for (char c : text)
      if (c != '_')
        letters += llvm::toLower(c);
    return letters;
  };
  size_t dot = scope.rfind('.');
  StringRef last = dot == StringRef::npos ? scope : scope.drop_front(dot + 1);
  return squash(last) == squash(kind);
}

std::string
Naming::pathOf(Operation *op,
               const llvm::DenseMap<Value, std::string> &parameters) {
  std::string scope = scopes.lookup(op);
  StringRef kind = op->getName().stripDialect();
  if (isa<MatmulOp, GatherOp>(op)) {
    for (Value operand : op->getOperands()) {
      auto found = parameters.find(operand);
      if (found == parameters.end())
        continue;
      auto moduleOf = [](StringRef name) {
        name.consume_back(".weight");
        return name.str();
      };
      std::string path = moduleOf(found->second);
      // A tied parameter lies in several modules: the one that calls names it.
      bool isTied = !llvm::hasSingleElement(operand.getUses());
      for (const std::string &alias : aliases.lookup(found->second))
        isTied |= moduleOf(alias) == scope;
      bool isOuter = StringRef(path).starts_with(scope);
      if (isTied && !scope.empty() && !isOuter)
        path = scope;
      std::string shorter = withoutBase(path);
      return shorter.empty() ? path : shorter;
    }
  }
  std::string path = withoutBase(scope);
  if (isa<MatmulOp>(op) && !scope.empty()) {
    unsigned index = productsOfScope[scope]++;
    kind = index == 0 ? "scores" : index == 1 ? "context" : "matmul";
  }
  if (path.empty())
    return kind.str();
  return repeats(path, kind) ? path : path + "." + kind.str();
}

void Naming::nameOps(Block &block,
                     const llvm::DenseMap<Value, std::string> &parameters) {
  llvm::StringMap<unsigned> used;
  for (Operation &op : block.without_terminator()) {
    if (isa<ConstantOp>(op))
      continue;
    std::string path = pathOf(&op, parameters), name = path;
    for (unsigned suffix = 1; !used.try_emplace(name, 0).second; ++suffix)
      name = path + "." + std::to_string(suffix);
    setStableName(&op, name);
  }
}
