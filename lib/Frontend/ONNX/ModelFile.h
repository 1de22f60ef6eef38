//===- ModelFile.h - an ONNX file, mapped ---------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The parts of an ONNX model that the importer reads. Nodes and types are
// protobuf messages on the heap; the values of initializers stay in the mapped
// file (or the mapped external file) and are only referenced.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_FRONTEND_ONNX_MODELFILE_H
#define MPT_LIB_FRONTEND_ONNX_MODELFILE_H

#include "mpt/Frontend/ONNX/Import.h"
#include "onnx.pb.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"

namespace mpt::onnx_import {

/// Read-only mappings of files, by path.
class MappedFiles {
public:
  /// Maps the regular file at `path`; the bytes live as long as this object.
  llvm::Expected<llvm::StringRef> map(llvm::StringRef path);

private:
  llvm::StringMap<std::unique_ptr<llvm::sys::fs::mapped_file_region>> files;
};

/// A tensor of the file. `bytes` are its values, little endian and row major,
/// in a mapped file or, for a tensor that stores them as integers, in
/// `storage`.
struct FileTensor {
  std::string name;
  int32_t dataType = 0; // onnx::TensorProto::DataType
  llvm::SmallVector<int64_t> shape;
  llvm::StringRef bytes;
  std::shared_ptr<std::string> storage;
};

struct ModelFile {
  int64_t opset = 0;
  std::vector<onnx::NodeProto> nodes;
  std::vector<FileTensor> initializers;
  std::vector<onnx::ValueInfoProto> inputs;
  std::vector<onnx::ValueInfoProto> outputs;
  std::map<std::string, std::string> metadata;
};

/// Parses the model at `path`. External data may only lie in the model's own
/// directory (after resolving links) and inside its file.
llvm::Expected<ModelFile> readModelFile(llvm::StringRef path,
                                        MappedFiles &files);

/// The values of an attribute's tensor, which is small and on the heap.
llvm::Expected<FileTensor> toFileTensor(const onnx::TensorProto &proto);

/// Name of an element type as ONNX spells it, e.g. FLOAT16.
std::string dataTypeName(int32_t dataType);
/// Bytes of one element, or 0 for a type that the importer does not read.
unsigned dataTypeBytes(int32_t dataType);
/// Product of dims; an error says that it overflows or that a dim is negative.
llvm::Expected<int64_t> countElements(llvm::ArrayRef<int64_t> shape);

} // namespace mpt::onnx_import

#endif // MPT_LIB_FRONTEND_ONNX_MODELFILE_H
