//===- Names.cpp - identifiers for tensors --------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Names.h.
//
//===----------------------------------------------------------------------===//

#include "Names.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

std::string cuda::quoted(StringRef text) {
  std::string result;
  llvm::raw_string_ostream os(result);
  os << '"';
  for (unsigned char c : text) {
    if (c == '"' || c == '\\')
      os << '\\' << c;
    else if (c < 0x20 || c >= 0x7f) // three octal digits end by themselves
      os << '\\' << char('0' + c / 64) << char('0' + c / 8 % 8)
         << char('0' + c % 8);
    else
      os << c;
  }
  os << '"';
  return result;
}

/// An identifier that no C++ keyword, macro or other name equals: words joined
/// by single underscores, with a number behind if it is taken.
static std::string identifier(StringRef name, llvm::StringSet<> &taken) {
  std::string text;
  for (char c : name) {
    bool word = llvm::isAlnum(c);
    if (word || (!text.empty() && text.back() != '_'))
      text += word ? c : '_';
  }
  while (!text.empty() && text.back() == '_')
    text.pop_back();
  if (text.empty() || llvm::isDigit(text[0]))
    text = "t" + text;
  static const llvm::StringSet<> reserved = {
      "and",    "asm",      "auto",     "bool",     "break",    "case",
      "catch",  "char",     "class",    "const",    "continue", "default",
      "delete", "do",       "double",   "else",     "enum",     "explicit",
      "export", "extern",   "false",    "float",    "for",      "friend",
      "goto",   "if",       "inline",   "int",      "long",     "mutable",
      "new",    "not",      "or",       "operator", "private",  "protected",
      "public", "register", "return",   "short",    "signed",   "sizeof",
      "static", "struct",   "switch",   "template", "this",     "throw",
      "true",   "try",      "union",    "unsigned", "using",    "virtual",
      "void",   "volatile", "while",    "xor",      "linux",    "unix",
      "NULL",   "typename", "namespace"};
  if (reserved.contains(text))
    text += "_value";
  std::string unique = text;
  for (int n = 2; !taken.insert(unique).second; ++n)
    unique = text + "_" + std::to_string(n);
  return unique;
}

DeviceMemory::DeviceMemory(const StepPlan &plan) {
  buffers.resize(plan.buffers.size());
  llvm::StringSet<> taken;
  auto place = [&](unsigned index, StringRef name) {
    buffers[index].name = identifier(name, taken);
    buffers[index].offset = bytes;
    bytes = llvm::alignTo(bytes + plan.buffers[index].bytes, kAlignment);
  };
  for (const StepPlan::Argument &argument : plan.arguments)
    place(argument.buffer, argument.name);
  for (auto [index, buffer] : llvm::enumerate(plan.buffers))
    if (buffer.kind == StepPlan::BufferKind::Constant)
      place(index, "constant");
  arena = bytes;
  bytes += plan.arenaBytes;
  for (auto [index, buffer] : llvm::enumerate(plan.buffers)) {
    buffers[index].bytes = buffer.bytes;
    if (buffer.kind == StepPlan::BufferKind::Arena)
      buffers[index].offset = arena + buffer.offset;
  }
  // What an arena buffer holds is named by the launch that first writes it.
  for (const StepPlan::Launch &launch :
       llvm::concat<const StepPlan::Launch>(plan.launches, plan.init))
    for (auto [i, access] : llvm::enumerate(launch.accesses)) {
      Buffer &buffer = buffers[access.buffer];
      buffer.used = true;
      if (!buffer.name.empty())
        continue;
      std::string name = launch.name;
      if (launch.numWritten > 1)
        name += "/" +
                std::to_string(i + launch.numWritten - launch.accesses.size());
      buffer.name = identifier(name, taken);
    }
  for (const StepPlan::Result &result : plan.results)
    if (Buffer &buffer = buffers[result.access.buffer]; buffer.name.empty())
      buffer.name = identifier(result.name, taken);
}
