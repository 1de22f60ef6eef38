//===- Symbols.cpp - From machine addresses to source lines ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Asks binutils' addr2line, once per reported address; without it (or without
// debug information) messages name the function and the offset only.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <cstdio>
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

using namespace mpt::sim;

/// `text` in single quotes for a shell, as file names may hold anything.
static std::string quoted(const std::string &text) {
  std::string result = "'";
  for (char c : text)
    result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

/// "file:line" by addr2line, empty if it does not know.
static std::string lineOf(const std::string &file, uintptr_t offset) {
  char hex[32];
  std::snprintf(hex, sizeof(hex), "0x%lx", static_cast<unsigned long>(offset));
  std::string command =
      "addr2line -e " + quoted(file) + " " + hex + " 2>/dev/null";
  FILE *pipe = popen(command.c_str(), "r");
  if (!pipe)
    return "";
  char line[1024] = "";
  if (!std::fgets(line, sizeof(line), pipe))
    line[0] = '\0';
  pclose(pipe);
  std::string text = line;
  text = text.substr(0, text.find_first_of("\n "));
  return text.find('?') == std::string::npos ? text : "";
}

std::string mpt::sim::placeText(const void *address) {
  Dl_info info;
  link_map *map = nullptr;
  if (!address || !dladdr1(address, &info, reinterpret_cast<void **>(&map),
                           RTLD_DL_LINKMAP))
    return "";
  // Addresses in the file are relative to where it was loaded. The program
  // itself has no name here.
  std::string file = map->l_name;
  if (file.empty()) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    file.assign(path, length > 0 ? static_cast<size_t>(length) : 0);
  }
  uintptr_t at = reinterpret_cast<uintptr_t>(address);
  std::string line = lineOf(file, at - map->l_addr);
  if (!line.empty())
    return " at " + line;
  if (!info.dli_sname)
    return "";
  return std::string(" in ") + info.dli_sname + "+" +
         std::to_string(at - reinterpret_cast<uintptr_t>(info.dli_saddr));
}

std::string mpt::sim::kernelText(const void *kernel) {
  std::string place = placeText(kernel);
  return place.empty() ? "" : ", kernel" + place;
}
