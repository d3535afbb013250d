"""A server of real processes (`beryl serve`) for one test, with its log, its processes and its end."""

import dataclasses
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid

# Set for the launcher, inherited by everything below it: what is left at the end is found by it.
MARK = "BERYL_TEST_MARK"
READY_DEADLINE_S = 120
STOP_DEADLINE_S = 60


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    name: str  # of the program
    rank: int  # -1: not a rank of MPI


class ServerUnderTest:
    """with ServerUnderTest(bin, model, ["--workers", "2"]) as server: ..."""

    def __init__(self, bin_folder, model, arguments=()):
        self.mark = uuid.uuid4().hex
        self.url = None
        self.log = []  # (time.monotonic(), line) of stdout and stderr together
        self._log_changed = threading.Condition()
        # Worker output goes to the same pipe; a file too, for the report of a failure.
        self.log_file = tempfile.NamedTemporaryFile(
            "w", prefix="beryl_cluster_test_", suffix=".log", delete=False)
        command = [os.path.join(bin_folder, "beryl"), "serve", model, "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, MARK: self.mark}, start_new_session=True)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self):
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self.log_file.write(line + "\n")
            self.log_file.flush()
            with self._log_changed:
                self.log.append((time.monotonic(), line))
                self._log_changed.notify_all()

    def __enter__(self):
        try:
            line = self.wait_for_log(r"Beryl is ready: (\S+)/v1", READY_DEADLINE_S)[1]
            self.url = re.search(r"(http://\S+)/v1", line).group(1)
        except BaseException:
            self._print_log()
            self._kill()
            raise
        return self

    def __exit__(self, failure, *_):
        if failure is not None:
            self._print_log()
            self._kill()
            return
        self.stop()

    def wait_for_log(self, pattern, deadline_s, after=0.0):
        """(time, line) of the first line after the time `after` that matches."""
        end = time.monotonic() + deadline_s
        checked = 0
        while True:
            with self._log_changed:
                for entry in self.log[checked:]:
                    if entry[0] > after and re.search(pattern, entry[1]):
                        return entry
                checked = len(self.log)
                ended = self.process.poll() is not None and not self._reader.is_alive()
                left = end - time.monotonic()
                if ended or left <= 0:
                    why = "the server ended" if ended else f"{deadline_s} s passed"
                    raise AssertionError(f"{why} without a log line like {pattern!r}")
                self._log_changed.wait(min(left, 0.2))

    def processes(self):
        """Everything that belongs to the server and lives."""
        entry = f"{MARK}={self.mark}".encode()
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    environment = file.read().split(b"\0")
                if entry not in environment:
                    continue
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    program = os.path.basename(file.read().split(b"\0")[0].decode())
            except OSError:
                continue
            ranks = [e[21:] for e in environment if e.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found.append(Process(int(name), program, int(ranks[0]) if ranks else -1))
        return found

    def worker(self, rank):
        [pid] = [p.pid for p in self.processes() if p.name == "beryl-worker" and p.rank == rank]
        return pid

    def mpirun(self):
        [pid] = [p.pid for p in self.processes() if p.name in ("mpirun", "orterun")]
        return pid

    def resident_bytes(self):
        """Sum over all processes; pages that processes share count in equal parts."""
        total = 0
        for process in self.processes():
            try:
                with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
                    total += int(re.search(r"(?m)^Pss:\s+(\d+) kB", file.read()).group(1)) * 1024
            except (OSError, AttributeError):
                pass
        return total

    def metrics(self):
        """name{labels} -> value"""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as response:
            text = response.read().decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def metric(self, name):
        """The sum over all label sets of `name`."""
        values = [v for k, v in self.metrics().items() if k.split("{")[0] == name]
        assert values, f"no metric {name}"
        return sum(values)

    def wait_until_idle(self, deadline_s=10):
        """No request runs or waits, and every block is back."""
        end = time.monotonic() + deadline_s
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting",
                 "vllm:kv_cache_usage_perc")
        while True:
            values = {name: self.metric(name) for name in names}
            if not any(values.values()):
                return
            if time.monotonic() > end:
                raise AssertionError(f"not idle after {deadline_s} s: {values}")
            time.sleep(0.05)

    def stop(self):
        """A polite end: exit code 0 and no process left."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._print_log()
            self._kill()
            raise AssertionError(f"the server did not stop within {STOP_DEADLINE_S} s") from None
        left = self.processes()
        self._kill()
        if code != 0 or left:
            self._print_log()
        assert code == 0, f"the server ended with {code}"
        assert not left, f"processes left behind: {left}"
        os.unlink(self.log_file.name)

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _print_log(self):
        print(f"--- server log ({self.log_file.name}), last 80 lines")
        for _, line in self.log[-80:]:
            print("   ", line)
