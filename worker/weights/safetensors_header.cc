#include "worker/weights/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "parallel/base/printable.h"
#include "worker/weights/load_error.h"

namespace beryl::weights {

using base::printable;
using nlohmann::json;

namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kDataAlignment = 2;  // of bfloat16, which is read where it is mapped
constexpr std::string_view kMetadataKey = "__metadata__";

std::optional<size_t> element_bytes(std::string_view dtype) {
  constexpr std::array<std::pair<std::string_view, size_t>, 14> kTypes = {{{"F64", 8},
                                                                           {"F32", 4},
                                                                           {"F16", 2},
                                                                           {"BF16", 2},
                                                                           {"I64", 8},
                                                                           {"I32", 4},
                                                                           {"I16", 2},
                                                                           {"I8", 1},
                                                                           {"U64", 8},
                                                                           {"U32", 4},
                                                                           {"U16", 2},
                                                                           {"U8", 1},
                                                                           {"BOOL", 1},
                                                                           {"F8_E4M3", 1}}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

// Follows the fixed structure of the header: an object of objects, whose members are a string, an
// array of counts and a pair of offsets. Its own reader because a DOM silently drops duplicates.
class HeaderHandler : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(const std::string& file) : file_(file) {}

  TensorMap take() { return std::move(tensors_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 2 || !in_array_) return unexpected("a number");
    const bool is_shape = field_ == "shape";
    const size_t limit = is_shape ? kMaxHeaderDims : 2;
    if (numbers_.size() == limit) {
      fail(name_, fmt::format("{} with at most {} numbers", field_, limit), "more");
    }
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max())) {
      fail(name_, fmt::format("{} below 2^63", field_), std::to_string(value));
    }
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (in_metadata_ && depth_ == 2) return true;
    if (depth_ != 2 || in_array_ || field_ != "dtype") return unexpected("a string");
    tensor_.dtype = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_array_ || depth_ == 2) return unexpected("an object");
    ++depth_;
    seen_fields_.clear();
    tensor_ = {};
    return true;
  }

  bool key(string_t& value) override {
    if (depth_ == 1) {
      name_ = value;
      in_metadata_ = name_ == kMetadataKey;
      const bool is_new =
          in_metadata_ ? !std::exchange(has_metadata_, true) : !tensors_.contains(name_);
      if (!is_new) fail(name_, "each name once", "a duplicate key");
      if (tensors_.size() == kMaxTensorsPerFile) {
        fail(name_, fmt::format("at most {} tensors", kMaxTensorsPerFile), "more");
      }
      return true;
    }
    field_ = value;
    if (in_metadata_) return true;
    if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") {
      fail(name_, "only dtype, shape and data_offsets", printable(field_));
    }
    if (std::find(seen_fields_.begin(), seen_fields_.end(), field_) != seen_fields_.end()) {
      fail(name_, fmt::format("{} once", field_), "a duplicate key");
    }
    seen_fields_.push_back(field_);
    return true;
  }

  bool end_object() override {
    if (depth_ == 2 && !in_metadata_) {
      if (seen_fields_.size() != 3) {
        fail(name_, "dtype, shape and data_offsets",
             fmt::format("{}", fmt::join(seen_fields_, ", ")));
      }
      tensors_.emplace(name_, std::move(tensor_));
    }
    --depth_;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_array_ || in_metadata_ || field_ == "dtype")
      return unexpected("an array");
    in_array_ = true;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    if (field_ == "shape") {
      tensor_.shape = numbers_;
      return true;
    }
    if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) {
      fail(name_, "data_offsets [begin, end] with begin <= end",
           fmt::format("[{}]", fmt::join(numbers_, ", ")));
    }
    tensor_.offset = static_cast<size_t>(numbers_[0]);
    tensor_.num_bytes = static_cast<size_t>(numbers_[1] - numbers_[0]);
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    throw LoadError(fmt::format("{}: header: expected JSON, found \"{}\" at byte {}", file_,
                                printable(token), position));
  }

 private:
  bool unexpected(std::string_view found) {
    fail(name_, in_metadata_ ? "text in __metadata__" : "{name: {dtype, shape, data_offsets}}",
         found);
  }

  [[noreturn]] void fail(std::string_view tensor, std::string_view expected,
                         std::string_view found) const {
    throw LoadError(fmt::format("{}: tensor \"{}\": expected {}, found {}", file_,
                                printable(tensor), expected, found));
  }

  const std::string& file_;
  TensorMap tensors_;
  int depth_ = 0;  // 1: names, 2: fields of a tensor
  bool in_array_ = false;
  bool in_metadata_ = false;
  bool has_metadata_ = false;
  std::string name_;
  std::string field_;
  std::vector<std::string> seen_fields_;
  std::vector<int64_t> numbers_;
  StoredTensor tensor_;
};

// The size that dtype and shape give; throws where it does not fit or differs from the range.
void check_size(const std::string& file, const std::string& name, const StoredTensor& tensor) {
  const auto fail = [&](const std::string& expected, const std::string& found) {
    throw LoadError(fmt::format("{}: tensor \"{}\": expected {}, found {}", file, printable(name),
                                expected, found));
  };
  const std::optional<size_t> bytes = element_bytes(tensor.dtype);
  if (!bytes) fail("a known dtype", printable(tensor.dtype));
  size_t total = *bytes;
  for (const int64_t dim : tensor.shape) {
    if (__builtin_mul_overflow(total, static_cast<size_t>(dim), &total)) {
      fail("a size below 2^64 bytes", describe(tensor.dtype, tensor.shape));
    }
  }
  if (total != tensor.num_bytes) {
    fail(fmt::format("{} bytes for {}", total, describe(tensor.dtype, tensor.shape)),
         fmt::format("{} bytes in data_offsets", tensor.num_bytes));
  }
  if (*bytes > 1 && tensor.offset % kDataAlignment != 0) {
    fail(fmt::format("a start that is a multiple of {} bytes", kDataAlignment),
         fmt::format("byte {} of the file", tensor.offset));
  }
}

// Ranges in order must touch each other and end with the file. Offsets are still data offsets.
void check_coverage(const std::string& file, const TensorMap& tensors, size_t data_bytes) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.offset, a->second.num_bytes) <
           std::pair(b->second.offset, b->second.num_bytes);
  });
  size_t end = 0;
  for (const auto* entry : order) {
    const StoredTensor& tensor = entry->second;
    const char* problem = tensor.offset < end ? " (overlap)" : tensor.offset > end ? " (hole)" : "";
    if (*problem != '\0') {
      throw LoadError(fmt::format("{}: tensor \"{}\": expected data to start at {}, found {}{}",
                                  file, printable(entry->first), end, tensor.offset, problem));
    }
    end += tensor.num_bytes;
    if (end > data_bytes) {
      throw LoadError(fmt::format(
          "{}: tensor \"{}\": expected data up to byte {}, found {} bytes (file truncated?)", file,
          printable(entry->first), end, data_bytes));
    }
  }
  if (end != data_bytes) {
    throw LoadError(fmt::format("{}: expected {} bytes of data after the header, found {}", file,
                                end, data_bytes));
  }
}

}  // namespace

TensorMap parse_safetensors_header(std::span<const std::byte> file_bytes, size_t file_size,
                                   const std::string& file) {
  if (file_size < kLengthBytes || file_bytes.size() < kLengthBytes) {
    throw LoadError(fmt::format("{}: header: expected at least {} bytes, found {}", file,
                                kLengthBytes, file_size));
  }
  uint64_t length = 0;
  std::memcpy(&length, file_bytes.data(), kLengthBytes);
  const size_t limit = std::min(kMaxHeaderBytes, file_bytes.size() - kLengthBytes);
  if (length > limit) {
    throw LoadError(fmt::format("{}: header: expected a length of at most {} bytes, found {}", file,
                                limit, length));
  }
  const std::string_view text(reinterpret_cast<const char*>(file_bytes.data()) + kLengthBytes,
                              static_cast<size_t>(length));
  if (text.empty() || text.front() != '{') {
    throw LoadError(fmt::format("{}: header: expected JSON that starts with '{{', found \"{}\"",
                                file, printable(text.substr(0, 8))));
  }
  HeaderHandler handler(file);
  json::sax_parse(text, &handler);
  TensorMap tensors = handler.take();

  const size_t data_begin = kLengthBytes + static_cast<size_t>(length);
  check_coverage(file, tensors, file_size - data_begin);
  for (auto& [name, tensor] : tensors) {
    tensor.offset += data_begin;
    check_size(file, name, tensor);
  }
  return tensors;
}

std::string describe(std::string_view dtype, std::span<const int64_t> shape) {
  return fmt::format("{} [{}]", printable(dtype), fmt::join(shape, ", "));
}

}  // namespace beryl::weights
