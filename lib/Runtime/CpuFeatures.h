//===- CpuFeatures.h - what this CPU can do ---------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Answers, by the names of LLVM's targets, whether code compiled for a feature
// can run here.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_CPUFEATURES_H
#define MPT_LIB_RUNTIME_CPUFEATURES_H

#include <string>
#include <string_view>
#include <vector>

namespace mpt::rt {

/// "x86_64", "aarch64" or "unknown".
const char *cpuArch();

/// Whether CPU and operating system support `feature`; false for a name that
/// is not known.
bool cpuHas(std::string_view feature);

/// Fails with MPT_ERROR_UNSUPPORTED, naming all that is missing.
void requireCpu(const std::string &arch,
                const std::vector<std::string> &features);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_CPUFEATURES_H
