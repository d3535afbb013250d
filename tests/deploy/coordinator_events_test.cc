#include "deploy/launcher/coordinator_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace beryl::launcher {
namespace {

using testing::ElementsAre;

TEST(CoordinatorEventsTest, ReadsEachKind) {
  const auto listening = parse_event(R"({"event":"listening","http_port":8000,"worker_port":9})");
  ASSERT_TRUE(listening);
  EXPECT_EQ(std::get<ListeningEvent>(*listening).http_port, 8000);
  EXPECT_EQ(std::get<ListeningEvent>(*listening).worker_port, 9);

  const auto ready = parse_event(R"({"event":"group_ready","group":1,"epoch":7})");
  ASSERT_TRUE(ready);
  EXPECT_EQ(std::get<GroupReadyEvent>(*ready).group, 1U);
  EXPECT_EQ(std::get<GroupReadyEvent>(*ready).epoch, 7U);

  const auto lost = parse_event(
      R"({"event":"group_lost","group":0,"epoch":7,"reason":"rank 1 is silent","pids":[10,11]})");
  ASSERT_TRUE(lost);
  EXPECT_EQ(std::get<GroupLostEvent>(*lost).reason, "rank 1 is silent");
  EXPECT_THAT(std::get<GroupLostEvent>(*lost).pids, ElementsAre(10, 11));
}

TEST(CoordinatorEventsTest, AcceptsKindsOfLaterVersions) {
  const auto event = parse_event(R"({"event":"weather","sun":true})");
  ASSERT_TRUE(event);
  EXPECT_EQ(std::get<UnknownEvent>(*event).name, "weather");
}

TEST(CoordinatorEventsTest, RefusesWhatIsNoEvent) {
  for (const char* line :
       {"", "{", "[]", "1", "null", "{}", R"({"event":3})", R"({"event":"listening"})",
        R"({"event":"listening","http_port":-1,"worker_port":2})",
        R"({"event":"listening","http_port":70000,"worker_port":2})"}) {
    EXPECT_FALSE(parse_event(line)) << line;
  }
}

TEST(LineBufferTest, JoinsPartsAndCutsLines) {
  LineBuffer lines;
  EXPECT_THAT(lines.append("ab"), ElementsAre());
  EXPECT_THAT(lines.append("c\n\nd"), ElementsAre("abc", ""));
  EXPECT_THAT(lines.append("\n"), ElementsAre("d"));
}

TEST(LineBufferTest, DropsALineThatIsTooLong) {
  LineBuffer lines;
  const std::string part(kMaxEventLineBytes, 'x');
  EXPECT_THAT(lines.append(part), ElementsAre());
  EXPECT_THAT(lines.append(part), ElementsAre());
  EXPECT_THAT(lines.append("x\nshort\n"), ElementsAre("short"));
}

}  // namespace
}  // namespace beryl::launcher
