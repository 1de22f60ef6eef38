// Groups of the same functions are launches of one kernel, in whatever order
// their parts come. The products stand between the two groups.
// RUN: rm -rf %t && mpt-build %s --target=cuda --products=cublaslt -o %t
// RUN: FileCheck %s < %t/step.cu
// RUN: FileCheck %s --check-prefix=MANIFEST < %t/manifest.json

// CHECK: /// One launch for a1 and 1 more; shared by 2 groups.
// CHECK-NEXT: __global__ void __launch_bounds__(128) group_0(mpt::Parts<2> parts) {
// CHECK: switch (part.body) {
// CHECK-NOT: __global__
// CHECK: "a1 and 1 more", group_0, {{.*}}stream,
// CHECK-NEXT: mpt::Parts<2>{step.memory(), at<mpt::Part<2>>(offset::group_0)
// CHECK: "b2 and 1 more", group_0, {{.*}}stream,
// CHECK-NEXT: mpt::Parts<2>{step.memory(), at<mpt::Part<2>>(offset::group_1)
// CHECK: group_0Parts[] = {
// CHECK-NEXT: {0, 64, 0, 1,
// CHECK: {1, 256, 1, 1,
// CHECK: group_1Parts[] = {
// CHECK-NEXT: {0, 256, 1, 1,
// CHECK: {1, 64, 0, 1,

// MANIFEST: "table": "group_0"
// MANIFEST: "table": "group_1"
func.func @step(%a: tensor<64xf32> {mpt.name = "a", mpt.kind = #mpt.kind<input>},
                %b: tensor<256xf32> {mpt.name = "b", mpt.kind = #mpt.kind<input>})
    -> (tensor<64xf32> {mpt.name = "x"}, tensor<256xf32> {mpt.name = "y"}) {
  %a1 = mpt.exp %a {mpt.name = "a1"} : (tensor<64xf32>) -> tensor<64xf32>
  %b1 = mpt.tanh %b {mpt.name = "b1"} : (tensor<256xf32>) -> tensor<256xf32>
  %a2 = mpt.reshape %a1 : (tensor<64xf32>) -> tensor<8x8xf32>
  %b2 = mpt.reshape %b1 : (tensor<256xf32>) -> tensor<8x32xf32>
  %p = mpt.matmul %a2, %b2 {mpt.name = "p"} : (tensor<8x8xf32>, tensor<8x32xf32>) -> tensor<8x32xf32>
  %q = mpt.matmul %a2, %a2 {mpt.name = "q"} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %p1 = mpt.reshape %p : (tensor<8x32xf32>) -> tensor<256xf32>
  %q1 = mpt.reshape %q : (tensor<8x8xf32>) -> tensor<64xf32>
  %y = mpt.tanh %p1 {mpt.name = "b2"} : (tensor<256xf32>) -> tensor<256xf32>
  %x = mpt.exp %q1 {mpt.name = "a2"} : (tensor<64xf32>) -> tensor<64xf32>
  return %x, %y : tensor<64xf32>, tensor<256xf32>
}
