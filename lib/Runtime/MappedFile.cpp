//===- MappedFile.cpp - read-only mapping of a file -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mmap with the errors spelt out; an empty file maps to no bytes.
//
//===----------------------------------------------------------------------===//

#include "MappedFile.h"
#include "Failure.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mpt::rt {

MappedFile::MappedFile(const std::string &path) : name(path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fail(MPT_ERROR_IO, "cannot open '", path, "': ", std::strerror(errno));
  struct stat status;
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail(MPT_ERROR_IO, "'", path, "' is not a regular file");
  }
  length = static_cast<size_t>(status.st_size);
  void *mapped = nullptr;
  if (length != 0)
    mapped = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, fd, 0);
  int error = errno;
  ::close(fd);
  if (mapped == MAP_FAILED)
    fail(MPT_ERROR_IO, "cannot map '", path, "': ", std::strerror(error));
  bytes = static_cast<const char *>(mapped);
}

MappedFile::~MappedFile() {
  if (bytes)
    ::munmap(const_cast<char *>(bytes), length);
}

} // namespace mpt::rt
