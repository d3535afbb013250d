#include "worker/weights/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "tests/worker/weights/checkpoint_files.h"
#include "worker/weights/load_error.h"

namespace beryl::weights {
namespace {

using testing::HasSubstr;

TensorMap parse(const std::string& bytes) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), "m.safetensors");
}

std::string error_of(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const LoadError& error) {
    return error.what();
  }
  return "no error";
}

struct BadHeader {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* tensor;  // must be named
  const char* found;   // part of the message
};

const std::string kA = R"("a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]})";

const BadHeader kBadHeaders[] = {
    {"no json", "{\"a\":", 0, "header", "JSON"},
    {"not an object", "[1]", 0, "header", "[1]"},
    {"leading space", " {}", 0, "header", "starts with '{'"},
    {"trailing garbage", "{}x", 0, "header", "JSON"},
    {"duplicate tensor", "{" + kA + "," + kA + "}", 8, "\"a\"", "duplicate"},
    {"duplicate metadata", R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__",
     "duplicate"},
    {"metadata of numbers", R"({"__metadata__":{"x":1}})", 0, "__metadata__", "number"},
    {"duplicate field", R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
     "\"a\"", "duplicate"},
    {"field missing", R"({"a":{"dtype":"U8","shape":[1]}})", 1, "\"a\"", "dtype, shape"},
    {"unknown field", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1, "\"a\"",
     "found x"},
    {"nested deeper", R"({"a":{"dtype":{"b":1},"shape":[1],"data_offsets":[0,1]}})", 1, "\"a\"",
     "an object"},
    {"nested arrays", R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "\"a\"",
     "an array"},
    {"negative dimension", R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "\"a\"",
     "negative"},
    {"fraction", R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "\"a\"",
     "fraction"},
    {"dimension of 2^63",
     R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}})", 1, "\"a\"",
     "9223372036854775808"},
    {"overflow", R"({"a":{"dtype":"BF16","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
     0, "\"a\"", "4611686018427387904"},
    {"too many dimensions",
     R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1, "\"a\"",
     "more"},
    {"unknown dtype", R"({"a":{"dtype":"BF17","shape":[1],"data_offsets":[0,2]}})", 2, "\"a\"",
     "BF17"},
    {"offsets reversed", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "\"a\"",
     "[1, 0]"},
    {"one offset", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}})", 1, "\"a\"", "[1]"},
    {"size differs", R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,6]}})", 6, "\"a\"",
     "6 bytes"},
    {"hole", "{" + kA + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})", 10, "\"b\"",
     "hole"},
    {"starts late", R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "\"b\"", "hole"},
    {"overlap", "{" + kA + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})", 10, "\"b\"",
     "overlap"},
    {"truncated", "{" + kA + "}", 7, "\"a\"", "7 bytes"},
    {"trailing data", "{" + kA + "}", 9, "m.safetensors", "found 9"},
    {"huge offsets",
     R"({"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}})",
     1, "\"a\"", "truncated"},
    {"control characters in a name",
     "{\"a\\n\\u0007\":{\"dtype\":\"X\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, "a\\x0a\\x07",
     "found X"},
};

TEST(SafetensorsHeaderTest, RefusesBadHeadersNamingFileAndTensor) {
  for (const BadHeader& bad : kBadHeaders) {
    const std::string message = error_of(CheckpointFiles::safetensors(bad.header, bad.data_bytes));
    EXPECT_THAT(message, HasSubstr("m.safetensors")) << bad.what;
    EXPECT_THAT(message, HasSubstr(bad.tensor)) << bad.what;
    EXPECT_THAT(message, HasSubstr(bad.found)) << bad.what;
    EXPECT_THAT(message, Not(HasSubstr("\n"))) << bad.what;
  }
}

TEST(SafetensorsHeaderTest, RefusesBadLengths) {
  EXPECT_THAT(error_of(""), HasSubstr("found 0"));
  EXPECT_THAT(error_of("1234567"), HasSubstr("found 7"));
  for (const uint64_t length :
       {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    EXPECT_THAT(error_of(bytes + "{}"), HasSubstr(std::to_string(length)));
  }
}

TEST(SafetensorsHeaderTest, RefusesAMisalignedStart) {
  // A header of odd length puts every tensor at an odd address.
  const std::string odd = "{" + kA + std::string(kA.size() % 2 == 0 ? "} " : "}");
  ASSERT_EQ(odd.size() % 2, 1u);
  EXPECT_THAT(error_of(CheckpointFiles::safetensors(odd, 8, 1)), HasSubstr("multiple of 2"));
}

TEST(SafetensorsHeaderTest, NestingIsBoundedBeforeItIsParsed) {
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(error_of(CheckpointFiles::safetensors("{\"a\":" + deep, 0)), HasSubstr("an array"));
}

TEST(SafetensorsHeaderTest, ReadsWhatTheFormatAllows) {
  const TensorMap tensors = parse(CheckpointFiles::safetensors(
      R"({"__metadata__":{"format":"pt"},"s":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
      R"("empty":{"dtype":"BF16","shape":[0,5],"data_offsets":[12,12]},)" +
          kA + "}    ",
      12));
  ASSERT_EQ(tensors.size(), 3u);
  const StoredTensor& a = tensors.at("a");
  EXPECT_EQ(a.dtype, "BF16");
  EXPECT_THAT(a.shape, testing::ElementsAre(2, 2));
  EXPECT_EQ(a.num_bytes, 8u);
  EXPECT_EQ(tensors.at("s").offset, a.offset + 8);
  EXPECT_EQ(tensors.at("empty").num_bytes, 0u);
}

}  // namespace
}  // namespace beryl::weights
