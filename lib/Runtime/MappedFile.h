//===- MappedFile.h - read-only mapping of a file ---------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A file's bytes without a copy on the heap.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_MAPPEDFILE_H
#define MPT_LIB_RUNTIME_MAPPEDFILE_H

#include <cstddef>
#include <string>

namespace mpt::rt {

class MappedFile {
public:
  /// Maps `path`; fails with MPT_ERROR_IO where that is no readable file.
  explicit MappedFile(const std::string &path);
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  const char *data() const { return bytes; }
  size_t size() const { return length; }
  const std::string &path() const { return name; }

private:
  std::string name;
  const char *bytes = nullptr;
  size_t length = 0;
};

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_MAPPEDFILE_H
