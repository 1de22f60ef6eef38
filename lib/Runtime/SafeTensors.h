//===- SafeTensors.h - reading and writing safetensors ----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The safetensors container (github.com/huggingface/safetensors): 8 bytes of
// header length, a JSON header, then the tensors without holes. Files come from
// outside: everything is checked when one is opened.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_SAFETENSORS_H
#define MPT_LIB_RUNTIME_SAFETENSORS_H

#include "MappedFile.h"
#include "Types.h"

#include <map>
#include <string>
#include <vector>

namespace mpt::rt {

struct StoredTensor {
  std::string dtype; // as the file spells it; may be one that we do not know
  Shape shape;
  const char *data = nullptr;
  int64_t bytes = 0;
};

class SafeTensorsFile {
public:
  /// Maps and checks a file; fails with MPT_ERROR_IO or MPT_ERROR_FORMAT.
  explicit SafeTensorsFile(const std::string &path);

  const std::string &path() const { return file.path(); }
  const std::map<std::string, StoredTensor> &tensors() const { return table; }
  /// The value of `__metadata__`, or nothing.
  std::optional<std::string> metadata(const std::string &key) const;
  /// The tensor that an argument is to be read from: fails with
  /// MPT_ERROR_MISMATCH unless name, dtype and shape are there and equal.
  const StoredTensor &require(const std::string &name, mpt_dtype dtype,
                              const Shape &shape) const;

private:
  MappedFile file;
  std::map<std::string, StoredTensor> table;
  std::map<std::string, std::string> meta;
};

struct TensorToWrite {
  std::string name;
  mpt_dtype dtype = MPT_F32;
  Shape shape;
  const void *data = nullptr;
  int64_t bytes = 0;
};

/// Writes beside `path`, then renames; on failure nothing is left behind and
/// an older file at `path` is as it was.
void writeSafeTensors(const std::string &path,
                      const std::vector<TensorToWrite> &tensors,
                      const std::map<std::string, std::string> &metadata);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_SAFETENSORS_H
