#include "worker/weights/checkpoint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/worker/weights/checkpoint_files.h"
#include "worker/weights/load_error.h"
#include "worker/weights/tensor_list.h"

namespace beryl::weights {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

// One BF16 tensor of two elements per letter.
std::string header(const std::string& names) {
  std::vector<std::string> entries;
  for (size_t i = 0; i < names.size(); ++i) {
    entries.push_back(fmt::format(R"("{}":{{"dtype":"BF16","shape":[2],"data_offsets":[{},{}]}})",
                                  names[i], 4 * i, 4 * i + 4));
  }
  const std::string text = fmt::format("{{{}}}", fmt::join(entries, ","));
  return fmt::format("{:<{}}", text, (text.size() + 7) / 8 * 8);
}

std::string open_error(const CheckpointFiles& files) {
  try {
    Checkpoint::open(files.path());
  } catch (const LoadError& error) {
    return error.what();
  }
  return "no error";
}

class ShardsTest : public testing::Test {
 protected:
  void SetUp() override {
    files_.write_safetensors("one.safetensors", header("ab"), 8);
    files_.write_safetensors("two.safetensors", header("c"), 4);
  }
  void index(const std::string& weight_map) {
    files_.write(kIndex, R"({"metadata":{"total_size":12},"weight_map":)" + weight_map + "}");
  }
  CheckpointFiles files_{"shards"};
};

TEST_F(ShardsTest, FindsEveryTensorInItsShard) {
  index(R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(files_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
  const FoundTensor b = checkpoint.find("b");
  ASSERT_NE(b.file, nullptr);
  EXPECT_EQ(b.file->path().filename(), "one.safetensors");
  EXPECT_EQ(b.data()[0], std::byte{4});
  EXPECT_EQ(checkpoint.find("d").file, nullptr);
}

TEST_F(ShardsTest, RefusesAnIndexThatDoesNotFit) {
  const struct {
    const char* map;
    const char* tensor;
    const char* found;
  } kBad[] = {
      {R"({"a":"one.safetensors","b":"one.safetensors","c":"three.safetensors"})",
       "three.safetensors", "No such file"},
      {R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})", "\"b\"",
       "found in one.safetensors"},
      {R"({"a":"one.safetensors","c":"two.safetensors"})", "\"b\"", "expected in no shard"},
      {R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors","d":"two.safetensors"})",
       "\"d\"", "found none"},
      {R"({"a":"one.safetensors","a":"one.safetensors","b":"one.safetensors"})", "\"a\"",
       "duplicate"},
      {R"({"a":"../one.safetensors"})", "\"a\"", "plain file name"},
      {R"({"a":"/etc/passwd"})", "\"a\"", "plain file name"},
      {R"({"a":"x\\y"})", "\"a\"", "plain file name"},
      {R"({"a":"x\u0000y"})", "\"a\"", "plain file name"},
      {R"({"a":""})", "\"a\"", "plain file name"},
      {R"({"a":1})", "\"a\"", "number"},
      {R"([])", "index.json", "weight_map"},
  };
  for (const auto& bad : kBad) {
    index(bad.map);
    EXPECT_THAT(open_error(files_), AllOf(HasSubstr(bad.tensor), HasSubstr(bad.found))) << bad.map;
  }
  files_.write(kIndex, "{");
  EXPECT_THAT(open_error(files_), AllOf(HasSubstr(kIndex), HasSubstr("found no object")));
}

TEST_F(ShardsTest, RefusesATruncatedShard) {
  index(R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"})");
  const auto path = files_.path() / "one.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(open_error(files_),
              AllOf(HasSubstr("one.safetensors"), HasSubstr("\"b\""), HasSubstr("truncated")));
  std::filesystem::resize_file(path, 0);
  EXPECT_THAT(open_error(files_), AllOf(HasSubstr("one.safetensors"), HasSubstr("found 0")));
}

TEST(CheckpointTest, AnEmptyDirectoryNamesWhatIsMissing) {
  const CheckpointFiles files("empty");
  EXPECT_THAT(open_error(files), HasSubstr("expected model.safetensors"));
}

TEST(CheckpointTest, ADirectoryInPlaceOfAFileIsRefused) {
  const CheckpointFiles files("directory");
  std::filesystem::create_directory(files.path() / "model.safetensors");
  EXPECT_THAT(open_error(files), HasSubstr("regular file"));
}

std::string check_error(const Checkpoint& checkpoint, const std::vector<TensorSpec>& expected) {
  try {
    check_checkpoint(checkpoint, expected);
  } catch (const LoadError& error) {
    return error.what();
  }
  return "no error";
}

TEST(CheckpointTest, TensorsMustHaveTheExpectedTypeAndShape) {
  const CheckpointFiles files("shapes");
  files.write_safetensors("model.safetensors",
                          R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},)"
                          R"("f":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}  )",
                          12);
  const Checkpoint checkpoint = Checkpoint::open(files.path());
  EXPECT_EQ(check_error(checkpoint, {{"a", {2}}}), "no error");
  EXPECT_THAT(check_error(checkpoint, {{"a", {2, 1}}}),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("\"a\""),
                    HasSubstr("expected BF16 [2, 1], found BF16 [2]")));
  EXPECT_THAT(check_error(checkpoint, {{"f", {2}}}), HasSubstr("expected BF16 [2], found F32 [2]"));
  EXPECT_THAT(check_error(checkpoint, {{"gone", {7}}}),
              AllOf(HasSubstr("\"gone\""), HasSubstr("BF16 [7], found none")));
}

TEST(CheckpointTest, UnknownTensorsOfTheTextModelAreRefused) {
  const CheckpointFiles files("unknown");
  files.write_safetensors(
      "model.safetensors",
      R"({"model.language_model.extra.weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}} )",
      4);
  EXPECT_THAT(check_error(Checkpoint::open(files.path()), {}),
              AllOf(HasSubstr("extra.weight"), HasSubstr("expected no such tensor")));
}

TEST(CheckpointTest, UnknownTensorsOfTheVisionTowerAreRefusedWhereThereIsOne) {
  const CheckpointFiles files("unknown_vision");
  files.write_safetensors(
      "model.safetensors",
      R"({"model.vision_tower.std_bias":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},)"
      R"("model.vision_tower.input_max":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}} )",
      8);
  const Checkpoint checkpoint = Checkpoint::open(files.path());
  EXPECT_EQ(check_error(checkpoint, {}), "no error");
  EXPECT_THAT(check_error(checkpoint, {{"model.vision_tower.std_bias", {2}}}),
              AllOf(HasSubstr("input_max"), HasSubstr("expected no such tensor")));
}

}  // namespace
}  // namespace beryl::weights
