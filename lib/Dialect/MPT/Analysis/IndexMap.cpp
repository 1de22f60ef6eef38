//===- IndexMap.cpp - index arithmetic of fused kernels -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See IndexMap.h. A map's terms never carry into each other: each is one digit
// (or a run of digits) of the result in a mixed radix system. That is checked
// wherever digits are taken apart.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/IndexMap.h"
#include "llvm/Support/raw_ostream.h"

using namespace mpt;
using llvm::ArrayRef;
using llvm::SmallVector;

IndexMap IndexMap::identity(int64_t size) {
  IndexMap map;
  map.terms.push_back({1, size, 1});
  map.canonicalize();
  return map;
}

IndexMap IndexMap::rowOf(int64_t rows, int64_t columns) {
  IndexMap map;
  map.terms.push_back({columns, rows, 1});
  map.canonicalize();
  return map;
}

void IndexMap::canonicalize() {
  llvm::erase_if(
      terms, [](const IndexTerm &t) { return t.mod == 1 || t.stride == 0; });
  llvm::sort(terms, [](const IndexTerm &a, const IndexTerm &b) {
    return a.div < b.div;
  });
  SmallVector<IndexTerm, 4> merged;
  for (const IndexTerm &term : terms) {
    if (!merged.empty()) {
      IndexTerm &last = merged.back();
      if (term.div == last.div * last.mod &&
          term.stride == last.stride * last.mod) {
        last.mod *= term.mod;
        continue;
      }
    }
    merged.push_back(term);
  }
  terms = std::move(merged);
}

void IndexMap::addScaled(const IndexMap &other, int64_t factor) {
  offset += other.offset * factor;
  for (IndexTerm term : other.terms) {
    term.stride *= factor;
    terms.push_back(term);
  }
}

std::optional<SmallVector<IndexMap, 4>>
IndexMap::splitDims(ArrayRef<int64_t> shape) const {
  SmallVector<IndexMap, 4> dims(shape.size());
  SmallVector<int64_t, 4> weights(shape.size());
  int64_t weight = 1, rest = offset;
  for (size_t d = shape.size(); d-- > 0;) {
    weights[d] = weight;
    weight *= shape[d];
  }
  for (size_t d = 0; d < shape.size(); ++d) {
    dims[d].offset = rest / weights[d];
    rest %= weights[d];
  }
  for (IndexTerm term : terms) {
    // From the innermost dim outwards, each takes the digits that lie in it.
    for (size_t d = shape.size(); d-- > 0 && term.mod > 1;) {
      int64_t end = weights[d] * shape[d];
      if (term.stride >= end)
        continue;
      if (term.stride % weights[d] != 0)
        return std::nullopt;
      IndexTerm part{term.div, term.mod, term.stride / weights[d]};
      if ((term.mod - 1) * term.stride >= end) {
        if (end % term.stride != 0 || term.mod % (end / term.stride) != 0)
          return std::nullopt;
        part.mod = end / term.stride;
      }
      dims[d].terms.push_back(part);
      term.div *= part.mod;
      term.mod /= part.mod;
      term.stride *= part.mod;
    }
    if (term.mod > 1)
      return std::nullopt;
  }
  for (size_t d = 0; d < shape.size(); ++d) {
    int64_t last = dims[d].offset;
    for (const IndexTerm &term : dims[d].terms)
      last += (term.mod - 1) * term.stride;
    if (last >= shape[d]) // a digit would carry
      return std::nullopt;
    dims[d].canonicalize();
  }
  return dims;
}

IndexMap IndexMap::joinDims(ArrayRef<IndexMap> dims, ArrayRef<int64_t> shape) {
  IndexMap map;
  int64_t weight = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    map.addScaled(dims[d], weight);
    weight *= shape[d];
  }
  map.canonicalize();
  return map;
}

std::optional<IndexMap> IndexMap::throughBroadcast(ArrayRef<int64_t> from,
                                                   ArrayRef<int64_t> to) const {
  if (from == to)
    return *this;
  auto dims = splitDims(to);
  if (!dims)
    return std::nullopt;
  size_t lead = to.size() - from.size();
  SmallVector<IndexMap, 4> sources(from.size());
  for (size_t d = 0; d < from.size(); ++d)
    if (from[d] == to[lead + d])
      sources[d] = (*dims)[lead + d];
  return joinDims(sources, from);
}

std::optional<IndexMap> IndexMap::throughView(ViewOpInterface view) const {
  auto from =
      llvm::cast<mlir::RankedTensorType>(view.getViewSource().getType());
  auto to = llvm::cast<mlir::RankedTensorType>(view->getResult(0).getType());
  if (llvm::isa<ReshapeOp>(view.getOperation()))
    return *this; // the same row-major index
  // Any other view selects, per dim of the source, a constant plus at most one
  // dim of the result: layouts whose strides name the dims show which.
  auto dims = splitDims(to.getShape());
  Layout tagged = Layout::contiguous(from.getShape());
  std::optional<Layout> base = view.applyToLayout(tagged);
  for (auto [d, stride] : llvm::enumerate(tagged.strides))
    stride = d + 1;
  std::optional<Layout> origin = view.applyToLayout(tagged);
  if (!dims || !base || !origin)
    return std::nullopt;
  SmallVector<IndexMap, 4> sources(from.getRank());
  int64_t rest = base->offset, weight = from.getNumElements();
  for (int64_t d = 0; d < from.getRank(); ++d) {
    weight /= from.getDimSize(d);
    sources[d].offset = rest / weight;
    rest %= weight;
  }
  for (auto [d, tag] : llvm::enumerate(origin->strides)) {
    if (tag == 0 || to.getDimSize(d) == 1)
      continue;
    if (tag < 0 || tag > from.getRank())
      return std::nullopt;
    sources[tag - 1].addScaled((*dims)[d], 1);
  }
  return joinDims(sources, from.getShape());
}

std::optional<IndexMap> IndexMap::alongRow(int64_t columns) const {
  IndexMap map;
  for (const IndexTerm &term : terms)
    if (term.div % columns != 0)
      return std::nullopt;
  map.addScaled(*this, columns);
  map.terms.push_back({1, columns, 1});
  map.canonicalize();
  return map;
}

std::optional<IndexMap> IndexMap::inverse(int64_t size) const {
  SmallVector<IndexTerm, 4> byStride(terms);
  llvm::sort(byStride, [](const IndexTerm &a, const IndexTerm &b) {
    return a.stride < b.stride;
  });
  IndexMap map;
  int64_t weight = 1;
  for (const IndexTerm &term : byStride) {
    if (term.stride != weight)
      return std::nullopt;
    map.terms.push_back({term.stride, term.mod, term.div});
    weight *= term.mod;
  }
  if (weight != size || offset != 0)
    return std::nullopt;
  map.canonicalize();
  return map;
}

std::optional<AccessMap> IndexMap::getAccess(int64_t columns) const {
  AccessMap access;
  access.offset = offset;
  for (IndexTerm term : terms) {
    if (term.div < columns) {
      int64_t inner = columns / term.div;
      if (columns % term.div != 0)
        return std::nullopt;
      IndexTerm column = term;
      if (term.mod > inner) {
        if (term.mod % inner != 0)
          return std::nullopt;
        column.mod = inner;
      }
      access.columnTerms.push_back(column);
      term = {term.div * column.mod, term.mod / column.mod,
              term.stride * column.mod};
    }
    if (term.mod == 1)
      continue;
    if (term.div % columns != 0)
      return std::nullopt;
    access.rowTerms.push_back({term.div / columns, term.mod, term.stride});
  }
  if (access.columnTerms.size() == 1 && access.columnTerms[0].div == 1 &&
      access.columnTerms[0].mod == columns) {
    access.columnStride = access.columnTerms[0].stride;
    access.columnTerms.clear();
  }
  return access;
}

void IndexMap::print(llvm::raw_ostream &os) const {
  os << offset;
  for (const IndexTerm &term : terms)
    os << " + n/" << term.div << "%" << term.mod << "*" << term.stride;
}
