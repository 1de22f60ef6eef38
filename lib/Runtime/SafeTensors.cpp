//===- SafeTensors.cpp - reading and writing safetensors ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The reader refuses what the format's own library refuses: headers beyond 100
// MB, offsets outside of the file, sizes that do not fit shape and dtype, and
// bytes that belong to no tensor or to two.
//
//===----------------------------------------------------------------------===//

#include "SafeTensors.h"
#include "Json.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace mpt::rt {

static constexpr uint64_t kMaxHeader = 100 * 1000 * 1000;

/// Bytes per element by the format's names; 0 for one that does not exist.
static int64_t storedBytes(const std::string &dtype) {
  static const std::map<std::string, int64_t> sizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},      {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2},     {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"F8_E8M0", 1}, {"I64", 8},     {"U64", 8},
      {"F64", 8},  {"C64", 8}};
  auto it = sizes.find(dtype);
  return it == sizes.end() ? 0 : it->second;
}

static StoredTensor readEntry(const JsonCursor &json, const char *data,
                              int64_t dataBytes) {
  StoredTensor tensor;
  tensor.dtype = json.at("dtype").string();
  int64_t bytes = storedBytes(tensor.dtype);
  if (bytes == 0)
    json.at("dtype").expected("a safetensors dtype");
  JsonCursor shape = json.at("shape");
  for (size_t i = 0, e = shape.size(); i != e; ++i) {
    tensor.shape.push_back(shape.at(i).integer(0));
    if (__builtin_mul_overflow(bytes, tensor.shape.back(), &bytes))
      shape.expected("a shape whose bytes fit 64 bits");
  }
  JsonCursor offsets = json.at("data_offsets");
  if (offsets.size() != 2)
    offsets.expected("[begin, end]");
  int64_t begin = offsets.at(size_t(0)).integer(0);
  int64_t end = offsets.at(1).integer(0);
  if (begin > end || end > dataBytes)
    offsets.expected("offsets within the " + std::to_string(dataBytes) +
                     " bytes that follow the header");
  if (end - begin != bytes)
    offsets.expected(std::to_string(bytes) + " bytes for " +
                     toString(tensor.shape) + " " + tensor.dtype);
  tensor.data = data + begin;
  tensor.bytes = bytes;
  return tensor;
}

/// Fails unless the tensors cover [data, data + dataBytes) exactly once.
static void checkCover(const std::map<std::string, StoredTensor> &table,
                       const char *data, int64_t dataBytes,
                       const std::string &path) {
  std::vector<std::pair<const char *, int64_t>> pieces;
  for (const auto &[name, tensor] : table)
    pieces.emplace_back(tensor.data, tensor.bytes);
  std::sort(pieces.begin(), pieces.end());
  const char *at = data;
  for (auto [begin, bytes] : pieces) {
    if (begin != at)
      fail(MPT_ERROR_FORMAT, "'", path, "': byte ", std::min(begin, at) - data,
           " after the header belongs to ", begin > at ? "no tensor" : "two",
           ", expected exactly one");
    at += bytes;
  }
  if (at != data + dataBytes)
    fail(MPT_ERROR_FORMAT, "'", path, "' has ", dataBytes,
         " bytes after the header, its tensors have ", at - data);
}

SafeTensorsFile::SafeTensorsFile(const std::string &path) : file(path) {
  uint64_t headerBytes = 0;
  if (file.size() < 8)
    fail(MPT_ERROR_FORMAT, "'", path, "' has ", file.size(),
         " bytes, expected a safetensors file (truncated?)");
  for (int i = 0; i != 8; ++i)
    headerBytes |= uint64_t(static_cast<unsigned char>(file.data()[i]))
                   << 8 * i;
  if (headerBytes > kMaxHeader || headerBytes > file.size() - 8)
    fail(MPT_ERROR_FORMAT, "'", path, "' announces a header of ", headerBytes,
         " bytes in a file of ", file.size(),
         ", expected a safetensors file (truncated?)");
  const char *text = file.data() + 8, *data = text + headerBytes;
  auto dataBytes = static_cast<int64_t>(file.size() - 8 - headerBytes);

  Json json;
  try {
    json = Json::parse(text, data);
  } catch (const Json::exception &error) {
    fail(MPT_ERROR_FORMAT, "header of '", path,
         "' is not valid JSON: ", error.what());
  }
  JsonCursor root(json, path);
  if (!json.is_object())
    root.expected("an object");
  for (const auto &[name, value] : json.items()) {
    JsonCursor entry(value, path + ": '" + name + "'");
    if (name != "__metadata__") {
      table.emplace(name, readEntry(entry, data, dataBytes));
      continue;
    }
    if (!value.is_object())
      entry.expected("an object");
    for (const auto &[key, text] : value.items())
      meta.emplace(key, entry.at(key.c_str()).string());
  }
  checkCover(table, data, dataBytes, path);
}

std::optional<std::string>
SafeTensorsFile::metadata(const std::string &key) const {
  auto it = meta.find(key);
  if (it == meta.end())
    return std::nullopt;
  return it->second;
}

const StoredTensor &SafeTensorsFile::require(const std::string &name,
                                             mpt_dtype dtype,
                                             const Shape &shape) const {
  auto it = table.find(name);
  if (it == table.end())
    fail(MPT_ERROR_MISMATCH, "'", path(), "' lacks tensor '", name, "'");
  const StoredTensor &tensor = it->second;
  if (tensor.dtype != dtypeInfo(dtype).safetensors || tensor.shape != shape)
    fail(MPT_ERROR_MISMATCH, "'", path(), "': tensor '", name, "' is ",
         toString(tensor.shape), " ", tensor.dtype, ", expected ",
         toString(shape), " ", dtypeInfo(dtype).safetensors);
  return tensor;
}

namespace {

/// A file under a temporary name that is removed unless it is committed.
class TemporaryFile {
public:
  explicit TemporaryFile(const std::string &path)
      : path(path), temporary(path + ".tmp." + std::to_string(::getpid())) {
    fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                0666);
    if (fd < 0)
      fail(MPT_ERROR_IO, "cannot create '", temporary,
           "': ", std::strerror(errno));
  }
  ~TemporaryFile() {
    if (fd >= 0)
      ::close(fd);
    if (!committed)
      ::unlink(temporary.c_str());
  }
  void write(const void *data, size_t bytes) {
    const char *p = static_cast<const char *>(data);
    while (bytes != 0) {
      ssize_t written = ::write(fd, p, std::min<size_t>(bytes, 1 << 30));
      if (written < 0 && errno == EINTR)
        continue;
      if (written <= 0)
        fail(MPT_ERROR_IO, "cannot write '", temporary,
             "': ", std::strerror(errno));
      p += written;
      bytes -= static_cast<size_t>(written);
    }
  }
  void commit() {
    bool ok = ::fsync(fd) == 0;
    ok = ::close(fd) == 0 && ok;
    fd = -1;
    if (!ok || ::rename(temporary.c_str(), path.c_str()) != 0)
      fail(MPT_ERROR_IO, "cannot write '", path, "': ", std::strerror(errno));
    committed = true;
  }

private:
  std::string path, temporary;
  int fd = -1;
  bool committed = false;
};

} // namespace

void writeSafeTensors(const std::string &path,
                      const std::vector<TensorToWrite> &tensors,
                      const std::map<std::string, std::string> &metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite &tensor : tensors) {
    header[tensor.name] = {{"dtype", dtypeInfo(tensor.dtype).safetensors},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception &error) {
    fail(MPT_ERROR_ARGUMENT, "cannot write '", path,
         "': a name is not UTF-8: ", error.what());
  }
  text.resize((text.size() + 63) / 64 * 64, ' '); // data starts aligned to 8
  unsigned char length[8];
  for (int i = 0; i != 8; ++i)
    length[i] = static_cast<unsigned char>(uint64_t(text.size()) >> 8 * i);

  TemporaryFile file(path);
  file.write(length, sizeof length);
  file.write(text.data(), text.size());
  for (const TensorToWrite &tensor : tensors)
    file.write(tensor.data, static_cast<size_t>(tensor.bytes));
  file.commit();
}

} // namespace mpt::rt
