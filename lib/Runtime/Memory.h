//===- Memory.h - large aligned memory --------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One zeroed, page-aligned mapping, on huge pages where the system gives them.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_MEMORY_H
#define MPT_LIB_RUNTIME_MEMORY_H

#include "Failure.h"

#include <sys/mman.h>

namespace mpt::rt {

class Memory {
public:
  Memory() = default;
  /// Reserves `bytes`; `what` is for the message if there is not enough.
  Memory(size_t bytes, const char *what) : length(bytes) {
    if (bytes == 0)
      return;
    void *mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
      fail(MPT_ERROR_MEMORY, "no memory for the ", what, " of ", bytes,
           " bytes");
    base = static_cast<char *>(mapped);
    ::madvise(base, bytes, MADV_HUGEPAGE); // advice only
  }
  ~Memory() {
    if (base)
      ::munmap(base, length);
  }
  Memory(Memory &&other) noexcept { swap(other); }
  Memory &operator=(Memory &&other) noexcept {
    swap(other);
    return *this;
  }

  char *data() const { return base; }
  size_t size() const { return length; }

private:
  void swap(Memory &other) {
    std::swap(base, other.base);
    std::swap(length, other.length);
  }
  char *base = nullptr;
  size_t length = 0;
};

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_MEMORY_H
