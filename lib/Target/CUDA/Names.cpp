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

/// Group n's table is `group_n`: an mpt::Part<N> each (mpt/CUDA/Parts.h).
void DeviceMemory::addTables(const StepPlan &plan) {
  for (const StepPlan::Launch &launch : plan.launches) {
    if (launch.kind != StepPlan::LaunchKind::Group)
      continue;
    int64_t places = 0;
    for (const StepPlan::Part &part : launch.parts)
      places = std::max<int64_t>(places, part.numRead + part.numWritten);
    Buffer table;
    table.name = "group_" + std::to_string(tables.size());
    table.offset = bytes;
    table.bytes = launch.parts.size() * (24 + 8 * places);
    bytes = llvm::alignTo(bytes + table.bytes, kAlignment);
    tables.push_back(std::move(table));
  }
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
  addTables(plan);
  for (const Buffer &table : tables)
    taken.insert(table.name);
  arena = bytes;
  bytes += plan.arenaBytes;
  for (auto [index, buffer] : llvm::enumerate(plan.buffers)) {
    buffers[index].bytes = buffer.bytes;
    if (buffer.kind == StepPlan::BufferKind::Arena)
      buffers[index].offset = arena + buffer.offset;
  }
  // What an arena buffer holds is named by the launch that first writes it.
  auto name = [&](StringRef launch, ArrayRef<StepPlan::Access> accesses,
                  unsigned numWritten) {
    for (auto [i, access] : llvm::enumerate(accesses)) {
      Buffer &buffer = buffers[access.buffer];
      buffer.used = true;
      if (!buffer.name.empty())
        continue;
      std::string text = launch.str();
      if (numWritten > 1)
        text += "/" + std::to_string(i + numWritten - accesses.size());
      buffer.name = identifier(text, taken);
    }
  };
  for (const StepPlan::Launch &launch :
       llvm::concat<const StepPlan::Launch>(plan.launches, plan.init)) {
    for (const StepPlan::Part &part : launch.parts)
      name(part.name, launch.getAccesses(part), part.numWritten);
    name(launch.name, launch.accesses, launch.numWritten);
  }
  for (const StepPlan::Result &result : plan.results)
    if (Buffer &buffer = buffers[result.access.buffer]; buffer.name.empty())
      buffer.name = identifier(result.name, taken);
}
