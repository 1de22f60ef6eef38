//===- GraphImporter.h - the state of one import --------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What handlers of ONNX ops work with: the values defined so far, the function
// under construction, and the facts that are checked when it is complete.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_FRONTEND_ONNX_GRAPHIMPORTER_H
#define MPT_LIB_FRONTEND_ONNX_GRAPHIMPORTER_H

#include "HostTensor.h"
#include "Naming.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

namespace mpt::onnx_import {

/// The opsets whose operators are imported (docs/import.md).
constexpr int64_t kMinOpset = 17, kMaxOpset = 23;

/// What an ONNX value name stands for: a tensor of the graph, or a constant.
struct Entry {
  mlir::Value value; // of a constant: once it is needed
  std::shared_ptr<const HostTensor> constant; // null for a tensor of the graph
  const FileTensor *file = nullptr;           // a constant not read yet
};

/// One argument of the function under construction.
struct Argument {
  mlir::Value value;
  std::string name;
  Kind kind = Kind::Input;
  const FileTensor *initializer = nullptr; // of parameters
  std::optional<std::pair<int64_t, int64_t>> range;
  std::optional<int64_t> ignoreIndex;
};

/// A use of a vector parameter as bias or gain of a layer.
struct VectorUse {
  mlir::Value parameter;
  std::string role;  // "bias of a product", "gain", "bias of a normalisation"
  std::string layer; // what tells layers apart: the weight, or the module
  std::string node;
};

class GraphImporter {
public:
  GraphImporter(mlir::MLIRContext *context, const ModelFile &model,
                const ImportOptions &options);

  /// Builds the module; parameters are appended to `parameters`.
  llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
  run(std::vector<ParameterValue> &parameters);

  // What handlers use.
  mlir::OpBuilder builder;
  mlir::Location location;
  Naming naming;
  std::vector<VectorUse> vectorUses;
  std::vector<std::string> inactiveDropouts; // nodes without training_mode

  /// Creates an op that belongs to the current node.
  template <typename Op, typename... Args> Op create(Args &&...args) {
    Op op = Op::create(builder, location, std::forward<Args>(args)...);
    naming.setScope(op, scope);
    return op;
  }
  mlir::Value reshape(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  mlir::Value broadcast(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  mlir::Value transpose(mlir::Value value, llvm::ArrayRef<int64_t> permutation);
  mlir::Value slice(mlir::Value value, llvm::ArrayRef<int64_t> offsets,
                    llvm::ArrayRef<int64_t> sizes);
  mlir::Value constant(mlir::ElementsAttr value);

  /// The argument that holds `value`'s elements, through views; or null.
  Argument *argumentOf(mlir::Value value);
  /// The parameter that `value` itself is, or null.
  Argument *parameterOf(mlir::Value value);
  /// Requires the elements of `ids`, an argument seen through views, to lie in
  /// [0, count), or be `ignoreIndex`.
  llvm::Error restrictRange(mlir::Value ids, int64_t count,
                            std::optional<int64_t> ignoreIndex);
  /// The scalar arguments that dropout draws from.
  mlir::Value rngSeed();
  mlir::Value rngStep();
  /// Adds mean cross entropy over the last dim of `logits`.
  llvm::Expected<mlir::Value>
  crossEntropy(mlir::Value logits, mlir::Value labels, int64_t ignoreIndex);
  const std::string &currentScope() const { return scope; }

private:
  friend class NodeContext;

  llvm::Error checkOpset();
  llvm::Error addInitializers();
  llvm::Error addInputs();
  llvm::Expected<llvm::SmallVector<int64_t>>
  boundShape(const onnx::ValueInfoProto &input);
  llvm::Error checkBindings();
  llvm::Error collectNames();
  /// Whether `node` needs an output of `other`, through any number of nodes.
  bool dependsOn(const onnx::NodeProto &node,
                 const onnx::NodeProto &other) const;
  llvm::Error importNode(const onnx::NodeProto &node);
  llvm::Error dispatch(const onnx::NodeProto &node);
  llvm::Error define(llvm::StringRef name, Entry entry);
  llvm::Expected<mlir::Value> addLabels(mlir::Value logits);
  llvm::Error addResults();
  llvm::Error checkDropouts();
  llvm::Error checkMergedParameters();
  llvm::Error assignDropoutIds();
  llvm::Error finishSignature(std::vector<ParameterValue> &parameters);

  const ModelFile &model;
  const ImportOptions &options;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp function;
  mlir::Block *block = nullptr;
  std::vector<Argument> arguments;
  std::optional<size_t> seedArgument, stepArgument;
  llvm::StringMap<Entry> values;
  llvm::StringMap<const onnx::NodeProto *> producers;
  llvm::StringSet<> used; // names that some node or the graph's outputs read
  llvm::StringMap<int64_t> boundAxes; // every named axis, with its size or -1
  std::vector<std::string> unbound;
  llvm::SmallVector<std::pair<std::string, mlir::Value>> results;
  std::string scope; // of the current node
};

/// Identifies a node in diagnostics: name, op, domain and opset.
std::string describeNode(const onnx::NodeProto &node, int64_t opset);

} // namespace mpt::onnx_import

#endif // MPT_LIB_FRONTEND_ONNX_GRAPHIMPORTER_H
