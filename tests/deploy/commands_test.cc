#include "deploy/launcher/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deploy/launcher/banner.h"

namespace beryl::launcher {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

const Programs kPrograms{"/bin/beryl", "/bin/beryl-coordinator", "/bin/beryl-worker",
                         "/bin/mpirun"};
const Job kJob{3, "launch", "127.0.0.1:9", "/run/secret", "/run/job"};

ParsedCommandLine parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"beryl", "serve"});
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

TEST(OptionsTest, ReadsWhatWasGiven) {
  const auto parsed = parse({"models/gemma", "--workers", "4", "--groups", "2", "--port", "0",
                             "--served-model-name", "a", "b", "--seed", "7"});
  ASSERT_EQ(parsed.action, ParsedCommandLine::kServe);
  EXPECT_EQ(parsed.serve.model, "models/gemma");
  EXPECT_EQ(parsed.serve.workers, 4U);
  EXPECT_EQ(parsed.serve.groups, 2U);
  EXPECT_EQ(parsed.serve.port, 0);
  EXPECT_THAT(parsed.serve.served_model_names, testing::ElementsAre("a", "b"));
  EXPECT_THAT(parsed.serve.forwarded, testing::ElementsAre(testing::Pair("seed", "7")));
}

TEST(OptionsTest, RefusesWhatCannotBe) {
  for (const std::vector<const char*>& bad : {std::vector<const char*>{},
                                              {"m", "--workers", "0"},
                                              {"m", "--workers", "x"},
                                              {"m", "--port", "70000"},
                                              {"m", "--no-such-flag"},
                                              {"m", "--log-level", "loud"}}) {
    const auto parsed = parse(bad);
    EXPECT_EQ(parsed.action, ParsedCommandLine::kExit);
    EXPECT_EQ(parsed.exit_code, 2);
  }
}

TEST(OptionsTest, ADeviceIsAssumedForADryRunOnly) {
  EXPECT_EQ(parse({"m", "--device-memory", "80GB"}).exit_code, 2);
  const auto parsed = parse({"m", "--dry-run", "--device-memory", "80GB", "--device", "cuda",
                             "--gpu-memory-utilization", "0.9", "--workers", "2"});
  ASSERT_EQ(parsed.action, ParsedCommandLine::kServe);
  EXPECT_TRUE(parsed.serve.dry_run);
  EXPECT_THAT(dry_run_command(parsed.serve, kPrograms).arguments,
              testing::IsSupersetOf({"/bin/beryl-worker", "m", "--dry-run", "--ranks-as-threads",
                                     "2", "--device-memory", "80GB", "--device", "cuda",
                                     "--gpu-memory-utilization", "0.9"}));
}

TEST(CommandsTest, NoSecretAndNoKeyIsEverAnArgument) {
  const auto parsed = parse({"m", "--api-key", "KEY1", "--api-key", "KEY2"});
  const Command command = coordinator_command(parsed.serve, kPrograms, "/run/secret");
  EXPECT_THAT(to_text(command),
              AllOf(HasSubstr("--secret-file /run/secret"), Not(HasSubstr("KEY"))));
  EXPECT_THAT(command.environment, Contains(testing::Pair("BERYL_API_KEY", "KEY1,KEY2")));
}

TEST(CommandsTest, AJobIsMpirunWithOneProcessARank) {
  const auto parsed = parse({"m", "--workers", "2", "--load-format", "dummy"});
  const Command command = job_command(parsed.serve, kPrograms, kJob);
  EXPECT_THAT(to_text(command),
              AllOf(HasSubstr("/bin/mpirun --allow-run-as-root --oversubscribe --bind-to none"),
                    HasSubstr("-n 2 /bin/beryl tied-exec /bin/beryl-worker m"),
                    HasSubstr("--coordinator 127.0.0.1:9 --group 3 --launch-id launch"),
                    HasSubstr("--load-format dummy")));
  EXPECT_THAT(command.environment, Contains(testing::Pair("BERYL_LAUNCH_ID", "launch")));
}

TEST(CommandsTest, WithoutMpiTheOnlyRankIsStartedDirectly) {
  Programs programs = kPrograms;
  programs.mpirun.clear();
  const Command command = job_command(parse({"m"}).serve, programs, kJob);
  EXPECT_EQ(command.arguments.front(), "/bin/beryl-worker");
}

TEST(CommandsTest, QuotesForPeople) {
  EXPECT_EQ(to_text(Command{{"a", "b c", ""}, {}}), "a 'b c' ''");
}

TEST(BannerTest, ShowsAnAddressThatCanBeDialled) {
  EXPECT_EQ(url("0.0.0.0", 80), "http://127.0.0.1:80");
  EXPECT_EQ(url("::", 80), "http://[::1]:80");
  EXPECT_EQ(url("10.1.2.3", 80), "http://10.1.2.3:80");
  EXPECT_THAT(ready_banner("http://h:1", "tiny", true),
              AllOf(HasSubstr("http://h:1/v1"), HasSubstr("tiny"), HasSubstr("Authorization")));
}

TEST(ModelNameTest, IsTheFirstServedNameOrTheFolders) {
  ServeOptions options;
  options.model = "/models/gemma/";
  EXPECT_EQ(model_name(options), "gemma");
  options.served_model_names = {"x", "y"};
  EXPECT_EQ(model_name(options), "x");
}

}  // namespace
}  // namespace beryl::launcher
