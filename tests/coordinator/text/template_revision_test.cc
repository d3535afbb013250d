#include "coordinator/text/template_revision.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace beryl::text {
namespace {

class TemplateRevisionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        std::filesystem::temp_directory_path() / ("beryl_template_" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::filesystem::path dir_;
};

TEST_F(TemplateRevisionTest, AbsentFileIsNoProblem) {
  const auto check = check_chat_template(dir_);
  ASSERT_TRUE(check);
  EXPECT_EQ(check->revision, TemplateRevision::kAbsent);
  EXPECT_EQ(template_warning(*check), "");
}

TEST_F(TemplateRevisionTest, UnknownFileIsWarnedAbout) {
  std::ofstream(dir_ / "chat_template.jinja") << "abc";
  const auto check = check_chat_template(dir_);
  ASSERT_TRUE(check);
  EXPECT_EQ(check->revision, TemplateRevision::kUnknown);
  EXPECT_EQ(check->sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_NE(template_warning(*check).find(check->sha256), std::string::npos);
}

TEST_F(TemplateRevisionTest, HugeFileIsRefused) {
  std::ofstream(dir_ / "chat_template.jinja") << std::string((1 << 20) + 1, ' ');
  EXPECT_FALSE(check_chat_template(dir_));
}

}  // namespace
}  // namespace beryl::text
