//===- SourceWriter.cpp - lines of C++, indented and broken ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See SourceWriter.h.
//
//===----------------------------------------------------------------------===//

#include "SourceWriter.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mpt::cuda;
using llvm::StringRef;
using llvm::Twine;

void SourceWriter::line(const Twine &text) {
  std::string line = text.str();
  if (!line.empty())
    os.indent(2 * level);
  os << line << '\n';
}

/// Where the outermost operators of an expression end: a line may break there.
static llvm::SmallVector<size_t> breakPoints(StringRef text) {
  llvm::SmallVector<size_t> points;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(' || text[i] == '[')
      ++depth;
    else if (text[i] == ')' || text[i] == ']')
      --depth;
    if (depth == 0 && i > 1 && text[i] == ' ' && !isalnum(text[i - 1]) &&
        text[i - 1] != ')' && text[i - 1] != ']' && text[i - 1] != '_')
      points.push_back(i);
  }
  return points;
}

void SourceWriter::assign(const Twine &head, const Twine &expression) {
  std::string left = head.str(), right = expression.str();
  size_t width = kWidth - 2 * level;
  if (left.size() + right.size() + 4 <= width) {
    line(left + " = " + right + ";");
    return;
  }
  // The whole expression on a line of its own, or pieces.
  if (right.size() + 5 <= width) {
    line(left + " =");
    line("    " + right + ";");
    return;
  }
  line(left + " =");
  size_t begin = 0, last = 0;
  llvm::SmallVector<size_t> points = breakPoints(right);
  points.push_back(right.size());
  for (size_t point : points) {
    if (point - begin + 5 > width && last > begin) {
      line("    " + right.substr(begin, last - begin));
      begin = last + 1;
    }
    last = point;
  }
  line("    " + right.substr(begin) + ";");
}

void SourceWriter::list(const Twine &head, llvm::ArrayRef<std::string> items,
                        const Twine &tail, unsigned extra) {
  std::string text = std::string(extra, ' ') + head.str() + "(";
  std::string end = tail.str();
  std::string indent(text.size(), ' ');
  for (size_t i = 0; i < items.size(); ++i) {
    bool last = i + 1 == items.size();
    std::string item = items[i] + (last ? ")" + end : ",");
    bool first = text.size() == indent.size();
    if (!first && 2 * level + text.size() + 1 + item.size() > kWidth) {
      line(text);
      text = indent;
      first = true;
    }
    text += (first ? "" : " ") + item;
  }
  line(items.empty() ? text + ")" + end : text);
}

void SourceWriter::comment(const Twine &text, StringRef prefix) {
  std::string storage = text.str(), current;
  llvm::SmallVector<StringRef> words;
  StringRef(storage).split(words, ' ', -1, /*KeepEmpty=*/false);
  for (StringRef word : words) {
    size_t length = 2 * level + prefix.size() + current.size() + 1 + word.size();
    if (!current.empty() && length > kWidth) {
      line(prefix + current);
      current.clear();
    }
    current += (current.empty() ? "" : " ") + word.str();
  }
  line(prefix + current);
}
