//===- StepModel.cpp - what a profile reads in a launch list --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See StepModel.h. Operands are told apart by buffer and offset: a backward
// product reads one of its forward product's operands where that one read it,
// and the gradient somewhere else.
//
//===----------------------------------------------------------------------===//

#include "StepModel.h"

#include "Dataflow.h"
#include "Failure.h"

#include <algorithm>
#include <unordered_map>

namespace mpt::metrics {

namespace {

/// Which tensor of a family an operand is.
enum class Part { Lhs, Rhs, Gradient };

bool isSamePlace(const rt::Matrix &a, const rt::Matrix &b) {
  return a.buffer == b.buffer && a.offset == b.offset;
}

Part partOf(const rt::Matrix &operand, const rt::Launch &forward) {
  if (isSamePlace(operand, forward.lhs))
    return Part::Lhs;
  return isSamePlace(operand, forward.rhs) ? Part::Rhs : Part::Gradient;
}

std::optional<Role> parseRole(const std::string &text) {
  for (Role role : {Role::Fprop, Role::Dgrad, Role::Wgrad})
    if (text == roleName(role))
      return role;
  return std::nullopt;
}

/// The gradient operand of `launch` as the m x n result of `forward`, whose
/// other operand is `other`; none where sizes do not fit.
std::optional<rt::Matrix> asResult(const rt::Launch &launch, bool isLhs,
                                   Part other, const rt::Launch &forward) {
  const rt::Matrix &operand = isLhs ? launch.lhs : launch.rhs;
  // The stride and size along the contraction, and along the other axis.
  int64_t along = isLhs ? operand.columns : operand.rows;
  int64_t across = isLhs ? operand.rows : operand.columns;
  int64_t size = isLhs ? launch.m : launch.n;
  // G * B' contracts n, A' * G contracts m.
  bool overColumns = other == Part::Rhs;
  bool fits = launch.k == (overColumns ? forward.n : forward.m) &&
              size == (overColumns ? forward.m : forward.n) &&
              std::equal(launch.batch, launch.batch + 2, forward.batch);
  // Of X * X' it cannot be said which operand was which.
  if (!fits || other == Part::Gradient || isSamePlace(forward.lhs, forward.rhs))
    return std::nullopt;
  rt::Matrix result = operand;
  result.rows = overColumns ? across : along;
  result.columns = overColumns ? along : across;
  return result;
}

} // namespace

const char *roleName(Role role) {
  switch (role) {
  case Role::Fprop:
    return "fprop";
  case Role::Dgrad:
    return "dgrad";
  case Role::Wgrad:
    return "wgrad";
  }
  return "";
}

/// A forward product and its backward ones, indices of products.
struct StepModel::Family {
  size_t forward;
  std::vector<size_t> backward; // in the order of their launches
};

StepModel::StepModel(const rt::Manifest &manifest,
                     const std::vector<bool> &runs)
    : manifest(manifest), schedule(manifest.launches.size()) {
  for (size_t i = 0; i < manifest.launches.size(); ++i)
    if (runs[i])
      for (const rt::BufferAccess &write :
           rt::accessesOf(manifest, manifest.launches[i]).writes)
        writers[write.buffer].push_back(i);
  addProducts(runs);
  if (productList.empty())
    rt::fail(MPT_ERROR_ARGUMENT, "profile: the package has no products");
  addFamilies();
  for (size_t i = 0; i < productList.size(); ++i)
    schedule[productList[i].measuredAfter].push_back(i);
}

void StepModel::addProducts(const std::vector<bool> &runs) {
  for (size_t i = 0; i < manifest.launches.size(); ++i) {
    const rt::Launch &launch = manifest.launches[i];
    if (launch.op != rt::LaunchOp::Product || !runs[i])
      continue;
    std::optional<Role> role = parseRole(launch.role);
    if (!role)
      rt::fail(MPT_ERROR_UNSUPPORTED, "profile: product '", launch.name,
               "' has the role '", launch.role,
               "', expected fprop, dgrad or wgrad");
    ProductModel product;
    product.launch = product.measuredAfter = i;
    product.name = launch.name;
    product.role = *role;
    product.m = launch.m;
    product.n = launch.n;
    product.k = launch.k;
    std::copy_n(launch.batch, 2, product.batch);
    productList.push_back(std::move(product));
  }
}

void StepModel::addFamilies() {
  std::unordered_map<std::string, size_t> familyByName;
  std::vector<Family> families;
  for (size_t i = 0; i < productList.size(); ++i) {
    if (productList[i].role != Role::Fprop)
      continue;
    if (!familyByName.try_emplace(productList[i].name, families.size()).second)
      rt::fail(MPT_ERROR_UNSUPPORTED,
               "profile: two forward products are named '", productList[i].name,
               "'");
    families.push_back({i, {}});
  }
  for (size_t i = 0; i < productList.size(); ++i) {
    ProductModel &product = productList[i];
    if (product.role == Role::Fprop)
      continue;
    auto family =
        familyByName.find(product.name.substr(0, product.name.rfind('/')));
    if (family != familyByName.end()) {
      families[family->second].backward.push_back(i);
      continue;
    }
    const rt::Launch &launch = manifest.launches[product.launch];
    product.lhs = tensor(product.name + "/lhs", product.launch, launch.lhs,
                         launch.m, launch.k, launch.batch);
    product.rhs = tensor(product.name + "/rhs", product.launch, launch.rhs,
                         launch.k, launch.n, launch.batch);
  }
  for (Family &family : families)
    connect(family);
}

/// Tensors and gradient sides of a family's products.
void StepModel::connect(Family &family) {
  ProductModel &forward = productList[family.forward];
  const rt::Launch &from = manifest.launches[forward.launch];
  forward.lhs = tensor(forward.name + "/lhs", forward.launch, from.lhs, from.m,
                       from.k, from.batch);
  forward.rhs = tensor(forward.name + "/rhs", forward.launch, from.rhs, from.k,
                       from.n, from.batch);
  for (size_t index : family.backward) {
    ProductModel &product = productList[index];
    const rt::Launch &launch = manifest.launches[product.launch];
    Part left = partOf(launch.lhs, from), right = partOf(launch.rhs, from);
    bool isLhs = left == Part::Gradient;
    if (isLhs != (right == Part::Gradient))
      product.gradientSide = isLhs ? GradientSide::Lhs : GradientSide::Rhs;
    auto place = [&](Part part, bool lhs) {
      if (part != Part::Gradient)
        return part == Part::Lhs ? forward.lhs : forward.rhs;
      if (auto whole = asResult(launch, lhs, lhs ? right : left, from))
        return tensor(forward.name + "/grad", product.launch, *whole, from.m,
                      from.n, from.batch);
      return lhs ? tensor(product.name + "/lhs", product.launch, launch.lhs,
                          launch.m, launch.k, launch.batch)
                 : tensor(product.name + "/rhs", product.launch, launch.rhs,
                          launch.k, launch.n, launch.batch);
    };
    product.lhs = place(left, true);
    product.rhs = place(right, false);
  }
  planForward(family);
}

/// Puts off measuring the forward product to where its gradient is there too.
void StepModel::planForward(const Family &family) {
  ProductModel &forward = productList[family.forward];
  const rt::Launch &from = manifest.launches[forward.launch];
  bool isRead[2] = {tensorList[forward.lhs].isArgument,
                    tensorList[forward.rhs].isArgument};
  const ProductModel *first = nullptr;
  for (size_t index : family.backward) {
    const ProductModel &product = productList[index];
    if (product.gradientSide == GradientSide::None)
      continue;
    if (!first)
      first = &product;
    bool isLhs = product.gradientSide == GradientSide::Lhs;
    isRead[0] |= (isLhs ? product.rhs : product.lhs) == forward.lhs;
    isRead[1] |= (isLhs ? product.rhs : product.lhs) == forward.rhs;
  }
  if (!first || !isRead[0] || !isRead[1])
    return;
  bool isLhs = first->gradientSide == GradientSide::Lhs;
  const rt::Launch &launch = manifest.launches[first->launch];
  Part other = partOf(isLhs ? launch.rhs : launch.lhs, from);
  auto matrix = asResult(launch, isLhs, other, from);
  if (!matrix)
    return;
  forward.gradient = isLhs ? first->lhs : first->rhs;
  forward.gradientMatrix = *matrix;
  forward.measuredAfter = first->launch;
}

int64_t StepModel::writer(int64_t buffer, size_t launch) const {
  auto it = writers.find(buffer);
  if (it == writers.end())
    return -1;
  auto after = std::lower_bound(it->second.begin(), it->second.end(), launch);
  return after == it->second.begin() ? -1 : int64_t(*std::prev(after));
}

size_t StepModel::tensor(const std::string &name, size_t launch,
                         const rt::Matrix &at, int64_t rows, int64_t columns,
                         const int64_t *batch) {
  std::vector<int64_t> key = {
      at.buffer,   at.offset,  writer(at.buffer, launch),
      rows,        columns,    at.rows,
      at.columns,  batch[0],   batch[1],
      at.batch[0], at.batch[1]};
  auto [it, isNew] = tensorByPlace.try_emplace(key, tensorList.size());
  if (isNew) {
    TensorModel model;
    model.name = name;
    model.matrix = at;
    model.rows = rows;
    model.columns = columns;
    std::copy_n(batch, 2, model.batch);
    model.isArgument =
        manifest.buffers[at.buffer].kind == rt::BufferKind::Argument;
    for (const rt::Tensor &argument : manifest.arguments)
      if (argument.buffer == at.buffer)
        model.isParameter = argument.kind == MPT_PARAMETER;
    tensorList.push_back(std::move(model));
  }
  return it->second;
}

} // namespace mpt::metrics
