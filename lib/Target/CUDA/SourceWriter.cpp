//===- SourceWriter.cpp - lines of C++, indented and broken ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See SourceWriter.h.
//
//===----------------------------------------------------------------------===//

#include "SourceWriter.h"
#include "llvm/ADT/STLExtras.h"
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

/// `items`, then `end`, as many to a line as fit behind `first` or `indent`.
static llvm::SmallVector<std::string> fill(std::string first, size_t indent,
                                           llvm::ArrayRef<std::string> items,
                                           StringRef end, size_t width) {
  llvm::SmallVector<std::string> lines;
  std::string text = std::move(first);
  bool isEmpty = true;
  for (size_t i = 0; i < items.size(); ++i) {
    std::string item = items[i];
    item += i + 1 == items.size() ? end.str() : ",";
    if (!isEmpty && text.size() + 1 + item.size() > width) {
      lines.push_back(std::move(text));
      text.assign(indent, ' ');
      isEmpty = true;
    }
    text += (isEmpty ? "" : " ") + item;
    isEmpty = false;
  }
  lines.push_back(items.empty() ? text + end.str() : text);
  return lines;
}

void SourceWriter::list(const Twine &head, llvm::ArrayRef<std::string> items,
                        const Twine &tail, unsigned extra) {
  std::string text = std::string(extra, ' ') + head.str() + "(";
  std::string end = ")" + tail.str();
  size_t width = kWidth - 2 * level;
  auto aligned = fill(text, text.size(), items, end, width);
  auto below = fill(std::string(extra + 4, ' '), extra + 4, items, end, width);
  auto isTooLong = [&](const std::string &each) { return each.size() > width; };
  // Below the parenthesis if that saves a line.
  if (below.size() + 1 < aligned.size() || llvm::any_of(aligned, isTooLong)) {
    line(text);
    aligned = std::move(below);
  }
  for (const std::string &each : aligned)
    line(each);
}

void SourceWriter::initializer(const Twine &head,
                               llvm::ArrayRef<std::string> items) {
  size_t width = kWidth - 2 * level;
  std::string text = head.str() + " = {";
  auto lines = fill(text, 0, items, "};", width);
  if (lines.size() > 1) {
    line(text);
    lines = fill("    ", 4, items, "};", width);
  }
  for (const std::string &each : lines)
    line(each);
}

void SourceWriter::comment(const Twine &text, StringRef prefix) {
  std::string storage = text.str(), current;
  llvm::SmallVector<StringRef> words;
  StringRef(storage).split(words, ' ', -1, /*KeepEmpty=*/false);
  for (StringRef word : words) {
    size_t length =
        2 * level + prefix.size() + current.size() + 1 + word.size();
    if (!current.empty() && length > kWidth) {
      line(prefix + current);
      current.clear();
    }
    current += (current.empty() ? "" : " ") + word.str();
  }
  line(prefix + current);
}
