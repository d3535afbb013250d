// The launcher with stand-ins for the other programs: shell scripts that tell events, die or hang.
#include "deploy/launcher/launcher.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "deploy/launcher/process_table.h"

namespace beryl::launcher {
namespace {

namespace fs = std::filesystem;

constexpr const char* kListening =
    "echo '{\"event\":\"listening\",\"http_port\":1,\"worker_port\":2}' >&3\n";
// Waits until $STATE/starts has $1 lines: as many workers were started.
constexpr const char* kAwaitStarts =
    "await() { while [ \"$(wc -l < $STATE/starts)\" -lt $1 ]; do sleep 0.01; done; }\n"
    "touch $STATE/starts\n";
constexpr const char* kDrain = "trap 'echo drained >> $STATE/log; exit 0' TERM\n";
constexpr const char* kIdle = "while :; do sleep 0.05; done\n";
constexpr const char* kStopLauncher = "kill -TERM $PPID\n";

std::string ready(int epoch) {
  return "echo '{\"event\":\"group_ready\",\"group\":0,\"epoch\":" + std::to_string(epoch) +
         "}' >&3\n";
}
std::string lost(int epoch) {
  return "echo '{\"event\":\"group_lost\",\"group\":0,\"epoch\":" + std::to_string(epoch) +
         ",\"reason\":\"rank 0 is silent\",\"pids\":[1]}' >&3\n";
}

class LauncherTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/launcher_test_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    state_ = name;
    setenv("STATE", state_.c_str(), 1);
    write_script("worker", std::string("echo $$ >> $STATE/starts\n") + kIdle);
  }
  void TearDown() override {
    EXPECT_EQ(find_marked_processes("STATE", state_), std::vector<pid_t>()) << "left behind";
    fs::remove_all(state_);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  void write_script(const std::string& name, const std::string& body) {
    const std::string path = state_ + "/" + name;
    std::ofstream(path) << "#!/bin/bash\n" << body;
    chmod(path.c_str(), 0755);
  }
  std::string read(const std::string& name) const {
    std::ifstream file(state_ + "/" + name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  size_t num_starts() const {
    const std::string text = read("starts");
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  int run(bool with_mpirun = false) {
    auto folder = RuntimeFolder::create();
    EXPECT_TRUE(folder);
    runtime_path_ = folder->path();
    std::ofstream(state_ + "/folder") << runtime_path_;
    ServeOptions options;
    options.model = "model";
    options.shutdown_timeout = std::chrono::seconds(5);
    Programs programs{"/bin/false", state_ + "/coordinator", state_ + "/worker", ""};
    if (with_mpirun) programs.mpirun = state_ + "/mpirun";
    base::Logger log("beryl");
    return Launcher(options, programs, std::move(*folder), log).run();
  }

  std::string state_;
  std::string runtime_path_;
};

TEST_F(LauncherTest, DrainsTheCoordinatorThenStopsTheWorkers) {
  write_script("coordinator", std::string(kDrain) + kAwaitStarts + kListening + "await 1\n" +
                                  ready(1) + kStopLauncher + kIdle);
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(read("log"), "drained\n");
  EXPECT_EQ(num_starts(), 1U);
  EXPECT_FALSE(fs::exists(runtime_path_));
}

TEST_F(LauncherTest, KillsAndRestartsALostGroupEvenIfItsRankIsStopped) {
  write_script("coordinator", std::string(kDrain) + kAwaitStarts + kListening + "await 1\n" +
                                  ready(1) + "kill -STOP $(head -n 1 $STATE/starts)\n" + lost(1) +
                                  "await 2\n" + ready(2) + kStopLauncher + kIdle);
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(num_starts(), 2U);
}

TEST_F(LauncherTest, RestartsAJobThatDies) {
  write_script("coordinator", std::string(kDrain) + kAwaitStarts + kListening + "await 1\n" +
                                  ready(1) + "kill -9 $(head -n 1 $STATE/starts)\nawait 2\n" +
                                  kStopLauncher + kIdle);
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(num_starts(), 2U);
}

TEST_F(LauncherTest, RestartsAJobWhoseDeviceFailed) {
  // The worker's exit code for it, once it was ready.
  write_script("worker", std::string("echo $$ >> $STATE/starts\n"
                                     "trap 'exit 4' USR1\n") +
                             kIdle);
  write_script("coordinator", std::string(kDrain) + kAwaitStarts + kListening + "await 1\n" +
                                  ready(1) + "kill -USR1 $(head -n 1 $STATE/starts)\nawait 2\n" +
                                  ready(2) + kStopLauncher + kIdle);
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(num_starts(), 2U);
}

TEST_F(LauncherTest, FindsRanksThatOutliveTheirMpirun) {
  // The rank leaves mpirun's process group and ignores polite signals, as a hung one does.
  write_script("mpirun",
               "setsid bash -c \"trap '' TERM; while :; do sleep 1; done\" &\n"
               "echo $$ >> $STATE/starts\nwait\n");
  write_script("coordinator", std::string(kDrain) + kAwaitStarts + kListening + "await 1\n" +
                                  ready(1) + "kill -9 $(head -n 1 $STATE/starts)\nawait 2\n" +
                                  kStopLauncher + kIdle);
  EXPECT_EQ(run(true), 0);
  EXPECT_EQ(num_starts(), 2U);
}

TEST_F(LauncherTest, GivesUpOnAGroupThatNeverBecomesReady) {
  write_script("worker", "echo $$ >> $STATE/starts\nexit 1\n");
  write_script("coordinator", std::string(kDrain) + kListening + kIdle);
  EXPECT_EQ(run(), EXIT_FAILURE);
  EXPECT_EQ(num_starts(), RestartPolicy().max_failed_starts);
  EXPECT_EQ(read("log"), "drained\n");
}

TEST_F(LauncherTest, EndsWhenTheCoordinatorDies) {
  write_script("coordinator",
               std::string(kAwaitStarts) + kListening + "await 1\n" + ready(1) + "exit 4\n");
  EXPECT_EQ(run(), EXIT_FAILURE);
}

TEST_F(LauncherTest, EndsWhenTheCoordinatorCannotStart) {
  write_script("coordinator", "exit 1\n");
  EXPECT_EQ(run(), EXIT_FAILURE);
  EXPECT_EQ(num_starts(), 0U);
}

TEST_F(LauncherTest, SecondSignalEndsAtOnce) {
  write_script("coordinator",
               std::string("trap 'kill -TERM $PPID' TERM\n") + kListening + kStopLauncher + kIdle);
  EXPECT_EQ(run(), 128 + SIGTERM);
}

TEST_F(LauncherTest, ItsChildrenDieWithIt) {
  write_script("coordinator", std::string(kListening) + kIdle);
  const pid_t launcher = fork();
  if (launcher == 0) {
    setpgid(0, 0);
    _exit(run());
  }
  ASSERT_GT(launcher, 0);
  for (int i = 0; i < 500 && num_starts() == 0; ++i) usleep(10'000);
  ASSERT_EQ(num_starts(), 1U);
  kill(launcher, SIGKILL);
  waitpid(launcher, nullptr, 0);
  for (int i = 0; i < 500 && !find_marked_processes("STATE", state_).empty(); ++i) usleep(10'000);
  // TearDown finds what is left. The folder in memory cannot be removed by a killed launcher.
  fs::remove_all(read("folder"));
}

TEST_F(LauncherTest, SurvivesNonsenseFromTheCoordinator) {
  write_script("coordinator",
               std::string(kDrain) + kAwaitStarts + "echo nonsense >&3\n" +
                   "echo '{\"event\":\"group_ready\",\"group\":9,\"epoch\":1}' >&3\n" + kListening +
                   kListening + "await 1\n" +
                   "echo '{\"event\":\"group_lost\",\"group\":9,\"epoch\":1}' >&3\n" + ready(1) +
                   kStopLauncher + kIdle);
  EXPECT_EQ(run(), 0);
  EXPECT_EQ(num_starts(), 1U);
}

}  // namespace
}  // namespace beryl::launcher
