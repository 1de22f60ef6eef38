// One launch updates all parameters: kernels that differ in size are one
// function, and a table says where each part's tensors lie.
// RUN: rm -rf %t && mpt-opt %s --mpt-add-optimizer | mpt-build - --target=cuda -o %t
// RUN: FileCheck %s < %t/step.cu
// RUN: FileCheck %s --check-prefix=MANIFEST < %t/manifest.json

// CHECK: #include "mpt/CUDA/Parts.h"
// CHECK: /// adamw.
// CHECK-NEXT: /// `count` elements, a thread an element. For w/update.
// CHECK: /// adamw.
// CHECK-NEXT: /// `count` elements, a thread an element. For b/update and 1 more.
// CHECK: [[BODY:kernel_[0-9]+_part]](const mpt::PartBlock &block, int64_t count,
// CHECK: for (int64_t c = block.threadId(); c < count; c += block.threads()) {
// CHECK-NOT: adamw.
// CHECK: /// One launch for w/update and 2 more.
// CHECK-NEXT: __global__ void __launch_bounds__(128) [[GROUP:group_[0-9]+]](mpt::Parts<12> parts) {
// CHECK-NEXT:   const auto &part = parts.find();
// CHECK-NEXT:   const mpt::PartBlock block = parts.blockOf(part);
// CHECK-NEXT:   switch (part.body) {
// CHECK: case 1:
// CHECK-NEXT: [[BODY]](
// CHECK-NEXT: block, part.count, parts.at<const float>(part, 0),
// CHECK: "w/update and 2 more", [[GROUP]], 4, 128, 0, stream,
// CHECK-NEXT: mpt::Parts<12>{step.memory(), at<mpt::Part<12>>(offset::[[GROUP]]), 3, 4});
// CHECK: [[GROUP]]Parts[] = {
// CHECK-NEXT: {0, 4096, 0, 2,
// CHECK-NEXT: {offset::w, offset::dw, offset::w_m, offset::w_v, offset::lr,
// CHECK-NEXT: {2, 64, 1, 1,
// CHECK-NEXT: {offset::b, offset::db,
// CHECK-NEXT: {3, 200, 1, 1,
// CHECK: {offset::[[GROUP]], sizeof([[GROUP]]Parts), [[GROUP]]Parts},

// MANIFEST: "op": "group",
// MANIFEST: "name": "w/update and 2 more",
// MANIFEST-NEXT: "table": "group_
// MANIFEST-NEXT: "parts": [
// MANIFEST: "name": "w/update",
// MANIFEST: "name": "b/update",
// MANIFEST: "name": "c/update",
func.func @gradient(%w: tensor<64x64xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                    %b: tensor<64xf32> {mpt.name = "b", mpt.kind = #mpt.kind<parameter>},
                    %c: tensor<200xf32> {mpt.name = "c", mpt.kind = #mpt.kind<parameter>},
                    %loss: tensor<f32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                    %dw: tensor<64x64xf32> {mpt.name = "dw", mpt.kind = #mpt.kind<input>},
                    %db: tensor<64xf32> {mpt.name = "db", mpt.kind = #mpt.kind<input>},
                    %dc: tensor<200xf32> {mpt.name = "dc", mpt.kind = #mpt.kind<input>})
    -> (tensor<f32> {mpt.name = "loss"}, tensor<64x64xf32> {mpt.name = "w"}, tensor<64xf32> {mpt.name = "b"}, tensor<200xf32> {mpt.name = "c"}) {
  return %loss, %dw, %db, %dc : tensor<f32>, tensor<64x64xf32>, tensor<64xf32>, tensor<200xf32>
}
