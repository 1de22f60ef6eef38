//===- SourceWriter.h - lines of C++, indented and broken -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Writes statements as clang-format would: two spaces a level, lists broken at
// 80 columns behind their opening parenthesis. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_SOURCEWRITER_H
#define MPT_LIB_TARGET_CUDA_SOURCEWRITER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"
#include <string>

namespace mpt {
namespace cuda {

class SourceWriter {
public:
  explicit SourceWriter(llvm::raw_ostream &os) : os(os) {}

  void blank() { os << '\n'; }
  /// One line at the current indentation.
  void line(const llvm::Twine &text);
  /// A line that opens a block; `close` ends it.
  void open(const llvm::Twine &text) {
    line(text);
    enter();
  }
  /// Behind a list that ended with a brace.
  void enter() { ++level; }
  void leave() { --level; }
  void close(const llvm::Twine &text = "}") {
    leave();
    line(text);
  }
  /// `head = expression;`, broken behind operators of the outermost level.
  void assign(const llvm::Twine &head, const llvm::Twine &expression);
  /// `head(item, item, ...)tail`, items aligned behind the parenthesis. The
  /// first line is indented by `extra` more columns than the current level.
  void list(const llvm::Twine &head, llvm::ArrayRef<std::string> items,
            const llvm::Twine &tail, unsigned extra = 0);
  /// `head = {item, item, ...};`
  void initializer(const llvm::Twine &head, llvm::ArrayRef<std::string> items);
  /// A `///` comment, broken between words.
  void comment(const llvm::Twine &text, llvm::StringRef prefix = "/// ");

  llvm::raw_ostream &getStream() { return os; }

private:
  static constexpr size_t kWidth = 80;
  llvm::raw_ostream &os;
  unsigned level = 0;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_SOURCEWRITER_H
