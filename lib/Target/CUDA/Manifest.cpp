//===- Manifest.cpp - the manifest of a CUDA package ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The plan as data beside the source: for the Python front end, which binds
// arguments by it, and for tests, which look into device memory with it. See
// docs/cuda.md.
//
//===----------------------------------------------------------------------===//

#include "AttentionEmitter.h"
#include "GemmEmitter.h"
#include "KernelEmitter.h"
#include "StepEmitter.h"
#include "mpt/Target/Package/ManifestWriter.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

struct Writer : ManifestWriter {
  const DeviceMemory &memory;

  Writer(const StepPlan &plan, const DeviceMemory &memory,
         llvm::raw_ostream &os)
      : ManifestWriter(plan, os), memory(memory) {}

  void accesses(StringRef key, ArrayRef<StepPlan::Access> list) {
    json.attributeArray(key, [&] {
      for (StepPlan::Access access : list)
        json.array([&] { accessValues(access); });
    });
  }
  void buffers();
  void launches(ArrayRef<StepPlan::Launch> list);
  void product(const StepPlan::Launch &launch);
  void epilogues();
  void attention(const StepPlan::Launch &launch);
  void parts(const StepPlan::Launch &group);
  void view(StringRef key, const ProductView &view, Type element) {
    json.attributeObject(key, [&] {
      json.attribute("dtype", getDtypeName(element));
      json.attribute("rows", view.rows);
      json.attribute("columns", view.columns);
      batch(view.batch);
    });
  }
};

void Writer::buffers() {
  static constexpr StringLiteral kinds[] = {"argument", "arena", "constant"};
  for (size_t i = 0; i < plan.buffers.size(); ++i)
    json.object([&] {
      json.attribute("kind", kinds[static_cast<int>(plan.buffers[i].kind)]);
      json.attribute("name", memory.buffers[i].name);
      json.attribute("offset", memory.buffers[i].offset);
      json.attribute("bytes", plan.buffers[i].bytes);
    });
}

/// Bytes that the epilogue does not move: the product's result, which a kernel
/// of its own would read, and which would be written for it alone.
int64_t getSavedBytes(const StepPlan::Launch &launch) {
  auto fused = cast<FusedMatmulOp>(launch.op);
  int64_t bytes = launch.product->m * launch.product->n * 4;
  return fused.getKeep() ? bytes : 2 * bytes;
}

void Writer::product(const StepPlan::Launch &launch) {
  auto op = cast<ProductOpInterface>(launch.op);
  const ProductViews &views = *launch.product;
  auto element = [](Value value) {
    return cast<RankedTensorType>(value.getType()).getElementType();
  };
  json.attribute("role",
                 stringifyRole(op.getProductRole().value_or(Role::Fprop)));
  json.attribute("m", views.m);
  json.attribute("n", views.n);
  json.attribute("k", views.k);
  batch(views.batch);
  view("lhs", views.lhs, element(op.getLhsOperand().get()));
  view("rhs", views.rhs, element(op.getRhsOperand().get()));
  view("result", views.result, Float32Type::get(launch.op->getContext()));
  json.attribute("implementation",
                 isOwnProduct(launch) ? kOwn.str() : kCublasLt.str());
  if (auto reason = launch.op->getAttrOfType<StringAttr>(kReasonAttr))
    json.attribute("reason", reason.getValue());
  if (isOwnProduct(launch))
    json.attribute("kernel", getOwnKernelName(launch));
  if (auto fused = dyn_cast<FusedMatmulOp>(launch.op)) {
    json.attribute("epilogue", fused.getEpilogue());
    json.attribute("position", static_cast<int64_t>(fused.getPosition()));
    json.attribute("keep", fused.getKeep());
    json.attribute("saved_bytes", getSavedBytes(launch));
  }
}

void Writer::parts(const StepPlan::Launch &group) {
  json.attributeArray("parts", [&] {
    for (const StepPlan::Part &part : group.parts)
      json.object([&] {
        json.attribute("name", part.name);
        json.attribute("symbol", cast<func::CallOp>(part.op).getCallee());
        accesses("args", group.getAccesses(part));
        json.attribute("written", part.numWritten);
      });
  });
}

/// Sizes, factor, dropout, and the strides of what is read and written.
void Writer::attention(const StepPlan::Launch &launch) {
  const AttentionShape shape = getAttentionShape(launch);
  json.attribute("batches", shape.batches);
  json.attribute("sequence", shape.sequence);
  json.attribute("heads", shape.heads);
  json.attribute("head_size", shape.headSize);
  json.attribute("scale", static_cast<double>(shape.scale));
  if (shape.keep) {
    json.attribute("keep_probability", static_cast<double>(*shape.keep));
    json.attribute("dropout_id", shape.dropoutId);
  }
  json.attribute("implementation", "own");
  json.attributeArray("kernel", [&] {
    for (const std::string &name : getAttentionKernels(launch))
      json.value(name);
  });
  json.attribute("bias", shape.hasBias);
  if (shape.hasBias)
    json.attribute("bias_stride", shape.biasStride);
  json.attributeArray("heads_views", [&] {
    for (const AttentionShape::Heads &each : shape.views)
      json.object([&] {
        json.attribute("dtype", getDtypeName(each.element));
        json.attribute("rows", each.rows);
        json.attribute("batch", each.batch);
      });
  });
}

void Writer::launches(ArrayRef<StepPlan::Launch> list) {
  unsigned numGroups = 0;
  static constexpr StringLiteral ops[] = {
      "kernel", "product",   "scatter_add",    "copy",
      "fill",   "attention", "attention_grad", "group"};
  for (const StepPlan::Launch &launch : list)
    json.object([&] {
      json.attribute("op", ops[static_cast<int>(launch.kind)]);
      json.attribute("name", launch.name);
      if (launch.kind == StepPlan::LaunchKind::Kernel)
        json.attribute("symbol", cast<func::CallOp>(launch.op).getCallee());
      if (launch.kind == StepPlan::LaunchKind::Product)
        product(launch);
      if (launch.kind == StepPlan::LaunchKind::Attention ||
          launch.kind == StepPlan::LaunchKind::AttentionGrad)
        attention(launch);
      if (auto scatter = dyn_cast_or_null<ScatterAddOp>(launch.op)) {
        json.attribute("rows", scatter.getIds().getType().getNumElements());
        json.attribute("columns", scatter.getInit().getType().getDimSize(1));
      }
      if (launch.bytes)
        json.attribute("bytes", launch.bytes);
      if (launch.kind == StepPlan::LaunchKind::Group) {
        json.attribute("table", memory.tables[numGroups++].name);
        parts(launch);
      }
      accesses("args", launch.accesses);
      json.attribute("written", launch.numWritten);
    });
}

/// What the epilogues save over kernels of their own. Maxima that begin as
/// zeros cost a fill.
void Writer::epilogues() {
  int64_t fused = 0, bytes = 0, fills = 0;
  for (const StepPlan::Launch &launch : plan.launches) {
    auto op = dyn_cast_or_null<FusedMatmulOp>(launch.op);
    if (!op)
      continue;
    ++fused;
    bytes += getSavedBytes(launch);
    Epilogue epilogue = getEpilogue(getEpilogueFunction(op), op.getPosition(),
                                    launch.product->m, launch.product->n);
    fills += getZeroedResults(epilogue.model).size();
  }
  json.attributeObject("epilogues", [&] {
    json.attribute("fused", fused);
    json.attribute("saved_launches", fused - fills);
    json.attribute("saved_bytes", bytes);
  });
}

} // namespace

LogicalResult cuda::writeManifest(const StepPlan &plan,
                                  const DeviceMemory &memory,
                                  StringRef graphHash, StringRef sourceHash,
                                  llvm::raw_ostream &os) {
  Writer writer(plan, memory, os);
  llvm::json::OStream &json = writer.json;
  json.object([&] {
    json.attribute("format", "mpt-package");
    json.attribute("version", 1);
    json.attribute("function", func::FuncOp(plan.step).getName());
    json.attribute("target", "cuda");
    json.attribute("arch", "sm_90a");
    json.attribute("graph_hash", graphHash);
    json.attribute("source_hash", sourceHash);
    writer.signature();
    json.attribute("memory_bytes", memory.bytes);
    json.attribute("arena_bytes", plan.arenaBytes);
    writer.memoryReport();
    json.attributeArray("buffers", [&] { writer.buffers(); });
    json.attributeArray("launches", [&] { writer.launches(plan.launches); });
    if (!plan.init.empty())
      json.attributeArray("init", [&] { writer.launches(plan.init); });
    writer.epilogues();
    writer.gradients();
    writer.traffic();
  });
  os << "\n";
  return success();
}
