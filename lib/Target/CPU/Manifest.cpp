//===- Manifest.cpp - the manifest of a CPU package -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Manifest.h and docs/package.md.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/CPU/Manifest.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "mpt/Target/Package/ManifestWriter.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace mpt;

namespace {

struct Writer : ManifestWriter {
  llvm::StringMap<int64_t> tasks;

  using ManifestWriter::ManifestWriter;

  void access(StringRef key, StepPlan::Access access) {
    json.attributeArray(key, [&] { accessValues(access); });
  }
  void buffers();
  LogicalResult launches(ArrayRef<StepPlan::Launch> list);
  LogicalResult kernel(const StepPlan::Launch &launch);
  void product(const StepPlan::Launch &launch);
  void scatter(const StepPlan::Launch &launch);
  void operand(StringRef key, const ProductView &view, StepPlan::Access access);
};

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
  json.attribute("written", launch.numWritten);
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
    batch(view.batch);
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
  batch(views.batch);
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
  json.attribute("id_dtype",
                 getDtypeName(op.getIds().getType().getElementType()));
  access("init", launch.accesses[0]);
  access("ids", launch.accesses[1]);
  access("updates", launch.accesses[2]);
  access("result", launch.accesses[3]);
}

LogicalResult Writer::launches(ArrayRef<StepPlan::Launch> list) {
  LogicalResult status = success();
  for (const StepPlan::Launch &launch : list)
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
      case StepPlan::LaunchKind::Attention:
      case StepPlan::LaunchKind::AttentionGrad:
        status = launch.op->emitOpError()
                 << "named '" << launch.name
                 << "' reaches a CPU package: --mpt-form-attention is for CUDA";
        break;
      case StepPlan::LaunchKind::Group:
        llvm_unreachable("the CPU's plan groups nothing");
      }
    });
  return status;
}

} // namespace

LogicalResult mpt::writeManifest(const StepPlan &plan, const ManifestInfo &info,
                                 llvm::raw_ostream &os) {
  Writer writer(plan, os);
  llvm::json::OStream &json = writer.json;
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
    writer.signature();
    json.attribute("arena_bytes", plan.arenaBytes);
    writer.memoryReport();
    json.attributeArray("buffers", [&] { writer.buffers(); });
    json.attributeArray("launches",
                        [&] { status = writer.launches(plan.launches); });
    if (!plan.init.empty() && succeeded(status))
      json.attributeArray("init", [&] { status = writer.launches(plan.init); });
    writer.gradients();
  });
  os << "\n";
  return status;
}
