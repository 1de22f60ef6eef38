//===- OutputDirectory.cpp - directories that appear whole or not at all --===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See OutputDirectory.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Support/OutputDirectory.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mpt;
namespace fs = llvm::sys::fs;

OutputDirectory::OutputDirectory(llvm::StringRef destination)
    : destination(destination.rtrim('/')) {}

OutputDirectory::~OutputDirectory() {
  if (!temporary.empty())
    fs::remove_directories(temporary);
}

mlir::LogicalResult OutputDirectory::create(mlir::Location location) {
  llvm::SmallString<128> parent(destination);
  if (fs::exists(destination) && !fs::is_directory(destination))
    return mlir::emitError(location)
           << "'" << destination << "' exists and is no directory";
  std::error_code error;
  if (!llvm::sys::path::parent_path(destination).empty())
    error = fs::create_directories(llvm::sys::path::parent_path(destination));
  llvm::SmallString<128> unique;
  if (!error) {
    fs::createUniquePath(destination + ".tmp-%%%%%%%%", unique,
                         /*MakeAbsolute=*/false);
    error = fs::create_directory(unique);
  }
  if (error)
    return mlir::emitError(location) << "cannot create a directory beside '"
                                     << destination << "': " << error.message();
  temporary = unique.str().str();
  return mlir::success();
}

std::string OutputDirectory::path(llvm::StringRef name) const {
  llvm::SmallString<128> result(temporary);
  llvm::sys::path::append(result, name);
  return result.str().str();
}

mlir::LogicalResult OutputDirectory::commit(mlir::Location location) {
  std::string old = temporary + ".old";
  bool replaced = fs::exists(destination) && !fs::rename(destination, old);
  if (std::error_code error = fs::rename(temporary, destination)) {
    if (replaced)
      fs::rename(old, destination);
    return mlir::emitError(location) << "cannot put '" << destination
                                     << "' in place: " << error.message();
  }
  temporary.clear();
  if (replaced)
    fs::remove_directories(old);
  return mlir::success();
}
