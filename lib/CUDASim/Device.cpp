//===- Device.cpp - The simulated device, and planned failures ------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What a program may ask of the machine before it uses it, and failures that
// tests plan by mpt_sim_fail, since a GPU of another kind, a full one, and one
// that faults are not at hand. One plan is in force:
//
//   driver=N       the driver supports CUDA N (12080 is 12.8), 0: there is none
//   device=M.N     compute capability
//   free=BYTES     device memory that is left
//   refuse=NAME    the launch of this name is refused when it is queued
//   refuse-graph   launches of graphs are refused
//   fault=NAME     the launch of this name faults when it runs; as on a GPU,
//                  every call from then on fails, until the plan changes
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <algorithm>
#include <cstdlib>

using namespace mpt::sim;

namespace {

constexpr size_t totalMemory = size_t(139) << 30;
constexpr int runtimeVersion = 13000;

struct Plan {
  int driver = runtimeVersion;
  int major = 9, minor = 0;
  size_t free = totalMemory;
  bool refusesGraph = false;
  std::string refused, faulty;
};

Plan plan;
cudaError_t state = cudaSuccess;

/// Reads "key=value"; returns false if there is no such plan.
bool parse(const std::string &text, Plan &to) {
  size_t equals = text.find('=');
  std::string key = text.substr(0, equals);
  std::string value =
      equals == std::string::npos ? "" : text.substr(equals + 1);
  if (key == "refuse-graph" && equals == std::string::npos)
    return to.refusesGraph = true;
  if (value.empty())
    return false;
  if (key == "refuse")
    to.refused = value;
  else if (key == "fault")
    to.faulty = value;
  else if (key == "driver")
    to.driver = std::atoi(value.c_str());
  else if (key == "free")
    to.free = std::strtoull(value.c_str(), nullptr, 10);
  else if (key == "device" && value.size() == 3 && value[1] == '.')
    to.major = value[0] - '0', to.minor = value[2] - '0';
  else
    return false;
  return true;
}

} // namespace

int mpt_sim_fail(const char *text) {
  Plan planned;
  if (*text && !parse(text, planned))
    return 1;
  plan = planned;
  state = cudaSuccess;
  return 0;
}

cudaError_t mpt::sim::deviceState() { return state; }

bool mpt::sim::refusesLaunch(const std::string &name) {
  return !name.empty() && name == plan.refused;
}

bool mpt::sim::faults(const std::string &name) {
  if (name.empty() || name != plan.faulty)
    return false;
  state = error(cudaErrorIllegalAddress, "planned, in '" + name + "'");
  return true;
}

bool mpt::sim::refusesGraph() { return plan.refusesGraph; }

size_t mpt::sim::freeMemory() {
  size_t used = allocatedBytes();
  return std::min(plan.free, totalMemory - std::min(used, totalMemory));
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = plan.driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = runtimeVersion;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = plan.driver >= runtimeVersion ? 1 : 0;
  return *count ? cudaSuccess
                : error(cudaErrorInsufficientDriver, "planned by mpt_sim_fail");
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess
                     : error(cudaErrorInvalidValue,
                             "device " + std::to_string(device) +
                                 ", the simulator has device 0 only");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  *properties = {"simulated", plan.major, plan.minor, 132};
  return cudaSetDevice(device);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  *free = freeMemory();
  *total = totalMemory;
  return deviceState();
}
