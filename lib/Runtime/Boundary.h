//===- Boundary.h - from exceptions to status -------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What every function of a C API in this library is wrapped in: no exception
// leaves it, each becomes a status and this thread's message.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_BOUNDARY_H
#define MPT_LIB_RUNTIME_BOUNDARY_H

#include "Failure.h"

#include <new>

namespace mpt::rt {

class Package;
/// What stands behind a handle of the C API.
Package &packageOf(mpt_package *package);

/// Sets this thread's message (mpt_last_error) and returns `status`.
mpt_status report(mpt_status status, const char *message) noexcept;

/// Runs `body` and turns what it throws into a status.
template <typename Body> mpt_status guarded(const Body &body) noexcept {
  try {
    body();
    return MPT_OK;
  } catch (const Failure &failure) {
    return report(failure.status, failure.what());
  } catch (const std::bad_alloc &) {
    return report(MPT_ERROR_MEMORY, "out of memory");
  } catch (const std::exception &error) {
    return report(MPT_ERROR_STATE, error.what());
  } catch (...) {
    return report(MPT_ERROR_STATE, "unknown failure");
  }
}

/// Refuses a null pointer given for `what`.
inline void require(const void *pointer, const char *what) {
  if (!pointer)
    fail(MPT_ERROR_ARGUMENT, what, " is null");
}

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_BOUNDARY_H
