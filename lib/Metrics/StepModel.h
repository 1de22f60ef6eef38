//===- StepModel.h - what a profile reads in a launch list ------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The products of a step and how they belong together: a forward product
// Y = A * B and its backward ones, dA = G * B' and dB = A' * G. From names and
// places alone it is known which operand is the gradient G, and when A, B and G
// are in memory at the same time: after the first backward product of the two,
// since the other one still reads what the first did not.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_STEPMODEL_H
#define MPT_LIB_METRICS_STEPMODEL_H

#include "Manifest.h"
#include "mpt/Metrics/Metrics.h"

#include <map>
#include <optional>

namespace mpt::metrics {

enum class Role { Fprop, Dgrad, Wgrad };
constexpr size_t kRoles = 3;
const char *roleName(Role role);

/// An operand that one or more products read, as rows x columns of the forward
/// product that it belongs to.
struct TensorModel {
  std::string name; // "<forward product>/lhs", "/rhs" or "/grad"
  rt::Matrix matrix;
  int64_t rows = 0, columns = 0, batch[2] = {1, 1};
  /// Lies in an argument, so that it is alive throughout the step.
  bool isArgument = false;
  /// Of a parameter: the same for all batches of a point.
  bool isParameter = false;
};

struct ProductModel {
  size_t launch = 0;
  std::string name;
  Role role = Role::Fprop;
  int64_t m = 0, n = 0, k = 0, batch[2] = {1, 1};
  GradientSide gradientSide = GradientSide::None;
  size_t lhs = 0, rhs = 0; // tensors
  /// Of a forward product: the tensor of d loss / d result where it is alive
  /// together with the operands, and its elements as m x n.
  std::optional<size_t> gradient;
  rt::Matrix gradientMatrix;
  /// Launch after which it is measured.
  size_t measuredAfter = 0;
};

class StepModel {
public:
  /// Of the launches that `runs` keeps. Throws rt::Failure on a manifest
  /// without products, on a product without a name or whose name or role is not
  /// what a training step has, and where a launch does not say what it writes.
  StepModel(const rt::Manifest &manifest, const std::vector<bool> &runs);

  const std::vector<TensorModel> &tensors() const { return tensorList; }
  /// In the order of their launches.
  const std::vector<ProductModel> &products() const { return productList; }
  /// Products (indices) to be measured after a launch.
  const std::vector<size_t> &measuredAfter(size_t launch) const {
    return schedule[launch];
  }

private:
  struct Family;
  void addProducts(const std::vector<bool> &runs);
  void addFamilies();
  void connect(Family &family);
  void planForward(const Family &family);
  size_t tensor(const std::string &name, size_t launch, const rt::Matrix &at,
                int64_t rows, int64_t columns, const int64_t *batch);
  /// The launch that wrote `buffer` last before `launch`; -1: none did.
  int64_t writer(int64_t buffer, size_t launch) const;

  const rt::Manifest &manifest;
  std::vector<TensorModel> tensorList;
  std::vector<ProductModel> productList;
  std::vector<std::vector<size_t>> schedule;      // by launch
  std::map<int64_t, std::vector<size_t>> writers; // by buffer, ascending
  /// Buffer, offset, writer, sizes and strides.
  std::map<std::vector<int64_t>, size_t> tensorByPlace;
};

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_STEPMODEL_H
