//===- GroupEmitter.cpp - one CUDA kernel for many kernel calls -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See GroupEmitter.h. Kernels whose text differs in the number of elements only
// are one function, which takes that number as an argument.
//
//===----------------------------------------------------------------------===//

#include "GroupEmitter.h"
#include "ExpressionEmitter.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {
constexpr int64_t kThreads = 128;
/// Elements that a thread takes, where it takes any number: finding the part is
/// then a small share of its work.
constexpr int64_t kElementsPerThread = 16;
} // namespace

bool cuda::canBePart(const KernelModel &model) {
  LaunchShape launch = getLaunchShape(model);
  switch (launch.shape) {
  case Shape::ThreadPerElement:
  case Shape::ThreadPerRow:
  case Shape::WarpPerRow:
  case Shape::ThreadPerColumn:
    return launch.sharedBytes == 0;
  case Shape::BlockRows:
  case Shape::BlockTiles:
    return false;
  }
  return false;
}

/// Blocks of kThreads threads that a kernel takes, as {side by side, rows}.
static std::pair<int64_t, int64_t> getBlocks(const KernelModel &model) {
  int64_t chunks = llvm::divideCeil(model.rows, KernelModel::kChunkRows);
  constexpr int64_t warps = kThreads / 32;
  switch (getLaunchShape(model).shape) {
  case Shape::ThreadPerElement:
    return {llvm::divideCeil(model.columns, kThreads * kElementsPerThread), 1};
  case Shape::ThreadPerRow:
    return {llvm::divideCeil(model.rows, kThreads), 1};
  case Shape::WarpPerRow:
    return {llvm::divideCeil(model.rows, warps), 1};
  case Shape::ThreadPerColumn:
    return {llvm::divideCeil(model.columns, kThreads), chunks};
  case Shape::BlockRows:
  case Shape::BlockTiles:
    llvm_unreachable("no parts");
  }
  llvm_unreachable("all shapes are listed");
}

GroupEmitter::GroupEmitter(const StepPlan &plan, const DeviceMemory &memory,
                           Models models)
    : memory(memory) {
  for (const StepPlan::Launch &launch : plan.launches)
    if (launch.kind == StepPlan::LaunchKind::Group)
      addGroup(launch, models);
}

/// The function for a kernel, by its text but for the name.
unsigned GroupEmitter::getBody(StringRef symbol, const KernelModel &model) {
  KernelForm form = getLaunchShape(model).shape == Shape::ThreadPerElement
                        ? KernelForm::CountPart
                        : KernelForm::Part;
  std::string text;
  llvm::raw_string_ostream os(text);
  SourceWriter w(os);
  emitKernel(model, "part", "", w, form);
  auto [it, isNew] = bodyOfText.try_emplace(text, bodies.size());
  if (isNew)
    bodies.push_back({(symbol + "_part").str(), "", &model, form});
  return it->second;
}

void GroupEmitter::addGroup(const StepPlan::Launch &launch, Models models) {
  Group group{&launch, "group_" + std::to_string(groups.size())};
  for (const StepPlan::Part &part : launch.parts) {
    StringRef symbol = cast<func::CallOp>(part.op).getCallee();
    const KernelModel &model = models(symbol);
    unsigned index = getBody(symbol, model);
    if (bodies[index].uses++ == 0)
      bodies[index].firstUse = part.name;
    auto known = llvm::find(group.bodies, index);
    unsigned local = known - group.bodies.begin();
    if (known == group.bodies.end())
      group.bodies.push_back(index);
    auto [across, down] = getBlocks(model);
    group.parts.push_back(
        {&part, local, group.blocks, model.rows * model.columns, across});
    group.blocks += across * down;
    group.numPlaces = std::max(group.numPlaces, part.numRead + part.numWritten);
  }
  findKernel(group);
  groups.push_back(std::move(group));
}

/// Groups of the same bodies, in whatever order, share a function.
void GroupEmitter::findKernel(Group &group) {
  SmallVector<unsigned> sorted(group.bodies);
  llvm::sort(sorted);
  for (Part &part : group.parts)
    part.body = llvm::find(sorted, group.bodies[part.body]) - sorted.begin();
  group.bodies = std::move(sorted);
  std::string text;
  llvm::raw_string_ostream os(text);
  SourceWriter w(os);
  emitGroup(group, "group", w);
  auto [it, isNew] = kernelOfText.try_emplace(text, kernels.size());
  if (isNew)
    kernels.push_back({groups.size()});
  group.kernel = it->second;
  ++kernels[group.kernel].uses;
}

/// The call of a part's function, with the tensors of the part.
void GroupEmitter::emitCall(const Body &body, SourceWriter &w) {
  SmallVector<std::string> items{"block"};
  if (body.form == KernelForm::CountPart)
    items.push_back("part.count");
  func::FuncOp kernel = body.model->function;
  unsigned next = 0;
  auto add = [&](StringRef qualifier, Type type) {
    Type element = cast<RankedTensorType>(type).getElementType();
    items.push_back(("parts.at<" + qualifier + memoryType(element) +
                     ">(part, " + Twine(next++) + ")")
                        .str());
  };
  for (Type type : kernel.getArgumentTypes())
    add("const ", type);
  for (Type type : kernel.getResultTypes())
    add("", type);
  w.list(body.name, items, ";");
}

void GroupEmitter::emitGroup(const Group &group, StringRef name,
                             SourceWriter &w) {
  w.open("__global__ void __launch_bounds__(" + Twine(kThreads) + ") " + name +
         "(mpt::Parts<" + Twine(group.numPlaces) + "> parts) {");
  w.line("const auto &part = parts.find();");
  w.line("const mpt::PartBlock block = parts.blockOf(part);");
  if (group.bodies.size() == 1) {
    emitCall(bodies[group.bodies.front()], w);
  } else {
    w.line("switch (part.body) {");
    for (auto [i, body] : llvm::enumerate(group.bodies)) {
      w.line("case " + Twine(i) + ":");
      w.enter();
      emitCall(bodies[body], w);
      w.line("break;");
      w.leave();
    }
    w.line("}");
  }
  w.close();
}

void GroupEmitter::emitKernels(SourceWriter &w) {
  for (const Body &body : bodies) {
    std::string uses = "For " + body.firstUse;
    if (body.uses > 1)
      uses += " and " + std::to_string(body.uses - 1) + " more";
    emitKernel(*body.model, body.name, uses + ".", w, body.form);
    w.blank();
  }
  for (const Kernel &kernel : kernels) {
    const Group &first = groups[kernel.group];
    std::string uses = "One launch for " + first.launch->name;
    if (kernel.uses > 1)
      uses += "; shared by " + std::to_string(kernel.uses) + " groups";
    w.comment(uses + ".");
    emitGroup(first, first.name, w);
    w.blank();
  }
}

void GroupEmitter::emitLaunch(const StepPlan::Launch &launch, SourceWriter &w) {
  const Group &group = *llvm::find_if(
      groups, [&](const Group &each) { return each.launch == &launch; });
  std::string type =
      "mpt::Part" + std::string("<") + std::to_string(group.numPlaces) + ">";
  w.list("mpt::launch",
         {quoted(launch.name), groups[kernels[group.kernel].group].name,
          std::to_string(group.blocks), std::to_string(kThreads), "0", "stream",
          "mpt::Parts<" + std::to_string(group.numPlaces) +
              ">{step.memory(), at<" + type + ">(offset::" + group.name +
              "), " + std::to_string(group.parts.size()) + ", " +
              std::to_string(group.blocks) + "}"},
         ";");
}

SmallVector<std::string> GroupEmitter::emitTables(SourceWriter &w) {
  SmallVector<std::string> entries;
  if (!groups.empty())
    w.comment("Parts of groups: first block, elements, function, blocks side "
              "by side, places.");
  for (const Group &group : groups) {
    std::string name = group.name + "Parts";
    w.line("const mpt::Part<" + Twine(group.numPlaces) + "> " + name +
           "[] = {");
    for (const Part &part : group.parts) {
      SmallVector<std::string> places;
      for (StepPlan::Access access : group.launch->getAccesses(*part.part)) {
        std::string place = "offset::" + memory.buffers[access.buffer].name;
        if (access.offset)
          place += " + " + std::to_string(access.offset);
        places.push_back(place);
      }
      places.resize(group.numPlaces, places.front());
      w.line("    {" + Twine(part.firstBlock) + ", " + Twine(part.count) +
             ", " + Twine(part.body) + ", " + Twine(part.gridX) + ",");
      w.line("     {" + llvm::join(places, ", ") + "}},");
    }
    w.line("};");
    entries.push_back("{offset::" + group.name + ", sizeof(" + name + "), " +
                      name + "}");
  }
  return entries;
}
