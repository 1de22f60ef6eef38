//===- GroupEmitter.h - one CUDA kernel for many kernel calls -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Groups of the step plan: the kernels of their parts as device functions, one
// kernel that deals its blocks out to the parts, and the table that says which
// part is what (mpt/CUDA/Parts.h).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_GROUPEMITTER_H
#define MPT_LIB_TARGET_CUDA_GROUPEMITTER_H

#include "KernelEmitter.h"
#include "Names.h"

namespace mpt {
namespace cuda {

/// Whether launches of the kernel can be parts of a group: threads of different
/// warps do not work together, and no shared memory is asked for.
bool canBePart(const KernelModel &model);

class GroupEmitter {
public:
  using Models = llvm::function_ref<const KernelModel &(llvm::StringRef)>;

  GroupEmitter(const StepPlan &plan, const DeviceMemory &memory, Models models);

  /// Functions of the parts, then the groups' kernels.
  void emitKernels(SourceWriter &w);
  /// The launch of a group.
  void emitLaunch(const StepPlan::Launch &launch, SourceWriter &w);
  /// The tables; returns them as entries of the step's constants.
  llvm::SmallVector<std::string> emitTables(SourceWriter &w);

private:
  struct Body {
    std::string name, firstUse;
    const KernelModel *model;
    KernelForm form;
    unsigned uses = 0;
  };
  struct Part {
    const StepPlan::Part *part;
    unsigned body;
    int64_t firstBlock, count, gridX;
  };
  struct Group {
    const StepPlan::Launch *launch;
    std::string name;
    /// Of the file's kernels.
    unsigned kernel = 0;
    std::vector<Part> parts;
    /// Of the file's bodies, in the order of the kernel's switch.
    llvm::SmallVector<unsigned> bodies;
    unsigned numPlaces = 0;
    int64_t blocks = 0;
  };

  /// A group's function: one for all groups of the same bodies.
  struct Kernel {
    /// The place in `groups` of the first that it is for.
    size_t group;
    unsigned uses = 0;
  };

  void addGroup(const StepPlan::Launch &launch, Models models);
  unsigned getBody(llvm::StringRef symbol, const KernelModel &model);
  void findKernel(Group &group);
  void emitGroup(const Group &group, llvm::StringRef name, SourceWriter &w);
  void emitCall(const Body &body, SourceWriter &w);

  const DeviceMemory &memory;
  std::vector<Body> bodies;
  llvm::StringMap<unsigned> bodyOfText;
  std::vector<Group> groups;
  std::vector<Kernel> kernels;
  llvm::StringMap<unsigned> kernelOfText;
};

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_GROUPEMITTER_H
