"""The supervisor, with real child processes and short intervals."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.dev.process import ProcessId

ROOT = Path(__file__).resolve().parents[2]

RUNNER = """
import sys
from pathlib import Path
from deploy.dev.supervisor import Policy, Supervisor
folder = Path(sys.argv[1])
policy = Policy(first_delay=0.05, longest_delay=0.4, healthy_after=2, immediate=1.5, stop_grace=1, broker_poll=0.05)
up, log = (folder / "up").exists, folder / "w.log"
sys.exit(Supervisor(sys.argv[2:], broker_up=up, name="w", log=log, policy=policy).run())
"""

#: Notes each start and then does what the first line of the file "plan" says; the line is used up.
WORKER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
with (folder / "starts").open("a") as starts:
    starts.write(f"{os.getpid()} {time.monotonic()}\\n")
plan = (folder / "plan").read_text().splitlines() or ["0"]
(folder / "plan").write_text("\\n".join(plan[1:]) or plan[0])
print("doing", plan[0], flush=True)
for word in plan[0].split():
    if word == "up-":
        (folder / "up").unlink()
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word == "polite":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    elif word.startswith("sleep"):
        time.sleep(float(word[5:]))
    else:
        sys.exit(int(word))
"""


class Supervised:
    """A supervisor process over a worker that follows a plan, one line a start."""

    def __init__(self, folder: Path, *plan: str, up: bool = True) -> None:
        self.folder = folder
        (folder / "plan").write_text("\n".join(plan))
        (folder / "worker.py").write_text(WORKER)
        if up:
            (folder / "up").touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(folder), sys.executable, str(folder / "worker.py"), str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def starts(self) -> list[tuple[int, float]]:
        path = self.folder / "starts"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(pid), float(at)) for pid, at in rows]

    def wait_for_starts(self, count: int) -> None:
        deadline = time.monotonic() + 15
        while len(self.starts()) < count:
            assert time.monotonic() < deadline, f"{len(self.starts())} starts instead of {count}"
            time.sleep(0.02)

    def wait_for_log(self, text: str) -> None:
        deadline = time.monotonic() + 15
        while text not in ((self.folder / "w.log").read_text() if (self.folder / "w.log").exists() else ""):
            assert time.monotonic() < deadline, f"{text!r} was never said"
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


def test_a_worker_that_ends_well_is_not_started_again(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "0")
    assert supervised.end()[0] == 0
    assert len(supervised.starts()) == 1


def test_a_killed_worker_is_started_again_with_a_growing_back_off(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "kill", "3", "kill", "0")
    code, output = supervised.end()
    assert code == 0
    assert re.findall(r"again in (\S+) s", output) == ["0.05", "0.1", "0.2"]
    times = [at for _, at in supervised.starts()]
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(times))
    assert times[3] - times[2] >= 0.2
    assert "w was ended by SIGKILL" in output
    assert "w ended with code 3" in output


def test_it_gives_up_loudly_after_five_immediate_failures(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "7")
    code, output = supervised.end()
    assert code == 70
    assert len(supervised.starts()) == 5
    assert "given up" in output
    assert "doing 7" in output, "the end of the worker's log belongs to the message"


def test_failures_apart_are_not_given_up(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, *["1"] * 4, "sleep1.6 1", *["1"] * 4, "0")
    assert supervised.end()[0] == 0
    assert len(supervised.starts()) == 10


def test_health_forgets_the_back_off(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "1", "1", "1", "sleep2.1 1", "0")
    code, output = supervised.end()
    assert code == 0
    assert re.findall(r"again in (\S+) s", output) == ["0.05", "0.1", "0.2", "0.05"]


def test_a_missing_broker_is_waited_for_and_is_no_failure(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, *["up- 1"] * 8, "0", up=False)
    for count in range(1, 10):
        time.sleep(0.15)
        assert len(supervised.starts()) == count - 1
        (tmp_path / "up").touch()
        supervised.wait_for_starts(count)
    code, output = supervised.end()
    assert code == 0
    assert "waits for the broker" in output
    assert "given up" not in output


def test_a_stop_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "polite sleep30")
    supervised.wait_for_log("doing")
    time.sleep(0.1)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.end()[0] == 0
    assert len(supervised.starts()) == 1


def test_a_worker_deaf_to_the_stop_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "deaf sleep30")
    supervised.wait_for_log("doing")
    time.sleep(0.1)
    began = time.monotonic()
    supervised.process.send_signal(signal.SIGTERM)
    code, output = supervised.end()
    assert code == 128 + signal.SIGKILL
    assert 0.9 < time.monotonic() - began < 5
    assert "did not end in time" in output


@pytest.mark.parametrize("up", [True, False])
def test_a_stop_while_waiting_ends_at_once(tmp_path: Path, up: bool) -> None:
    supervised = Supervised(tmp_path, *["1"] * 4, up=up)
    if up:
        supervised.wait_for_starts(4)  # the next start is 0.4 s away
    else:
        time.sleep(0.5)
    supervised.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert supervised.end()[0] in (0, 1)
    assert time.monotonic() - began < 2


def test_the_worker_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, "polite sleep30")
    supervised.wait_for_log("doing")
    worker = ProcessId.of(supervised.starts()[0][0])
    assert worker
    supervised.process.kill()
    supervised.end()
    assert worker.wait(5)


def test_the_command_line_wants_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.dev.supervisor"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "after --" in done.stderr


def test_the_command_line_waits_for_the_broker_of_the_environment(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.dev.supervisor", "--name", "w", "--", "touch", str(tmp_path / "ran")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"KAFKA_BOOTSTRAP": "127.0.0.1:9"},
    )
    assert process.stdout
    assert "waits for the broker" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert not (tmp_path / "ran").exists()
