#include "deploy/launcher/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "deploy/launcher/process_table.h"
#include "deploy/launcher/runtime_folder.h"

namespace beryl::launcher {
namespace {

ProcessExit wait_for(pid_t pid) {
  for (int i = 0; i < 1000; ++i) {
    for (const ProcessExit& exit : reap_children()) {
      if (exit.pid == pid) return exit;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "process " << pid << " did not end";
  return {};
}

TEST(ProcessTest, ReportsExitStatusAndSignal) {
  const auto exits = start_process({{"sh", "-c", "exit 3"}, {}});
  ASSERT_TRUE(exits);
  EXPECT_EQ(to_text(wait_for(*exits)), "exit status 3");
  const auto dies = start_process({{"sh", "-c", "kill -9 $$"}, {}});
  ASSERT_TRUE(dies);
  EXPECT_EQ(to_text(wait_for(*dies)), "signal 9 (Killed)");
}

TEST(ProcessTest, FailsForAProgramThatDoesNotExist) {
  const auto started = start_process({{"/no/such/program"}, {}});
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message.find("/no/such/program"), std::string::npos);
  EXPECT_TRUE(reap_children().empty());
}

TEST(ProcessTest, PassesTheDescriptorAndTheEnvironment) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const auto started =
      start_process({{"sh", "-c", "printf '%s' \"$COLOUR\" >&3"}, {{"COLOUR", "green"}}}, ends[1]);
  close(ends[1]);
  ASSERT_TRUE(started);
  char text[16] = {};
  EXPECT_EQ(read(ends[0], text, sizeof text), 5);
  EXPECT_STREQ(text, "green");
  close(ends[0]);
  wait_for(*started);
}

TEST(ProcessTest, SignalsTheWholeGroup) {
  const auto started = start_process({{"sh", "-c", "sleep 100 & sleep 100"}, {}});
  ASSERT_TRUE(started);
  EXPECT_EQ(getpgid(*started), *started);
  signal_group(*started, SIGKILL);
  EXPECT_TRUE(wait_for(*started).by_signal);
}

TEST(ProcessTableTest, FindsAndKillsMarkedProcessesEvenStoppedOnes) {
  const std::string mark = random_id();
  const auto started = start_process(
      {{"sh", "-c", "setsid sleep 100 & setsid sleep 100 & sleep 100"}, {{kLaunchVariable, mark}}});
  ASSERT_TRUE(started);
  for (int i = 0; i < 500 && find_marked_processes(kLaunchVariable, mark).size() < 4; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const auto found = find_marked_processes(kLaunchVariable, mark);
  ASSERT_EQ(found.size(), 4U);
  kill(found.back(), SIGSTOP);
  EXPECT_EQ(kill_marked_processes(kLaunchVariable, mark), 4);
  EXPECT_TRUE(find_marked_processes(kLaunchVariable, mark).empty());
  EXPECT_TRUE(find_marked_processes(kLaunchVariable, mark.substr(1)).empty());
  wait_for(*started);
}

TEST(RuntimeFolderTest, KeepsTheSecretPrivateAndCleansUp) {
  std::string path;
  {
    auto folder = RuntimeFolder::create();
    ASSERT_TRUE(folder);
    path = folder->path();
    const auto secret = folder->write_secret();
    ASSERT_TRUE(secret);
    struct stat info {};
    ASSERT_EQ(stat(secret->c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_EQ(info.st_size, 65);
    ASSERT_TRUE(folder->make_job_folder("job"));
    EXPECT_FALSE(folder->make_job_folder("job"));
    folder->remove_job_folder("job");
    EXPECT_FALSE(std::filesystem::exists(path + "/job"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_NE(random_id(), random_id());
}

}  // namespace
}  // namespace beryl::launcher
