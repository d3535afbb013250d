// Compares with the Hugging Face library and the model's own template as they are now: needs
// BERYL_REFERENCE (the folder of reference results) and a Python with `tokenizers` and `jinja2`
// (BERYL_PYTHON, else python3). Skipped without.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "coordinator/text/template_revision.h"
#include "tests/coordinator/text/chat_cases.h"
#include "tests/coordinator/text/oracle_cases.h"

namespace beryl::text {
namespace {

std::string environment_or(const char* name, const char* fallback) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

class LiveReferenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    reference_ = environment_or("BERYL_REFERENCE", "");
    if (reference_.empty()) GTEST_SKIP() << "BERYL_REFERENCE is not set";
    out_ = std::filesystem::temp_directory_path() / ("beryl_oracle_" + std::to_string(::getpid()));
  }
  void TearDown() override { std::filesystem::remove(out_); }

  std::string tokenizer_path(const std::string& folder) const {
    return reference_ + "/" + folder + "/tokenizer.json";
  }

  static bool has_python() {
    const std::string command =
        environment_or("BERYL_PYTHON", "python3") + " -c 'import tokenizers, jinja2' 2>/dev/null";
    return std::system(command.c_str()) == 0;
  }

  void run_oracle(const std::string& arguments) const {
    const std::string command = environment_or("BERYL_PYTHON", "python3") +
                                " -B " BERYL_SOURCE_DIR "/tests/coordinator/text/oracle/" +
                                arguments;
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }

  void compare_tokenizer(const std::string& folder, const std::string& seed) {
    if (!has_python()) GTEST_SKIP() << "no Python with tokenizers and jinja2";
    run_oracle("tokenizer_oracle.py " + tokenizer_path(folder) + " " + out_ + " " + seed +
               " 24000 " + testing::test_data("text/corpus.txt"));
    const auto tokenizer = testing::load_tokenizer(tokenizer_path(folder));
    ASSERT_TRUE(tokenizer);
    EXPECT_GT(testing::check_oracle_file(*tokenizer, out_), 40000u);
  }

  void compare_chat(const std::string& folder, const std::string& file,
                    const std::string& revision) {
    if (!has_python()) GTEST_SKIP() << "no Python with tokenizers and jinja2";
    run_oracle("chat_oracle.py " + tokenizer_path(folder) + " " + reference_ + "/templates/" +
               file + " " + revision + " " + out_ + " 31 2000");
    const auto tokenizer = testing::load_tokenizer(tokenizer_path(folder));
    ASSERT_TRUE(tokenizer);
    EXPECT_EQ(testing::check_chat_file(*tokenizer, out_), 2000u);
  }

  std::string reference_;
  std::string out_;
};

TEST_F(LiveReferenceTest, TinyTokenizer) {
  compare_tokenizer("tiny", "41");
}
TEST_F(LiveReferenceTest, FullTokenizer) {
  compare_tokenizer("tokenizer", "42");
}

TEST_F(LiveReferenceTest, FullTokenizerAgreesWithRecordedIds) {
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer = testing::load_tokenizer(tokenizer_path("tokenizer"));
  ASSERT_TRUE(tokenizer);
  // The aim is 1 s; the rest allows for a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_GT(testing::check_oracle_file(*tokenizer, testing::test_data("text/tokenizer_full.txt")),
            200u);
  EXPECT_EQ(*tokenizer->encode_with_special("<bos>Hello,"),
            (std::vector<int32_t>{2, 9259, 236764}));
  EXPECT_EQ(*tokenizer->encode_with_special("before <|image|> after"),
            (std::vector<int32_t>{15849, 236743, 258880, 1308}));
}

TEST_F(LiveReferenceTest, JulyTemplateWithTinyTokenizer) {
  compare_chat("tiny", "gemma-4-2026-07-09.jinja", "july");
}
TEST_F(LiveReferenceTest, JulyTemplateWithFullTokenizer) {
  compare_chat("tokenizer", "gemma-4-2026-07-09.jinja", "july");
}
TEST_F(LiveReferenceTest, EarlierTemplateWithTinyTokenizer) {
  compare_chat("tiny", "gemma-4-earlier.jinja", "earlier");
}

TEST_F(LiveReferenceTest, BothTemplatesAreKnown) {
  const std::filesystem::path dir = out_ + "_model";
  std::filesystem::create_directories(dir);
  const std::pair<const char*, TemplateRevision> kFiles[] = {
      {"gemma-4-2026-07-09.jinja", TemplateRevision::kJuly2026},
      {"gemma-4-earlier.jinja", TemplateRevision::kEarlier}};
  for (const auto& [file, revision] : kFiles) {
    std::filesystem::copy_file(reference_ + "/templates/" + file, dir / "chat_template.jinja",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::permissions(dir / "chat_template.jinja", std::filesystem::perms::owner_all);
    const auto check = check_chat_template(dir);
    ASSERT_TRUE(check);
    EXPECT_EQ(check->revision, revision);
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace beryl::text
