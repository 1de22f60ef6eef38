//===- HostTensor.h - constants of an import ------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Small tensors known at import time: shapes, indices, masks and scalars. The
// evaluator in Evaluator.cpp computes on them until no shape arithmetic is
// left; parameters are never among them.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_FRONTEND_ONNX_HOSTTENSOR_H
#define MPT_LIB_FRONTEND_ONNX_HOSTTENSOR_H

#include "ModelFile.h"
#include "mlir/IR/BuiltinAttributes.h"

namespace mpt::onnx_import {

/// More elements than this are no constant but data.
constexpr int64_t kMaxConstantElements = int64_t(1) << 24;

/// A constant of type FLOAT or DOUBLE (values in `reals`, rounded to the type)
/// or BOOL, INT32 or INT64 (values in `integers`).
struct HostTensor {
  int32_t dataType = 0;
  llvm::SmallVector<int64_t> shape;
  std::vector<int64_t> integers;
  std::vector<double> reals;

  HostTensor() = default;
  /// Zeros.
  HostTensor(int32_t dataType, llvm::ArrayRef<int64_t> shape);
  static HostTensor ofIntegers(llvm::ArrayRef<int64_t> values);

  bool isReal() const;
  int64_t size() const { return isReal() ? reals.size() : integers.size(); }
  /// Copies element `from` of `other`, which has the same type.
  void set(int64_t to, const HostTensor &other, int64_t from);
  bool isAll(int64_t value) const;
};

/// Reads the values of `tensor`.
llvm::Expected<HostTensor> toHostTensor(const FileTensor &tensor);
/// As a dense attribute; DOUBLE has none (null).
mlir::ElementsAttr toAttribute(const HostTensor &tensor,
                               mlir::MLIRContext *context);

/// Row-major strides of `shape`, in elements.
llvm::SmallVector<int64_t> stridesOf(llvm::ArrayRef<int64_t> shape);

/// `axis` in [-rank, rank) as an axis in [0, rank).
llvm::Expected<int64_t> normalizeAxis(int64_t axis, int64_t rank);

/// Attributes of a node, with defaults.
class Attributes {
public:
  explicit Attributes(const onnx::NodeProto &node) : node(node) {}
  const onnx::AttributeProto *find(llvm::StringRef name) const;
  int64_t integer(llvm::StringRef name, int64_t otherwise) const;
  float real(llvm::StringRef name, float otherwise) const;
  std::string string(llvm::StringRef name, llvm::StringRef otherwise) const;
  std::optional<llvm::SmallVector<int64_t>>
  integers(llvm::StringRef name) const;

private:
  const onnx::NodeProto &node;
};

// Shape rules shared by the evaluator and the handlers of the graph's own
// tensors.
llvm::Expected<llvm::SmallVector<int64_t>>
reshapedShape(llvm::ArrayRef<int64_t> from, llvm::ArrayRef<int64_t> to,
              bool allowZero);
llvm::Expected<llvm::SmallVector<int64_t>>
unsqueezedShape(llvm::ArrayRef<int64_t> from, llvm::ArrayRef<int64_t> axes);
/// All dims of size 1 where `axes` is absent.
llvm::Expected<llvm::SmallVector<int64_t>>
squeezedShape(llvm::ArrayRef<int64_t> from,
              std::optional<llvm::ArrayRef<int64_t>> axes);
/// NumPy broadcasting of both shapes.
llvm::Expected<llvm::SmallVector<int64_t>>
broadcastedShape(llvm::ArrayRef<int64_t> lhs, llvm::ArrayRef<int64_t> rhs);
/// The permutation that `perm` or, absent, a reversal of the axes gives.
llvm::Expected<llvm::SmallVector<int64_t>>
permutationOf(const Attributes &attributes, int64_t rank);

/// Start, step and size of each dim that a Slice node selects.
struct SliceBounds {
  llvm::SmallVector<int64_t> starts, steps, sizes;
};
llvm::Expected<SliceBounds>
sliceBounds(llvm::ArrayRef<int64_t> shape,
            llvm::ArrayRef<const HostTensor *> inputs);

/// The output of a node on constant inputs (null: the input is absent).
using Evaluator = llvm::Expected<HostTensor> (*)(
    const onnx::NodeProto &node, llvm::ArrayRef<const HostTensor *> inputs);

/// The evaluator of an op, or null.
Evaluator findEvaluator(llvm::StringRef opType);

} // namespace mpt::onnx_import

#endif // MPT_LIB_FRONTEND_ONNX_HOSTTENSOR_H
