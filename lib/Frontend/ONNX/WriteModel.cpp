//===- WriteModel.cpp - the graph and its parameters as files -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The module as text and the parameters as safetensors
// (huggingface.co/docs/safetensors: u64 header length, JSON header, values).
// Values go from the mapped model straight to the file.
//
//===----------------------------------------------------------------------===//

#include "ModelFile.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <unistd.h>

using namespace mlir;
using namespace mpt;
using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {

/// A file that is written under a temporary name beside its own and appears
/// there when it is kept; removed otherwise.
class PendingFile {
public:
  static Expected<PendingFile> create(StringRef path) {
    PendingFile file;
    file.path = path.str();
    SmallString<256> name;
    std::error_code error = llvm::sys::fs::createUniqueFile(
        path + ".%%%%%%.tmp", file.descriptor, name, llvm::sys::fs::OF_None,
        llvm::sys::fs::all_read | llvm::sys::fs::owner_write);
    if (error)
      return createStringError("cannot write '" + path +
                               "': " + error.message());
    file.temporary = std::string(name);
    return file;
  }
  PendingFile(PendingFile &&other)
      : path(std::move(other.path)), temporary(std::move(other.temporary)),
        descriptor(std::exchange(other.descriptor, -1)) {
    other.temporary.clear();
  }
  ~PendingFile() {
    if (descriptor >= 0)
      ::close(descriptor);
    if (!temporary.empty())
      llvm::sys::fs::remove(temporary);
  }

  Error write(StringRef bytes) {
    while (!bytes.empty()) { // one call writes at most 2 GiB
      ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR)
        continue;
      if (written <= 0)
        return createStringError("cannot write '" + path +
                                 "': " + std::string(std::strerror(errno)));
      bytes = bytes.drop_front(written);
    }
    return Error::success();
  }

  Error keep() {
    std::error_code error;
    if (::close(std::exchange(descriptor, -1)) != 0)
      error = std::error_code(errno, std::generic_category());
    if (!error)
      error = llvm::sys::fs::rename(temporary, path);
    if (error)
      return createStringError("cannot write '" + path +
                               "': " + error.message());
    temporary.clear();
    return Error::success();
  }

private:
  PendingFile() = default;
  std::string path, temporary;
  int descriptor = -1;
};

} // namespace

/// The JSON header of a safetensors file, padded so that values are aligned.
static std::string headerOf(const ImportedModel &model) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream json(stream);
  uint64_t offset = 0;
  json.object([&] {
    json.attributeObject("__metadata__", [&] {
      json.attribute("format", "pt");
      if (!model.tiedNames.empty())
        json.attribute("mpt.tied", model.tiedNames);
    });
    for (const ParameterValue &parameter : model.parameters)
      json.attributeObject(parameter.name, [&] {
        json.attribute("dtype", "F32");
        json.attributeArray("shape", [&] {
          for (int64_t size : parameter.shape)
            json.value(size);
        });
        json.attributeArray("data_offsets", [&] {
          json.value(static_cast<int64_t>(offset));
          offset += parameter.bytes.size();
          json.value(static_cast<int64_t>(offset));
        });
      });
  });
  text.append((8 - text.size() % 8) % 8, ' ');
  uint64_t length = text.size();
  return std::string(reinterpret_cast<const char *>(&length), sizeof(length)) +
         text;
}

static Error writeFiles(const ImportedModel &model, StringRef output) {
  SmallString<256> weights(output);
  llvm::sys::path::replace_extension(weights, ".safetensors");
  if (weights == output)
    return createStringError(
        "output '" + output +
        "': expected a name that does not end in .safetensors, "
        "where the parameters go");
  auto graph = PendingFile::create(output);
  if (!graph)
    return graph.takeError();
  auto values = PendingFile::create(weights);
  if (!values)
    return values.takeError();
  ModuleOp module = model.module.get();
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream);
  stream << "\n";
  if (Error error = graph->write(text))
    return error;
  if (Error error = values->write(headerOf(model)))
    return error;
  for (const ParameterValue &parameter : model.parameters)
    if (Error error = values->write(parameter.bytes))
      return error;
  if (Error error = values->keep())
    return error;
  Error error = graph->keep();
  if (error)
    llvm::sys::fs::remove(weights);
  return error;
}

LogicalResult mpt::onnx_import::writeModel(const ImportedModel &model,
                                           StringRef output) {
  ModuleOp module = model.module.get();
  if (output == "-") {
    module.print(llvm::outs());
    llvm::outs() << "\n";
    return success();
  }
  if (Error error = writeFiles(model, output))
    return emitError(UnknownLoc::get(module.getContext()))
           << llvm::toString(std::move(error));
  return success();
}
