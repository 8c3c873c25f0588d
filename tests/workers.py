"""`pytest --workers N`: one process collects the tests, and N forks of it run them, a file at a time.

A worker of pytest-xdist imports and collects everything by itself, which takes longer than most files of tests; forks
share it. Reports pass through pytest's own hooks in the first process, as if that had run the tests, so that `-x`,
`--lf`, `--durations` and `--junitxml` need nothing of this module. A worker that dies fails the test it was at, and
another one runs the rest. Where a process must not be forked, pytest-xdist does the same by `-n N`.
"""

import contextlib
import itertools
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

import pytest
from _pytest import runner

from tests.drill_server import fork_server

_SECONDS_BETWEEN_LOOKS = 1.0  # a process that a test left behind may hold the pipe of a worker that is dead


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, default=0, metavar="N", help="run the tests in N forks of this process")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """None: pytest's own loop goes on, which knows what errors of the collection lead to."""
    options = session.config.option
    unfit = options.collectonly or options.usepdb or (session.testsfailed and not options.continue_on_collection_errors)
    if not options.workers or unfit:
        return None
    if getattr(options, "numprocesses", None) or "PYTEST_XDIST_WORKER" in os.environ:
        raise pytest.UsageError("--workers and -n both divide the tests; take one of them.")
    if threading.active_count() > 1:
        raise pytest.UsageError(f"--workers: the collection began threads: {threading.enumerate()}; take -n.")
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # one folder for all workers
    _Workers(session).run(options.workers)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


@dataclass
class _Worker:
    """todo: numbers of the tests that were given and not reported, of which it is `at` one."""

    pid: int
    pipe: Connection
    todo: deque[int] = field(default_factory=deque)
    at: int | None = None

    def give(self, tests: list[int]) -> None:
        self.todo.extend(tests)
        with contextlib.suppress(OSError):  # a dead one is found by its process
            self.pipe.send(tests)


class _Workers:
    """In the first process: gives out files, and passes on what workers report."""

    def __init__(self, session: pytest.Session) -> None:
        self._session, self._workers = session, list[_Worker]()
        files: dict[str, list[int]] = {}
        for number, item in enumerate(session.items):
            files.setdefault(item.nodeid.partition("::")[0], []).append(number)
        self._left = deque(files.values())

    @property
    def _is_over(self) -> bool:
        return bool(self._session.shouldfail or self._session.shouldstop)

    def run(self, count: int) -> None:
        try:
            for _ in range(min(count, len(self._left))):
                self._start()
            while self._workers:
                ready = wait([worker.pipe for worker in self._workers], _SECONDS_BETWEEN_LOOKS)
                for worker in list(self._workers):
                    if worker.pipe in ready:
                        self._hear(worker)
                    if os.waitpid(worker.pid, os.WNOHANG)[0]:
                        self._bury(worker)
        finally:
            for worker in self._workers:  # after Ctrl-C, or an error of ours
                os.kill(worker.pid, signal.SIGINT)
                os.waitpid(worker.pid, 0)

    def _start(self) -> None:
        here, there = Pipe()
        if (pid := os.fork()) == 0:
            for pipe in (here, *(worker.pipe for worker in self._workers)):
                pipe.close()
            _work(self._session, there)
        there.close()
        self._workers.append(_Worker(pid, here))
        self._workers[-1].give(self._next())

    def _next(self) -> list[int]:
        return self._left.popleft() if self._left else []

    def _hear(self, worker: _Worker) -> bool:
        """Whether there was something to hear."""
        try:
            what, said = worker.pipe.recv()
        except (EOFError, OSError):
            return False
        if what == "more":
            worker.give(self._next())
        elif what == "at":
            worker.at = said
        elif what == "reports":
            self._report(worker, said)
        elif what == "warning":
            self._session.config.hook.pytest_warning_recorded.call_historic(kwargs=said)
        else:
            raise RuntimeError(said)
        return True

    def _report(self, worker: _Worker, reports: list[dict[str, Any]]) -> None:
        assert worker.at is not None
        item, hook = self._session.items[worker.at], self._session.config.hook
        worker.todo.remove(worker.at)
        worker.at = None
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in reports:
            report = hook.pytest_report_from_serializable(config=self._session.config, data=data)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self._is_over:
            self._left.clear()
            for other in self._workers:
                other.give([])

    def _bury(self, worker: _Worker) -> None:
        while worker.pipe.poll() and self._hear(worker):
            pass
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.at is not None:
            item = self._session.items[worker.at]
            died = pytest.TestReport(
                item.nodeid, item.location, {}, "failed", f"{item.nodeid}: the process of this test died", "call"
            )
            self._report(worker, [item.config.hook.pytest_report_to_serializable(config=item.config, report=died)])
        if worker.todo and not self._is_over:
            self._left.appendleft(list(worker.todo))
        if self._left:
            self._start()


def _work(session: pytest.Session, pipe: Connection) -> NoReturn:
    """A worker, from its first test to its end."""
    try:
        fork_server()
        _capture_apart(session.config)
        reporter = _Reporter(pipe)
        session.config.pluginmanager.register(reporter, "worker")
        reporter.is_at_work = True
        for number, following in itertools.pairwise(itertools.chain(_given(pipe), [None])):
            assert number is not None
            pipe.send(("at", number))
            item, next_one = session.items[number], None if following is None else session.items[following]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_one)
    except KeyboardInterrupt:
        pass
    except BaseException:
        pipe.send(("broken", traceback.format_exc()))
    finally:
        try:
            runner.pytest_sessionfinish(session)  # what fixtures began: servers, browsers
        finally:
            os._exit(0)


def _given(pipe: Connection) -> Iterator[int]:
    """The numbers of the tests, file after file, until no more come or the first process says stop."""
    while tests := pipe.recv():
        for number in tests:
            if pipe.poll():
                return
            yield number
        pipe.send(("more", None))


def _capture_apart(config: pytest.Config) -> None:
    """Output goes to files of this worker: those of the first process are at one place for all."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()


class _Reporter:
    """In a worker: what pytest would tell its plugins goes to the first process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self.is_at_work = pipe, False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        reports = runner.runtestprotocol(item, log=False, nextitem=nextitem)
        to_data = item.config.hook.pytest_report_to_serializable
        self._pipe.send(("reports", [to_data(config=item.config, report=report) for report in reports]))
        return True

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        if self.is_at_work:  # those of before are told again to each plugin that comes
            said = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
            self._pipe.send(("warning", said))
