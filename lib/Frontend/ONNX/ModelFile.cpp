//===- ModelFile.cpp - reads an ONNX file in place ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Walks protobuf's wire format of ModelProto, GraphProto and the initializers'
// TensorProto by hand, so that weights are located instead of parsed; what is
// small goes through the generated classes. Nothing in the file is trusted:
// lengths are checked against the enclosing message before they are used.
//
//===----------------------------------------------------------------------===//

#include "ModelFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"
#include <optional>

using namespace mpt::onnx_import;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

//===----------------------------------------------------------------------===//
// Mapping
//===----------------------------------------------------------------------===//

Expected<StringRef> MappedFiles::map(StringRef path) {
  namespace fs = llvm::sys::fs;
  auto &slot = files[path];
  if (!slot) {
    auto file = fs::openNativeFileForRead(path);
    if (!file)
      return createStringError("cannot open '" + path +
                               "': " + llvm::toString(file.takeError()));
    fs::file_status status;
    std::error_code error = fs::status(*file, status);
    if (!error && !fs::is_regular_file(status))
      error = std::make_error_code(std::errc::invalid_argument);
    if (!error && status.getSize() > 0)
      slot = std::make_unique<fs::mapped_file_region>(
          *file, fs::mapped_file_region::readonly, status.getSize(), 0, error);
    fs::closeFile(*file);
    if (error)
      return createStringError("cannot read '" + path +
                               "' as a regular file: " + error.message());
    if (!slot)
      return createStringError("'" + path + "' is empty");
  }
  return StringRef(slot->const_data(), slot->size());
}

//===----------------------------------------------------------------------===//
// Wire format (protobuf.dev/programming-guides/encoding)
//===----------------------------------------------------------------------===//

namespace {
constexpr unsigned Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5;

struct Field {
  uint32_t number = 0;
  unsigned type = Varint;
  uint64_t value = 0; // of Varint and Fixed*
  StringRef bytes;    // of Bytes
  StringRef whole;    // with its tag
};

/// Reads one message field by field.
class WireReader {
public:
  explicit WireReader(StringRef message) : rest(message) {}

  /// False at the end of the message or, with `bad` set, at malformed bytes.
  bool next(Field &field) {
    if (rest.empty() || bad)
      return false;
    StringRef start = rest;
    uint64_t tag = varint();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = tag & 7;
    if (field.number == 0 || (tag >> 32) != 0)
      bad = true;
    if (bad)
      return false;
    switch (field.type) {
    case Varint:
      field.value = varint();
      break;
    case Bytes:
      field.bytes = take(varint());
      break;
    case Fixed64:
      take(8);
      break;
    case Fixed32:
      take(4);
      break;
    default: // groups, which ONNX does not use
      bad = true;
    }
    field.whole = start.drop_back(rest.size());
    return !bad;
  }
  bool isBad() const { return bad; }

private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest.empty())
        break;
      uint8_t byte = static_cast<uint8_t>(rest.front());
      rest = rest.drop_front();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return value;
    }
    bad = true;
    return 0;
  }
  StringRef take(uint64_t size) {
    if (bad || size > rest.size()) {
      bad = true;
      return {};
    }
    StringRef taken = rest.take_front(size);
    rest = rest.drop_front(size);
    return taken;
  }

  StringRef rest;
  bool bad = false;
};

// Field numbers of onnx.proto that are read by hand.
namespace model_field {
constexpr uint32_t IrVersion = 1, Graph = 7, OpsetImport = 8, Metadata = 14;
} // namespace model_field
namespace graph_field {
constexpr uint32_t Node = 1, Initializer = 5, Input = 11, Output = 12,
                   SparseInitializer = 15;
} // namespace graph_field
namespace tensor_field {
constexpr uint32_t FloatData = 4, RawData = 9;
} // namespace tensor_field

template <typename Message>
Error parse(StringRef bytes, Message &message, const char *what) {
  if (bytes.size() > INT32_MAX ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return createStringError(llvm::Twine("not an ONNX model: malformed ") +
                             what);
  return Error::success();
}

} // namespace

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

std::string mpt::onnx_import::dataTypeName(int32_t dataType) {
  if (onnx::TensorProto::DataType_IsValid(dataType))
    return onnx::TensorProto::DataType_Name(
        static_cast<onnx::TensorProto::DataType>(dataType));
  return "type " + std::to_string(dataType);
}

unsigned mpt::onnx_import::dataTypeBytes(int32_t dataType) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
    return 4;
  case onnx::TensorProto::INT64:
  case onnx::TensorProto::DOUBLE:
    return 8;
  case onnx::TensorProto::BOOL:
    return 1;
  default:
    return 0;
  }
}

Expected<int64_t>
mpt::onnx_import::countElements(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    if (size < 0)
      return createStringError("expected sizes of 0 or more, found " +
                               llvm::Twine(size));
    if (__builtin_mul_overflow(count, size, &count))
      return createStringError(
          "integer overflow: a shape has more than 2^63 - 1 "
          "elements");
  }
  return count;
}

/// Takes the values out of the typed *_data fields of a message.
static Expected<std::shared_ptr<std::string>>
packTypedData(const onnx::TensorProto &proto) {
  auto packed = std::make_shared<std::string>();
  auto append = [&](auto value) {
    packed->append(reinterpret_cast<const char *>(&value), sizeof(value));
  };
  switch (proto.data_type()) {
  case onnx::TensorProto::FLOAT:
    for (float value : proto.float_data())
      append(value);
    break;
  case onnx::TensorProto::DOUBLE:
    for (double value : proto.double_data())
      append(value);
    break;
  case onnx::TensorProto::INT64:
    for (int64_t value : proto.int64_data())
      append(value);
    break;
  case onnx::TensorProto::INT32:
    for (int32_t value : proto.int32_data())
      append(value);
    break;
  case onnx::TensorProto::BOOL:
    for (int32_t value : proto.int32_data())
      append(static_cast<uint8_t>(value != 0));
    break;
  default:
    break;
  }
  return packed;
}

/// Fills name, type and shape; `bytes` is checked by checkSize.
static FileTensor describe(const onnx::TensorProto &proto) {
  FileTensor tensor;
  tensor.name = proto.name();
  tensor.dataType = proto.data_type();
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  return tensor;
}

static Error checkSize(const FileTensor &tensor) {
  auto count = countElements(tensor.shape);
  if (!count)
    return createStringError("tensor '" + tensor.name +
                             "': " + llvm::toString(count.takeError()));
  unsigned width = dataTypeBytes(tensor.dataType);
  if (width == 0)
    return createStringError("tensor '" + tensor.name +
                             "': unsupported element type " +
                             dataTypeName(tensor.dataType) +
                             ", expected FLOAT, DOUBLE, INT32, INT64 or BOOL");
  int64_t expected;
  if (__builtin_mul_overflow(*count, static_cast<int64_t>(width), &expected))
    return createStringError("tensor '" + tensor.name +
                             "': integer overflow in its size");
  if (static_cast<uint64_t>(expected) != tensor.bytes.size())
    return createStringError(
        "tensor '" + tensor.name + "': expected " + llvm::Twine(expected) +
        " bytes of values, found " + llvm::Twine(tensor.bytes.size()));
  return Error::success();
}

Expected<FileTensor>
mpt::onnx_import::toFileTensor(const onnx::TensorProto &proto) {
  FileTensor tensor = describe(proto);
  if (proto.data_location() == onnx::TensorProto::EXTERNAL)
    return createStringError(
        "external data is only supported for initializers");
  if (proto.has_raw_data()) {
    tensor.storage = std::make_shared<std::string>(proto.raw_data());
  } else {
    auto packed = packTypedData(proto);
    if (!packed)
      return packed.takeError();
    tensor.storage = *packed;
  }
  tensor.bytes = *tensor.storage;
  if (Error error = checkSize(tensor))
    return error;
  return tensor;
}

/// Finds the bytes of a tensor whose values are in another file.
static Expected<StringRef> locateExternal(const onnx::TensorProto &proto,
                                          StringRef modelPath,
                                          MappedFiles &files) {
  auto fail = [&](const llvm::Twine &problem) -> Error {
    return createStringError("tensor '" + proto.name() + "': external data " +
                             problem);
  };
  std::string location;
  std::optional<uint64_t> offset = 0, length;
  for (const auto &entry : proto.external_data()) {
    uint64_t number = 0;
    bool isNumber = llvm::to_integer(entry.value(), number, 10);
    if (entry.key() == "location")
      location = entry.value();
    else if (entry.key() == "offset" || entry.key() == "length") {
      if (!isNumber)
        return fail(entry.key() + " '" + entry.value() +
                    "' is not a number of bytes");
      (entry.key() == "offset" ? offset : length) = number;
    }
  }
  namespace path = llvm::sys::path;
  bool climbs =
      llvm::any_of(llvm::make_range(path::begin(location), path::end(location)),
                   [](StringRef part) { return part == ".."; });
  if (location.empty() || path::is_absolute(location) || climbs ||
      StringRef(location).contains('\0'))
    return fail(
        "location '" + location +
        "' leaves the model's directory; expected a relative path inside "
        "it");
  llvm::SmallString<256> directory(path::parent_path(modelPath)), full,
      realFull, realDirectory;
  if (directory.empty())
    directory = ".";
  full = directory;
  path::append(full, location);
  if (llvm::sys::fs::real_path(full, realFull))
    return fail("file '" + location + "' is missing beside the model");
  if (std::error_code error =
          llvm::sys::fs::real_path(directory, realDirectory))
    return fail("directory cannot be resolved: " + error.message());
  StringRef prefix = realDirectory;
  prefix = prefix.rtrim('/');
  if (!StringRef(realFull).starts_with((prefix + "/").str()))
    return fail("location '" + location +
                "' leaves the model's directory through a link");
  auto bytes = files.map(realFull);
  if (!bytes)
    return fail("file '" + location +
                "': " + llvm::toString(bytes.takeError()));
  uint64_t size = length.value_or(bytes->size() -
                                  std::min<uint64_t>(*offset, bytes->size()));
  if (*offset > bytes->size() || size > bytes->size() - *offset)
    return fail("of " + llvm::Twine(size) + " bytes at offset " +
                llvm::Twine(*offset) + " lies outside file '" + location +
                "' of " + llvm::Twine(bytes->size()) + " bytes");
  return bytes->substr(*offset, size);
}

/// Reads an initializer without copying its values out of the mapping.
static Expected<FileTensor> readInitializer(StringRef message, StringRef path,
                                            MappedFiles &files) {
  std::string small;
  std::optional<StringRef> values;
  bool severalChunks = false;
  WireReader reader(message);
  for (Field field; reader.next(field);) {
    bool located =
        field.type == Bytes && (field.number == tensor_field::RawData ||
                                field.number == tensor_field::FloatData);
    if (!located) {
      small.append(field.whole.data(), field.whole.size());
      continue;
    }
    severalChunks |= values.has_value();
    values = field.bytes;
  }
  onnx::TensorProto proto;
  if (reader.isBad() || severalChunks)
    return createStringError("not an ONNX model: malformed initializer");
  if (Error error = parse(small, proto, "initializer"))
    return error;
  FileTensor tensor = describe(proto);
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    auto bytes = locateExternal(proto, path, files);
    if (!bytes)
      return bytes.takeError();
    tensor.bytes = *bytes;
  } else if (values) {
    tensor.bytes = *values;
  } else {
    auto packed = packTypedData(proto);
    if (!packed)
      return packed.takeError();
    tensor.storage = *packed;
    tensor.bytes = *tensor.storage;
  }
  if (Error error = checkSize(tensor))
    return error;
  return tensor;
}

//===----------------------------------------------------------------------===//
// Model
//===----------------------------------------------------------------------===//

template <typename Message>
static Error append(StringRef bytes, std::vector<Message> &list,
                    const char *what) {
  return parse(bytes, list.emplace_back(), what);
}

static Error readGraphField(const Field &field, StringRef path,
                            MappedFiles &files, ModelFile &model) {
  switch (field.number) {
  case graph_field::Node:
    return append(field.bytes, model.nodes, "node");
  case graph_field::Input:
    return append(field.bytes, model.inputs, "graph input");
  case graph_field::Output:
    return append(field.bytes, model.outputs, "graph output");
  case graph_field::SparseInitializer:
    return createStringError("sparse initializers are not supported");
  case graph_field::Initializer: {
    auto tensor = readInitializer(field.bytes, path, files);
    if (!tensor)
      return tensor.takeError();
    model.initializers.push_back(std::move(*tensor));
    return Error::success();
  }
  default:
    return Error::success();
  }
}

static Error readGraph(StringRef message, StringRef path, MappedFiles &files,
                       ModelFile &model) {
  WireReader reader(message);
  for (Field field; reader.next(field);)
    if (field.type == Bytes)
      if (Error error = readGraphField(field, path, files, model))
        return error;
  if (reader.isBad())
    return createStringError("not an ONNX model or truncated: malformed graph");
  return Error::success();
}

Expected<ModelFile> mpt::onnx_import::readModelFile(StringRef path,
                                                    MappedFiles &files) {
  auto bytes = files.map(path);
  if (!bytes)
    return bytes.takeError();
  ModelFile model;
  std::optional<StringRef> graph;
  uint64_t irVersion = 0;
  WireReader reader(*bytes);
  for (Field field; reader.next(field);) {
    if (field.number == model_field::IrVersion && field.type == Varint) {
      irVersion = field.value;
    } else if (field.number == model_field::Graph && field.type == Bytes) {
      if (graph)
        return createStringError("not an ONNX model: it has two graphs");
      graph = field.bytes;
    } else if (field.number == model_field::OpsetImport &&
               field.type == Bytes) {
      onnx::OperatorSetIdProto opset;
      if (Error error = parse(field.bytes, opset, "opset import"))
        return error;
      if (opset.domain().empty() || opset.domain() == "ai.onnx")
        model.opset = opset.version();
    } else if (field.number == model_field::Metadata && field.type == Bytes) {
      onnx::StringStringEntryProto entry;
      if (Error error = parse(field.bytes, entry, "metadata"))
        return error;
      model.metadata[entry.key()] = entry.value();
    }
  }
  if (reader.isBad() || irVersion == 0 || !graph)
    return createStringError("not an ONNX model or truncated: expected a "
                             "complete ModelProto with an IR "
                             "version and a graph in its " +
                             llvm::Twine(bytes->size()) + " bytes");
  if (Error error = readGraph(*graph, path, files, model))
    return error;
  return model;
}
