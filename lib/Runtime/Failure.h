//===- Failure.h - errors inside the runtime --------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The exception that carries a status and a message from where something is
// found wrong to the C API, which turns it into a return value. Messages name
// the thing, what was found and what was expected.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_FAILURE_H
#define MPT_LIB_RUNTIME_FAILURE_H

#include "mpt/Runtime/mpt.h"

#include <sstream>
#include <stdexcept>
#include <string>

namespace mpt::rt {

struct Failure : std::runtime_error {
  Failure(mpt_status status, const std::string &message)
      : std::runtime_error(message), status(status) {}
  mpt_status status;
};

/// Throws a Failure whose message is the parts, streamed one after the other.
template <typename... Parts>
[[noreturn]] void fail(mpt_status status, const Parts &...parts) {
  std::ostringstream out;
  (out << ... << parts);
  throw Failure(status, out.str());
}

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_FAILURE_H
