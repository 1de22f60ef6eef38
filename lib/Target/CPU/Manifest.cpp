//===- Manifest.cpp - the manifest of a CPU package -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Manifest.h and docs/package.md.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/CPU/Manifest.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace mpt;
namespace json = llvm::json;

std::string mpt::hashText(StringRef bytes) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (unsigned char byte : bytes)
    hash = (hash ^ byte) * 0x100000001b3ull;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format_hex_no_prefix(hash, 16);
  return text;
}

namespace {

/// The name of an element type in manifests.
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
  json::OStream json;
  llvm::StringMap<int64_t> tasks;

  Writer(const StepPlan &plan, llvm::raw_ostream &os)
      : plan(plan), json(os, 1) {}

  void typed(RankedTensorType type) {
    json.attribute("dtype", dtypeName(type.getElementType()));
    json.attributeArray("shape", [&] {
      for (int64_t size : type.getShape())
        json.value(size);
    });
  }
  void access(StringRef key, StepPlan::Access access) {
    json.attributeArray(key, [&] { accessValues(access); });
  }
  void accessValues(StepPlan::Access access) {
    json.value(access.buffer);
    json.value(access.offset);
  }
  void arguments();
  void results();
  void buffers();
  LogicalResult launches();
  LogicalResult kernel(const StepPlan::Launch &launch);
  void product(const StepPlan::Launch &launch);
  void scatter(const StepPlan::Launch &launch);
  void operand(StringRef key, const ProductView &view, StepPlan::Access access);
};

/// Moments and corrections start at zero, parameters in a file; what the caller
/// binds has no initial value.
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
  for (const StepPlan::Result &result : plan.results) {
    if (result.alias)
      continue;
    json.object([&] {
      json.attribute("name", result.name);
      typed(result.type);
      json.attribute("buffer", result.access.buffer);
    });
  }
}

void Writer::buffers() {
  for (const StepPlan::Buffer &buffer : plan.buffers)
    json.object([&] {
      switch (buffer.kind) {
      case StepPlan::BufferKind::Argument:
        json.attribute("kind", "argument");
        break;
      case StepPlan::BufferKind::Arena:
        json.attribute("kind", "arena");
        json.attribute("offset", buffer.offset);
        break;
      case StepPlan::BufferKind::Constant:
        json.attribute("kind", "constant");
        json.attribute(
            "data",
            llvm::toHex(ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(
                                              buffer.data.data()),
                                          buffer.data.size()),
                        /*LowerCase=*/true));
        break;
      }
      json.attribute("bytes", buffer.bytes);
    });
}

LogicalResult Writer::kernel(const StepPlan::Launch &launch) {
  auto call = cast<func::CallOp>(launch.op);
  int64_t &count = tasks[call.getCallee()];
  if (count == 0) {
    auto model =
        KernelModel::build(SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
            call, call.getCalleeAttr()));
    if (failed(model))
      return failure();
    count = model->tasks;
  }
  json.attribute("op", "kernel");
  json.attribute("symbol", call.getCallee());
  json.attribute("name", launch.name);
  json.attributeArray("args", [&] {
    for (StepPlan::Access access : launch.accesses)
      json.array([&] { accessValues(access); });
  });
  json.attribute("tasks", count);
  return success();
}

void Writer::operand(StringRef key, const ProductView &view,
                     StepPlan::Access access) {
  json.attributeObject(key, [&] {
    json.attribute("buffer", access.buffer);
    json.attribute("offset", access.offset / 4);
    json.attribute("rows", view.rows);
    json.attribute("columns", view.columns);
    json.attributeArray("batch", [&] {
      json.value(view.batch[0]);
      json.value(view.batch[1]);
    });
  });
}

void Writer::product(const StepPlan::Launch &launch) {
  const ProductViews &views = *launch.product;
  auto role = cast<ProductOpInterface>(launch.op).getProductRole();
  json.attribute("op", "product");
  json.attribute("name", launch.name);
  json.attribute("role", stringifyRole(role.value_or(Role::Fprop)));
  json.attribute("m", views.m);
  json.attribute("n", views.n);
  json.attribute("k", views.k);
  json.attributeArray("batch", [&] {
    json.value(views.batch[0]);
    json.value(views.batch[1]);
  });
  operand("lhs", views.lhs, launch.accesses[0]);
  operand("rhs", views.rhs, launch.accesses[1]);
  operand("result", views.result, launch.accesses[2]);
}

void Writer::scatter(const StepPlan::Launch &launch) {
  auto op = cast<ScatterAddOp>(launch.op);
  json.attribute("op", "scatter_add");
  json.attribute("name", launch.name);
  json.attribute("rows", op.getIds().getType().getNumElements());
  json.attribute("columns", op.getInit().getType().getDimSize(1));
  json.attribute("table", op.getInit().getType().getDimSize(0));
  json.attribute("id_dtype", dtypeName(op.getIds().getType().getElementType()));
  access("init", launch.accesses[0]);
  access("ids", launch.accesses[1]);
  access("updates", launch.accesses[2]);
  access("result", launch.accesses[3]);
}

LogicalResult Writer::launches() {
  LogicalResult status = success();
  for (const StepPlan::Launch &launch : plan.launches)
    json.object([&] {
      switch (launch.kind) {
      case StepPlan::LaunchKind::Kernel:
        if (failed(kernel(launch)))
          status = failure();
        break;
      case StepPlan::LaunchKind::Product:
        if (isa<ScaledMatmulOp>(launch.op)) {
          status =
              launch.op->emitOpError()
              << "named '" << launch.name
              << "' reaches a CPU package: run --mpt-emulate-products first";
          break;
        }
        product(launch);
        break;
      case StepPlan::LaunchKind::ScatterAdd:
        scatter(launch);
        break;
      case StepPlan::LaunchKind::Copy:
        json.attribute("op", "copy");
        json.attribute("name", launch.name);
        json.attribute("bytes", launch.bytes);
        access("source", launch.accesses[0]);
        access("result", launch.accesses[1]);
        break;
      case StepPlan::LaunchKind::Fill:
        json.attribute("op", "fill");
        json.attribute("name", launch.name);
        json.attribute("bytes", launch.bytes);
        access("result", launch.accesses[0]);
        break;
      }
    });
  return status;
}

} // namespace

LogicalResult mpt::writeManifest(const StepPlan &plan, const ManifestInfo &info,
                                 llvm::raw_ostream &os) {
  Writer writer(plan, os);
  json::OStream &json = writer.json;
  LogicalResult status = success();
  json.object([&] {
    json.attribute("format", "mpt-package");
    json.attribute("version", 1);
    json.attribute("function", func::FuncOp(plan.step).getName());
    json.attribute("target", "cpu");
    json.attribute("engine", info.engine);
    json.attribute("graph_hash", info.graphHash);
    json.attribute("kernels_hash", info.kernelsHash);
    json.attributeObject("cpu", [&] {
      json.attribute("arch", "x86_64");
      json.attributeArray("features", [&] {
        for (const std::string &feature : info.cpuFeatures)
          json.value(feature);
      });
    });
    json.attributeArray("arguments", [&] { writer.arguments(); });
    json.attributeArray("results", [&] { writer.results(); });
    json.attribute("arena_bytes", plan.arenaBytes);
    json.attributeArray("buffers", [&] { writer.buffers(); });
    json.attributeArray("launches", [&] { status = writer.launches(); });
  });
  os << "\n";
  return status;
}
