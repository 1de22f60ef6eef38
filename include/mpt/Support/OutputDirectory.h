//===- OutputDirectory.h - directories that appear whole or not at all ----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Outputs are written beside their destination and renamed, so that a failure
// leaves nothing half-written.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_SUPPORT_OUTPUTDIRECTORY_H
#define MPT_SUPPORT_OUTPUTDIRECTORY_H

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/SmallString.h"

namespace mpt {

/// A directory under construction; removed unless committed.
class OutputDirectory {
public:
  explicit OutputDirectory(llvm::StringRef destination);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory &) = delete;
  OutputDirectory &operator=(const OutputDirectory &) = delete;

  mlir::LogicalResult create(mlir::Location location);
  /// Where `name` is to be written.
  std::string path(llvm::StringRef name) const;
  /// Puts the directory in its place, instead of an earlier one.
  mlir::LogicalResult commit(mlir::Location location);

private:
  std::string destination;
  std::string temporary;
};

} // namespace mpt

#endif // MPT_SUPPORT_OUTPUTDIRECTORY_H
