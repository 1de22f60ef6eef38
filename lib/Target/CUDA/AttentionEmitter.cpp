//===- AttentionEmitter.cpp - launches of attention -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See AttentionEmitter.h. The kernels are mpt/CUDA/HopperAttention.h's and
// HopperAttentionGrad.h's; only those that a step launches are compiled.
//
//===----------------------------------------------------------------------===//

#include "AttentionEmitter.h"
#include "ExpressionEmitter.h"
#include "mpt/Numerics/Philox.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

bool isAttention(const StepPlan::Launch &launch) {
  return launch.kind == StepPlan::LaunchKind::Attention ||
         launch.kind == StepPlan::LaunchKind::AttentionGrad;
}

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// The tensors [batch, sequence, heads, head size] of an op, in order.
SmallVector<Value> headsOf(Operation *op) {
  if (auto forward = dyn_cast<AttentionOp>(op))
    return {forward.getQuery(), forward.getKey(), forward.getValue(),
            forward.getOutput()};
  auto grad = cast<AttentionGradOp>(op);
  return {grad.getQuery(),   grad.getKey(),        grad.getValue(),
          grad.getOutput(),  grad.getGradOutput(), grad.getGradQuery(),
          grad.getGradKey(), grad.getGradValue()};
}

std::optional<HeadsView> viewOf(Value value) {
  auto view = getStorageView(value);
  return view ? getHeadsView(*view) : std::nullopt;
}

template <typename Op> AttentionShape describe(Op op) {
  ArrayRef<int64_t> sizes = typeOf(op.getQuery()).getShape();
  AttentionShape shape;
  shape.batches = sizes[0];
  shape.sequence = sizes[1];
  shape.heads = sizes[2];
  shape.headSize = sizes[3];
  shape.scale = op.getScale().convertToFloat();
  if (auto keep = op.getKeepProbability()) {
    shape.keep = keep->convertToFloat();
    shape.dropoutId = *op.getDropoutId();
  }
  if (Value bias = op.getBias()) {
    shape.hasBias = true;
    auto view = getStorageView(bias);
    if (typeOf(bias).getDimSize(0) != 1)
      shape.biasStride = view->layout.strides[0];
  }
  for (Value value : headsOf(op)) {
    auto view = viewOf(value);
    shape.views.push_back({typeOf(value).getElementType(),
                           view ? view->rows : 0, view ? view->batch : 0});
  }
  return shape;
}

/// The C++ type of a launch: the kernels that it names are compiled.
std::string kernelType(const StepPlan::Launch &launch) {
  AttentionShape shape = getAttentionShape(launch);
  bool forward = launch.kind == StepPlan::LaunchKind::Attention;
  std::string text = forward ? "Forward<" : "Gradient<";
  text += std::to_string(shape.headSize) +
          (shape.keep ? ", true, " : ", false, ") +
          memoryType(shape.views[3].element).str();
  if (!forward)
    text += ", " + memoryType(shape.views[5].element).str();
  return "mpt::attention::" + text + ">";
}

} // namespace

AttentionShape cuda::getAttentionShape(const StepPlan::Launch &launch) {
  if (auto forward = dyn_cast<AttentionOp>(launch.op))
    return describe(forward);
  return describe(cast<AttentionGradOp>(launch.op));
}

AttentionEmitter::Table &
AttentionEmitter::tableOf(const StepPlan::Launch &launch) {
  std::string type = kernelType(launch);
  unsigned alike = 0;
  bool forward = launch.kind == StepPlan::LaunchKind::Attention;
  std::string name = forward ? "attention" : "attentionGrad";
  for (Table &table : tables) {
    if (table.type == type)
      return table;
    alike += StringRef(table.name).rtrim("0123456789") == name;
  }
  if (alike)
    name += std::to_string(alike + 1);
  tables.push_back({type, name});
  return tables.back();
}

AttentionEmitter::AttentionEmitter(const StepPlan &plan, At at)
    : plan(plan), at(std::move(at)) {
  for (const StepPlan::Launch &launch : plan.launches)
    if (isAttention(launch)) {
      Table &table = tableOf(launch);
      places[&launch] = {table.name, table.size++};
    }
}

std::string AttentionEmitter::launch(const StepPlan::Launch &launch,
                                     StringRef name) const {
  auto [table, place] = places.lookup(&launch);
  return (Twine(table) + ".run(/*" + name + "*/ " + Twine(place) + ", stream);")
      .str();
}

std::string AttentionEmitter::loader(StringRef load) const {
  if (empty())
    return load.empty() ? "[] {}" : load.str();
  return load.empty() ? "loadAttention"
                      : ("[] { " + load + "(); loadAttention(); }").str();
}

/// One row of a table, as mpt::attention's Description has its members.
void AttentionEmitter::add(const StepPlan::Launch &launch,
                           SourceWriter &w) const {
  const AttentionShape shape = getAttentionShape(launch);
  MLIRContext *context = launch.op->getContext();
  Type f32 = Float32Type::get(context), i64 = IntegerType::get(context, 64);
  ArrayRef<StepPlan::Access> accesses = launch.accesses;
  bool forward = launch.kind == StepPlan::LaunchKind::Attention;
  // Heads and rows in front of the bias, the results at the end.
  unsigned bias = forward ? 3 : 7, random = bias + shape.hasBias;
  unsigned results = accesses.size() - launch.numWritten;
  auto heads = [&](unsigned view, StepPlan::Access access) {
    const AttentionShape::Heads &each = shape.views[view];
    return "{" + at(each.element, access) + ", " + std::to_string(each.rows) +
           ", " + std::to_string(each.batch) + "}";
  };
  std::string common = "{" + std::to_string(shape.sequence) + ", " +
                       std::to_string(shape.heads) + ", " +
                       floatLiteral(shape.scale) + ", " +
                       (shape.hasBias ? at(f32, accesses[bias]) : "nullptr") +
                       ", " + std::to_string(shape.biasStride) + ",";
  std::string dropout = "{nullptr, nullptr, 0, 0, 0.0f}";
  if (shape.keep)
    dropout = "{" + at(i64, accesses[random]) + ", " +
              at(i64, accesses[random + 1]) + ", " +
              std::to_string(static_cast<uint32_t>(shape.dropoutId)) + "u, " +
              std::to_string(num::keepThreshold(*shape.keep)) + "u, " +
              floatLiteral(1.0f / *shape.keep) + "}";
  unsigned rows = forward ? results + 1 : 5;
  std::string statistics =
      at(f32, accesses[rows]) + ", " + at(f32, accesses[rows + 1]) + "},";
  w.line(places.lookup(&launch).first + ".add({" + quoted(launch.name) + ", " +
         Twine(shape.batches) + ",");
  for (unsigned i = 0; i < (forward ? 3 : 5); ++i)
    w.line("    " + heads(i, accesses[i]) + ",");
  w.line("    {" + common);
  w.line("      " + dropout + ",");
  w.line("      " + statistics);
  // The results all lie alike.
  const AttentionShape::Heads &out = shape.views[forward ? 3 : 5];
  std::string last;
  if (!forward)
    last += at(f32, accesses[results + 3]) + ", ";
  for (unsigned i = 0; i < (forward ? 1 : 3); ++i)
    last += at(out.element, accesses[results + i]) + ", ";
  w.line("     " + last + Twine(out.rows) + ", " + Twine(out.batch) + "}});");
}

LogicalResult AttentionEmitter::emit(SourceWriter &w) const {
  if (empty())
    return success();
  for (const Table &table : tables)
    w.line("mpt::attention::Launches<" + table.type + "> " + table.name + ";");
  w.blank();
  w.comment("Attention: name, sequences, then operands as {place, row stride, "
            "batch stride}; length, heads, factor, mask and its stride, "
            "{seed, step, id, threshold, 1 / keep}, the rows' maxima and log "
            "sums; results and their strides.");
  w.line("// clang-format off");
  w.open("void loadAttention() {");
  for (const Table &table : tables)
    w.line(table.name + ".clear();");
  for (const StepPlan::Launch &launch : plan.launches) {
    if (!isAttention(launch))
      continue;
    for (Value value : headsOf(launch.op))
      if (!viewOf(value))
        return launch.op->emitOpError()
               << "named '" << launch.name << "' reads " << value.getType()
               << " whose heads do not lie side by side in rows that begin at "
                  "multiples of 8 elements";
    add(launch, w);
  }
  w.close();
  w.line("// clang-format on");
  w.blank();
  return success();
}
