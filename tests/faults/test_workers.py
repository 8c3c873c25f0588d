"""Workers that crash, hang or run out of memory, and schedulers that die: what is done is kept, and one goes on.

A run ends with exit code 0 where another worker made what the first one could not, else with 1 and a sentence for
every shard that is missing. The same command then gives the bytes of a run that nothing happened to.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.cli import ROOT, Outcome, command, content, data_set, generate, start
from wilss.errors import EncoderError, StoreError, WilssError
from wilss.store import MaskStore
from wilss_masks.make import workers
from wilss_masks.make.workers import on_workers

#: Shards of three: im0 to im2, im3 to im5, im6. A worker process needs some seconds to start.
TIMEOUT = 4
SECOND_SHARD = "shard 1 (im3 to im5) could not be made: "


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> dict[str, bytes]:
    assert generate(root, out="out/undisturbed.zarr").code == 0
    return content(root / "out/undisturbed.zarr")


def run(root: Path, name: str, misfortune: str, *more: object, seconds: float = 120) -> Outcome:
    """`wilss-masks generate` as a process, which must leave no process behind."""
    process = start(command(root, "--set", f"misfortune={misfortune}", *more, out=name))
    family: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        family |= {one.pid: one for one in psutil.Process(process.pid).children(recursive=True)}
        time.sleep(0.1)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"no end after {seconds} s: {process.communicate()}")
    out, err = process.communicate()
    assert not psutil.wait_procs(list(family.values()), timeout=60)[1], "a process was left behind"
    assert "Traceback" not in out + err, err
    return Outcome(process.returncode, out, err)


def goes_on(root: Path, name: str, undisturbed: dict[str, bytes]) -> None:
    """The same command, when all is well again."""
    again = generate(root, out=name)
    assert again.code == 0, again.said
    assert content(root / name) == undisturbed
    assert not list((root / name).rglob("*.partial"))


@pytest.mark.long
def test_what_happens_once_is_made_good(root: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    told = ",".join(
        f"{what}:{image}:{tmp_path / what}"
        for what, image in [("segfault", "im0"), ("hang", "im4"), ("memory", "im5"), ("limit", "im6")]
    )
    made = run(root, "out/once.zarr", told, "--workers", 2, "--shard-timeout", TIMEOUT)
    assert made.code == 0, made.said
    assert len(list(tmp_path.iterdir())) == 4, "not all of it happened"
    assert content(root / "out/once.zarr") == undisturbed


@pytest.mark.long
def test_what_happens_always_costs_its_shards(root: Path, undisturbed: dict[str, bytes]) -> None:
    made = run(root, "out/always.zarr", "segfault:im4,hang:im1", "--workers", 2, "--shard-timeout", TIMEOUT)
    assert made.code == 1, made.said
    assert SECOND_SHARD + "its worker processes died (no memory left, or a library crashed)" in made.err
    assert f"shard 0 (im0 to im2) could not be made: no worker was through with it in {TIMEOUT} s" in made.err
    assert MaskStore.open(root / "out/always.zarr", allow_partial=True).pending_shards() == (0, 1)
    goes_on(root, "out/always.zarr", undisturbed)


@pytest.mark.long
def test_workers_that_die_of_shards_that_are_made_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fifty, of one once and of another always. Dask blames what a worker was given beside it as well."""
    monkeypatch.setattr("tests.faults.cli.IMAGES", tuple(f"im{number}" for number in range(150)))
    root = data_set(tmp_path)
    assert generate(root, out="out/undisturbed.zarr").code == 0
    told = f"segfault:im40:{tmp_path / 'met'},segfault:im60"
    made = run(root, "out/s.zarr", told, "--workers", 2, seconds=240)
    assert made.code == 1, made.said
    assert (tmp_path / "met").exists()
    assert "shard 20 (im60 to im62) could not be made: its worker processes died" in made.err
    pending = MaskStore.open(root / "out/s.zarr", allow_partial=True).pending_shards()
    assert 20 in pending
    assert made.err.count("could not be made") == len(pending) < 5
    goes_on(root, "out/s.zarr", content(root / "out/undisturbed.zarr"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("segfault", "its worker processes died (no memory left, or a library crashed)"),
        ("hang", f"no worker was through with it in {TIMEOUT} s (a larger --shard-timeout gives it more time)"),
        ("memory", "MemoryError: cannot allocate"),
        ("killed", "its worker processes died (no memory left, or a library crashed)"),
        ("limit", "MemoryError: "),
    ],
)
def test_what_happens_always_costs_one_shard(root: Path, undisturbed: dict[str, bytes], what: str, why: str) -> None:
    name = f"out/{what}.zarr"
    made = run(root, name, f"{what}:im4", "--workers", 2, "--shard-timeout", TIMEOUT)
    assert made.code == 1, made.said
    assert SECOND_SHARD + why in made.err
    assert "Not complete: run the same command again to make what is missing." in made.out
    assert MaskStore.open(root / name, allow_partial=True).pending_shards() == (1,)
    goes_on(root, name, undisturbed)


@contextmanager
def cluster(tmp_path: Path, workers: int = 1, *words: str) -> Iterator[tuple[Path, list[subprocess.Popen[bytes]]]]:
    """A scheduler and its workers as processes on this machine: the file that names them, and the processes."""
    file = tmp_path / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kinds = [["scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0"]]
    kinds += [["worker", "--nthreads", "1", "--local-directory", str(tmp_path), *words]] * workers
    processes = []
    try:
        for kind, *more in kinds:
            program = [sys.executable, "-m", "distributed.cli.dask_" + kind]
            processes.append(
                subprocess.Popen(
                    [*program, *local, *more],
                    cwd=tmp_path,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            wait_for(file.exists)
        yield file, processes
    finally:
        for process in processes:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def begun(store: Path) -> bool:
    """Whether a shard is done, and not yet all of them."""
    return store.exists() and len(MaskStore.open(store, allow_partial=True).pending_shards()) == 2


def disturbed(root: Path, name: str, file: Path, disturb: Callable[[], None]) -> Outcome:
    """A run on a cluster, disturbed in its middle; it ends by itself."""
    process = start(command(root, "--set", "delay=1", "--scheduler-file", file, out=name))
    wait_for(lambda: begun(root / name) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    disturb()
    try:
        out, err = process.communicate(timeout=150)
    finally:
        process.kill()
    assert "Traceback" not in out + err, err
    return Outcome(process.returncode, out, err)


def test_a_scheduler_that_dies(root: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with cluster(tmp_path, 1, "--no-nanny") as (file, processes):
        made = disturbed(root, "out/scheduler.zarr", file, processes[0].kill)
    assert made.code == 1
    assert (
        "does not answer any more; what is done is kept. Start it and its workers again, and run the same" in made.err
    )
    assert made.err.count("Error:") == 1
    assert MaskStore.open(root / "out/scheduler.zarr", allow_partial=True).pending_shards() == (1, 2)
    goes_on(root, "out/scheduler.zarr", undisturbed)


@pytest.mark.long
def test_a_scheduler_that_stands_still(root: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with cluster(tmp_path) as (file, processes):
        made = disturbed(root, "out/still.zarr", file, lambda: processes[0].send_signal(signal.SIGSTOP))
        processes[0].send_signal(signal.SIGCONT)
    assert made.code == 1
    assert "does not answer any more; what is done is kept" in made.err
    goes_on(root, "out/still.zarr", undisturbed)


@pytest.mark.long
def test_workers_that_leave_and_do_not_come_back(root: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with cluster(tmp_path, 1, "--no-nanny") as (file, processes):
        made = disturbed(root, "out/left.zarr", file, processes[1].kill)
    assert made.code == 1
    assert "no worker is left at tcp://127.0.0.1:" in made.err
    assert "Start workers, and run the same command again" in made.err
    goes_on(root, "out/left.zarr", undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("what", ["nanny", "disconnect"])
def test_a_worker_of_another_cluster_that_is_lost(
    root: Path, undisturbed: dict[str, bytes], tmp_path: Path, what: str
) -> None:
    """The other worker makes what it was at."""
    name = f"out/other-{what}.zarr"
    with cluster(tmp_path, 2) as (file, _):
        made = run(root, name, f"{what}:im4:{tmp_path / 'met'}", "--scheduler-file", file)
    assert (tmp_path / "met").exists()
    assert made.code == 0, made.said
    assert content(root / name) == undisturbed


@pytest.mark.long
def test_a_worker_that_hangs_and_has_no_nanny(root: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with cluster(tmp_path, 1, "--no-nanny") as (file, _):
        made = run(root, "out/bare.zarr", "hang:im4", "--scheduler-file", file, "--shard-timeout", TIMEOUT)
    assert made.code == 1
    assert "hangs with shard 1 (im3 to im5) and cannot be restarted" in made.err
    assert "End that worker, and run the same command again" in made.err
    goes_on(root, "out/bare.zarr", undisturbed)


class Client:
    """As much of a Dask client as a crew asks for; its scheduler answers as it is told."""

    def __init__(self, future: Any = None, found: Any = None) -> None:
        self.status, self.scheduler = "running", None
        self.restarted: list[str] = []
        self._future, self._found = future, {"workers": {"one": {}}} if found is None else found

    def submit(self, *_: Any, **__: Any) -> Any:
        return self._future

    def subscribe_topic(self, topic: str, tell: Callable[[Any], None]) -> None:
        self.tell = tell

    def restart_workers(self, workers: list[str], **_: Any) -> None:
        self.restarted += workers

    def scheduler_info(self, n_workers: int) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


class Future:
    """Ends as it is told, each time it is asked."""

    is_listened_to = False

    def __init__(self, *endings: Any) -> None:
        self._endings = list(endings)
        self.before_it_ends: Callable[[], None] = lambda: None

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.is_listened_to = True
        self.before_it_ends()
        if self._endings:
            call(self)

    def exception(self, timeout: float) -> Any:
        ending = self._endings.pop(0)
        if isinstance(ending, TimeoutError):
            raise ending
        return ending if isinstance(ending, BaseException) else self._endings.insert(0, ending)

    def result(self, timeout: float) -> Any:
        return self._endings.pop(0)

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.cancelled = True

    def release(self) -> None:
        pass


class Record:
    image_id = "im0"


class Image:
    record = Record


class Task:
    shard, images = 0, (Image,)


def on_one(client: Client) -> list[Any]:
    results = on_workers(client, lambda task: None, [Task()], window=2)  # type: ignore[arg-type, list-item, return-value]
    return [result for result in results if result is not None]


def test_a_result_that_dies_with_its_worker_is_waited_for() -> None:
    """A worker may be killed between "finished" and the gathering: the future is pending again, no shard is lost."""
    assert on_one(Client(Future(TimeoutError(), ["receipt"]))) == ["receipt"]


def test_a_result_that_dies_with_its_worker_may_fail_when_it_is_made_again() -> None:
    class Lost(Future):
        def result(self, timeout: float) -> Any:
            raise ValueError("strange")

    assert on_one(Client(Lost(["receipt"]))) == ["shard 0 (im0 to im0) could not be made: ValueError: strange"]


def test_an_error_of_a_shard_is_a_sentence_and_one_of_all_is_raised() -> None:
    lost = ["shard 0 (im0 to im0) could not be made: ValueError: strange"]
    assert on_one(Client(Future(ValueError("strange\nmore")))) == lost
    with pytest.raises(EncoderError, match="no memory"):
        on_one(Client(Future(EncoderError("no memory"))))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (OSError("gone"), "the scheduler at its address does not answer any more; what is done is kept"),
        ({"workers": {}}, "no worker is left at its address; what is done is kept. Start workers, and run the same"),
    ],
)
def test_nobody_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, found: Any, words: str) -> None:
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(workers, "_PULSE_SECONDS", 0.05)
    with pytest.raises(WilssError, match=words):
        on_one(Client(Future(), found))


class Hanging(Client):
    """Its workers begin with every shard that they are given, and never end."""

    told = -1

    def scheduler_info(self, n_workers: int) -> Any:
        if self._future.is_listened_to and self.told < len(self.restarted):  # no worker has begun before it is given
            self.told = len(self.restarted)
            self._tell_begun()
        return super().scheduler_info(n_workers)

    def _tell_begun(self) -> None:
        self.tell((0.0, {"key": f"shard-0-{id(TASK)}", "worker": f"worker {len(self.restarted)}"}))


TASK = Task()


@pytest.mark.parametrize("seconds", [0.1, 0.0])
def test_a_shard_that_hangs_is_tried_twice_and_given_up(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.25)
    monkeypatch.setattr(workers, "_PULSE_SECONDS", 0.05)
    client, future = Hanging(Future()), Future()
    client._future = future
    results = on_workers(client, lambda task: None, [TASK], window=2, shard_seconds=seconds)  # type: ignore[arg-type, list-item, return-value]
    made = (result for result in results if result is not None)
    if not seconds:  # for ever, until somebody stops it
        stop = time.monotonic() + 1
        monkeypatch.setattr(workers._Crew, "_require_cluster", lambda crew: time.monotonic() < stop or stopped())
        with pytest.raises(KeyboardInterrupt):
            list(made)
        assert not client.restarted
        return
    (said,) = made
    assert "could not be made: no worker was through with it in 0 s (a larger --shard-timeout" in str(said)
    assert future.cancelled
    assert len(client.restarted) == 2


def stopped() -> None:
    raise KeyboardInterrupt


class Cluster(Client):
    """Makes what it is given at once, but for what it is told to fail at; `given` says what came together."""

    def __init__(self, poison: int = -1) -> None:
        super().__init__()
        self.given: list[tuple[int, ...]] = []
        self._poison = poison

    def submit(self, _: Any, make: bytes, packed: bytes, *, key: str, **__: Any) -> Any:
        tasks = pickle.loads(packed)
        self.given.append(tuple(task.shard for task in tasks))
        is_bad = self._poison in self.given[-1]
        future = Future(ValueError("strange") if is_bad else [pickle.loads(make)(task) for task in tasks])
        future.before_it_ends = lambda: self.tell((0.0, {"key": key, "worker": "one"}))
        return future


def shard_of(task: Task) -> int:
    return task.shard


def numbered(count: int) -> list[Task]:
    tasks = [Task() for _ in range(count)]
    for number, task in enumerate(tasks):
        task.shard = number
    return tasks


def on_cluster(client: Cluster, tasks: list[Task], **more: Any) -> list[Any]:
    return list(on_workers(client, shard_of, tasks, window=4, **more))  # type: ignore[arg-type]


def test_fast_shards_go_together_and_the_last_are_shared_out() -> None:
    client = Cluster()
    assert sorted(on_cluster(client, numbered(300), count=300)) == list(range(300))
    sizes = [len(tasks) for tasks in client.given]
    assert sizes[:4] == [1] * 4, "nobody knows yet how long one takes"
    assert max(sizes) == workers._MOST_TOGETHER
    assert sizes[-1] == 1
    assert len(sizes) < 60


def test_shards_go_one_by_one_where_nobody_knows_how_many_there_are() -> None:
    client = Cluster()
    assert sorted(on_cluster(client, numbered(20))) == list(range(20))
    assert client.given == [(number,) for number in range(20)]


def test_a_shard_that_fails_takes_none_along() -> None:
    client = Cluster(poison=37)
    made = on_cluster(client, numbered(100), count=100)
    assert made.count("shard 37 (im0 to im0) could not be made: ValueError: strange") == 1
    assert sorted(one for one in made if isinstance(one, int)) == [n for n in range(100) if n != 37]
    assert any(len(tasks) > 1 and 37 in tasks for tasks in client.given)


def test_a_store_that_fails_once_ends_no_run_of_several_shards() -> None:
    """A shard by itself is tried twice by Dask; several together are not, and are tried one by one."""

    class Blinks(Cluster):
        def submit(self, *given: Any, **named: Any) -> Any:
            future = super().submit(*given, **named)
            if len(self.given[-1]) > 1 and not self.blinked:
                self.blinked, future._endings[:] = True, [StoreError("no answer")]
            return future

        blinked = False

    client = Blinks()
    assert sorted(on_cluster(client, numbered(100), count=100)) == list(range(100))
    assert client.blinked


@pytest.mark.parametrize(
    ("seconds", "left", "together"),
    [(0.0, 1000, 1), (0.5, 1000, 4), (0.5, 12, 3), (0.5, 2, 1), (5.0, 1000, 1), (0.001, 10_000, 32)],
)
def test_how_many_shards_go_together(seconds: float, left: int, together: int) -> None:
    pace = workers._Pace(longest=2.0)
    if seconds:
        pace.add(2, 2 * seconds)
    assert pace.together(left, window=4) == together


def test_several_shards_that_hang_are_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose fault it was is not known before."""
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(workers._Pace, "together", lambda pace, left, window: 3)

    class Hangs(Cluster):
        def submit(self, *given: Any, **named: Any) -> Any:
            future = super().submit(*given, **named)
            if len(self.given[-1]) > 1:
                future._endings.clear()
            return future

    client = Hangs()
    made = on_cluster(client, numbered(3), count=3, shard_seconds=0.05)
    assert sorted(one for one in made if one is not None) == [0, 1, 2]
    assert client.given == [(0, 1, 2), (0,), (1,), (2,)]


TALKING = """
import time
from wilss_masks.make.cluster import ClusterOptions, connect

def talk():
    from distributed import get_worker
    while True:
        get_worker().log_event("topic", "word")
        time.sleep(0.001)

with connect(ClusterOptions(workers=2), threads=1) as connection:
    heard = []
    connection.client.subscribe_topic("topic", heard.append)
    talking = connection.client.submit(talk)
    while not heard:
        time.sleep(0.01)
"""


@pytest.mark.wide  # in order, and with words that are few: test_security, test_disk
def test_workers_that_talk_to_the_last_leave_no_traceback() -> None:
    """A scheduler that outlives its client logs one for every word of theirs."""
    done = subprocess.run(
        [sys.executable, "-c", TALKING], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_a_run_in_order(root: Path, undisturbed: dict[str, bytes], number: int) -> None:
    """While torch is imported, workers start, shards are made, and the cluster is closed."""
    name, moments = f"out/any-moment-{number}.zarr", [0.9 + 0.25 * step for step in range(24)]
    for moment in moments:
        process = start(command(root, "--workers", 2, "--set", "delay=0.2", out=name))
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
        # Before the command has begun, a signal does what it does to any program.
        assert process.returncode in (0, 130, -number), err
        lines = [line for line in err.splitlines() if line.strip() and process.returncode != -number]
        known = ("Stopped. ", "Interrupted.", "step 0 of ", "step 1 of ", "7 of 7")
        assert all(line.startswith(known) for line in lines), err
    goes_on(root, name, undisturbed)
