//===- Manifest.cpp - the manifest of a CUDA package ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The plan as data beside the source: for the Python front end, which binds
// arguments by it, and for tests, which look into device memory with it. See
// docs/cuda.md.
//
//===----------------------------------------------------------------------===//

#include "KernelEmitter.h"
#include "StepEmitter.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;
namespace json = llvm::json;

namespace {

StringRef dtypeName(Type type) {
  if (type.isF32())
    return "f32";
  if (type.isBF16())
    return "bf16";
  if (isa<Float8E4M3FNType>(type))
    return "f8E4M3FN";
  if (isa<Float8E5M2Type>(type))
    return "f8E5M2";
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return "i1";
  case 8:
    return "i8";
  case 32:
    return "i32";
  default:
    return "i64";
  }
}

struct Writer {
  const StepPlan &plan;
  const DeviceMemory &memory;
  json::OStream json;

  Writer(const StepPlan &plan, const DeviceMemory &memory,
         llvm::raw_ostream &os)
      : plan(plan), memory(memory), json(os, 1) {}

  void typed(RankedTensorType type) {
    json.attribute("dtype", dtypeName(type.getElementType()));
    json.attributeArray("shape", [&] {
      for (int64_t size : type.getShape())
        json.value(size);
    });
  }
  void accesses(StringRef key, ArrayRef<StepPlan::Access> list) {
    json.attributeArray(key, [&] {
      for (StepPlan::Access access : list)
        json.array([&] {
          json.value(access.buffer);
          json.value(access.offset);
        });
    });
  }
  void arguments();
  void results();
  void buffers();
  void launches();
  void product(const StepPlan::Launch &launch);
  void view(StringRef key, const ProductView &view, Type element) {
    json.attributeObject(key, [&] {
      json.attribute("dtype", dtypeName(element));
      json.attribute("rows", view.rows);
      json.attribute("columns", view.columns);
      json.attributeArray("batch", [&] {
        json.value(view.batch[0]);
        json.value(view.batch[1]);
      });
    });
  }
};

void Writer::arguments() {
  for (const StepPlan::Argument &argument : plan.arguments)
    json.object([&] {
      json.attribute("name", argument.name);
      json.attribute("kind", stringifyKind(argument.kind));
      typed(argument.type);
      json.attribute("buffer", argument.buffer);
      if (argument.kind == Kind::Parameter)
        json.attribute("init", "file");
      else if (argument.kind == Kind::OptimizerState)
        json.attribute("init", "zero");
      if (argument.range)
        json.attributeArray("range", [&] {
          json.value(argument.range->first);
          json.value(argument.range->second);
        });
      if (argument.ignoreIndex)
        json.attribute("ignore_index", *argument.ignoreIndex);
    });
}

void Writer::results() {
  for (const StepPlan::Result &result : plan.results)
    if (!result.alias)
      json.object([&] {
        json.attribute("name", result.name);
        typed(result.type);
        json.attribute("buffer", result.access.buffer);
      });
}

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
  json.attributeArray("batch", [&] {
    json.value(views.batch[0]);
    json.value(views.batch[1]);
  });
  view("lhs", views.lhs, element(op.getLhsOperand().get()));
  view("rhs", views.rhs, element(op.getRhsOperand().get()));
  view("result", views.result, element(launch.op->getResult(0)));
}

void Writer::launches() {
  static constexpr StringLiteral ops[] = {"kernel", "product", "scatter_add",
                                          "copy", "fill"};
  for (const StepPlan::Launch &launch : plan.launches)
    json.object([&] {
      json.attribute("op", ops[static_cast<int>(launch.kind)]);
      json.attribute("name", launch.name);
      if (launch.kind == StepPlan::LaunchKind::Kernel)
        json.attribute("symbol", cast<func::CallOp>(launch.op).getCallee());
      if (launch.kind == StepPlan::LaunchKind::Product)
        product(launch);
      if (auto scatter = dyn_cast_or_null<ScatterAddOp>(launch.op)) {
        json.attribute("rows", scatter.getIds().getType().getNumElements());
        json.attribute("columns", scatter.getInit().getType().getDimSize(1));
      }
      if (launch.bytes)
        json.attribute("bytes", launch.bytes);
      accesses("args", launch.accesses);
      json.attribute("written", launch.numWritten);
    });
}

} // namespace

LogicalResult cuda::writeManifest(const StepPlan &plan,
                                  const DeviceMemory &memory,
                                  StringRef graphHash, StringRef sourceHash,
                                  llvm::raw_ostream &os) {
  Writer writer(plan, memory, os);
  json::OStream &json = writer.json;
  json.object([&] {
    json.attribute("format", "mpt-package");
    json.attribute("version", 1);
    json.attribute("function", func::FuncOp(plan.step).getName());
    json.attribute("target", "cuda");
    json.attribute("arch", "sm_90a");
    json.attribute("graph_hash", graphHash);
    json.attribute("source_hash", sourceHash);
    json.attributeArray("arguments", [&] { writer.arguments(); });
    json.attributeArray("results", [&] { writer.results(); });
    json.attribute("memory_bytes", memory.bytes);
    json.attribute("arena_bytes", plan.arenaBytes);
    json.attributeArray("buffers", [&] { writer.buffers(); });
    json.attributeArray("launches", [&] { writer.launches(); });
  });
  os << "\n";
  return success();
}
