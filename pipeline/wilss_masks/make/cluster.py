"""Which Dask client a run uses: none, local worker processes, one per GPU, or a cluster that runs already.

Nothing listens beyond loopback: local clusters bind 127.0.0.1, and an address elsewhere must be `tls://`.
"""

import contextlib
import ipaddress
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wilss.errors import WilssError
from wilss.process import interrupts_deferred

if TYPE_CHECKING:
    from distributed import Client, Scheduler

log = logging.getLogger("wilss_masks")

_LOOPBACK = "127.0.0.1"
_DASHBOARD_PORT = 8787
_CONNECT_SECONDS = "30s"
#: How often workers say how they are, and the cluster who it is.
_HEARTBEAT_SECONDS = 5.0
_SYNC_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What the command line says about workers.

    workers: local processes; 1 on the CPU means this process. devices: GPU indices, one process each.
    scheduler, scheduler_file: a cluster that runs already. dashboard: show Dask's page, on loopback.
    """

    workers: int = 1
    devices: tuple[int, ...] = ()
    scheduler: str | None = None
    scheduler_file: Path | None = None
    dashboard: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether the workers belong to a cluster that runs already, maybe with devices that are not here."""
        return bool(self.scheduler or self.scheduler_file)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A client (None: work in this process) and how many tasks it should hold at a time."""

    client: "Client | None"
    window: int = 1


@contextlib.contextmanager
def connect(options: ClusterOptions, *, threads: int) -> Iterator[Connection]:
    """Open what `options` asks for, and close what was opened here.

    threads: CPU threads of each local worker's forward pass.
    Raises WilssError when a scheduler cannot be reached or its address is not safe.
    """
    if options.is_elsewhere:
        with _existing(options) as connection:
            yield connection
    elif options.workers > 1 or options.devices:
        with _local(options, threads) as connection:
            yield connection
    else:
        yield Connection(client=None)


def require_usable_address(options: ClusterOptions) -> str:
    """The scheduler's address, if it may be talked to and there are certificates where it speaks TLS. Or WilssError."""
    address = _address_of(options)
    require_safe_address(address)
    if address.startswith("tls://"):
        _require_certificates(address)
    return address


def require_safe_address(address: str) -> None:
    """Raise WilssError unless `address` is on this machine or speaks TLS."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        known = parts.hostname is not None and parts.port is not None
    except ValueError:
        known = False
    if not known:
        raise WilssError(f"{address!r} is no address of a scheduler; write e.g. tcp://127.0.0.1:8786.")
    if parts.scheme == "tls" or _is_loopback(parts.hostname or ""):
        return
    raise WilssError(
        f"{address} is neither on this machine nor tls://; start the scheduler with TLS "
        "(see workflows/slurm/masks.sbatch) and pass its tls:// address."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _existing(options: ClusterOptions) -> Iterator[Connection]:
    from distributed import Client

    address = require_usable_address(options)
    _configure()
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WilssError(f"no scheduler answers at {address} ({error}); start it, or leave out --scheduler.") from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            log.info("waiting for a worker at %s", address)
        client.wait_for_workers(1)
        yield Connection(client=client, window=2 * max(len(client.scheduler_info(n_workers=-1)["workers"]), 1))


def _require_certificates(address: str) -> None:
    """Dask takes them from its configuration; without them it would fail with a riddle."""
    from distributed.security import Security

    if Security().get_connection_args("client").get("ssl_context") is None:
        raise WilssError(
            f"{address} speaks TLS, but Dask knows no certificates; set DASK_DISTRIBUTED__COMM__TLS__CA_FILE and "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and __KEY (see workflows/slurm/masks.sbatch)."
        )


def _address_of(options: ClusterOptions) -> str:
    """The scheduler's address, given as such or in the file that it wrote. Raises WilssError."""
    path = options.scheduler_file
    if options.scheduler or path is None:
        return options.scheduler or ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise WilssError(
            f"{path} is not a scheduler file ({why}); start `dask scheduler --scheduler-file {path}`."
        ) from error


@contextlib.contextmanager
def _local(options: ClusterOptions, threads: int) -> Iterator[Connection]:
    from distributed import Nanny, Scheduler

    _configure()
    page = f"{_LOOPBACK}:{_DASHBOARD_PORT if options.dashboard else 0}"
    scheduler = {
        "cls": Scheduler if options.dashboard else _calm_scheduler(),
        "options": {"host": _LOOPBACK, "port": 0, "dashboard": options.dashboard, "dashboard_address": page},
    }
    environments = _environments(options, threads)
    workers = {
        index: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "host": _LOOPBACK,
                "env": environment,
                "dashboard": False,
                "memory_limit": 0,
            },
        }
        for index, environment in enumerate(environments)
    }
    with _loop_deaf_to_interrupts() as loop, _client_of(loop=loop, scheduler=scheduler, workers=workers) as client:
        if options.dashboard:
            log.info("Dask's page: %s", _page_of(client))
        yield Connection(client=client, window=2 * len(environments))


@contextlib.contextmanager
def _client_of(**cluster: Any) -> "Iterator[Client]":
    """A client of a cluster that is started here and closed first: workers, scheduler, and only then the client.

    A scheduler that still runs would log a traceback for all that it wants to tell a client that is gone.
    """
    from distributed import Client

    opened: list[Any] = []
    try:
        with interrupts_deferred():  # else half a cluster would be left
            opened.append(_started(**cluster))
            opened.append(Client(opened[0], set_as_default=False))
        yield opened[1]
    finally:
        with interrupts_deferred():
            for cluster_or_client in opened:
                cluster_or_client.close()


def _calm_scheduler() -> "type[Scheduler]":
    """A scheduler to which workers tell how they are every few seconds: twice a second is for who looks at the page.

    That one is gone, its nanny notices.
    """
    from distributed import Scheduler

    class CalmScheduler(Scheduler):
        def heartbeat_worker(self, **said: Any) -> dict[str, Any]:
            answer: dict[str, Any] = super().heartbeat_worker(**said)
            return answer | {"heartbeat-interval": _HEARTBEAT_SECONDS} if "heartbeat-interval" in answer else answer

    return CalmScheduler


def _page_of(client: "Client") -> str:
    """The address of Dask's page; where another program has its usual port, Dask takes a free one."""
    port = client.scheduler_info(n_workers=0)["services"]["dashboard"]
    taken = "" if port == _DASHBOARD_PORT else f" (port {_DASHBOARD_PORT} is taken)"
    return f"http://{_LOOPBACK}:{port}/status{taken}"


def _started(**cluster: Any) -> Any:
    """A cluster that runs. Raises WilssError."""
    from distributed import SpecCluster

    try:
        with warnings.catch_warnings():  # of a port that is taken: the page is then told at another one
            warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
            return SpecCluster(**cluster, silence_logs=logging.CRITICAL, scheduler_sync_interval=_SYNC_SECONDS)
    except (RuntimeError, OSError) as error:
        raise WilssError(
            f"worker processes could not be started ({error}); run the same command again, and where a script "
            'calls generate, do so under `if __name__ == "__main__":`.'
        ) from error


@contextlib.contextmanager
def _loop_deaf_to_interrupts() -> Iterator[Any]:
    """An event loop in a thread that, and whose child processes, Ctrl-C does not reach.

    A terminal sends it to all processes of a run; the workers are to be ended by the coordinator alone.
    """
    from multiprocessing import resource_tracker

    from distributed.utils import LoopRunner

    resource_tracker.ensure_running()  # its start would let the signal through again in the thread that asks for it
    runner = LoopRunner()
    runner.start()
    runner.loop.add_callback(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield runner.loop
    finally:
        runner.stop()


def _environments(options: ClusterOptions, threads: int) -> list[dict[str, str]]:
    if options.devices:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = [visible[device] if device < len(visible) else str(device) for device in options.devices]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    return [{"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}] * options.workers


def _configure() -> None:
    """Quiet logs; a shard that kills two workers is given up rather than tried on all of them."""
    import dask

    settings: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": 2,
        "distributed.comm.timeouts.connect": _CONNECT_SECONDS,
        # What nobody looks at costs the coordinator more than the shards do: statistics of every process twice a
        # second, a tick fifty times a second to see whether its loop is late, a profile of what workers do, and ten
        # looks a second for tasks that another worker could take.
        "distributed.admin.system-monitor.interval": "30s",
        "distributed.admin.tick.interval": "1s",
        "distributed.worker.profile.enabled": False,
        "distributed.scheduler.work-stealing-interval": "1s",
        # A worker sets up its logging before it hears of any configuration but its environment.
        "distributed.nanny.pre-spawn-environ.DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
    }
    dask.config.set(settings)
    for name in list(logging.root.manager.loggerDict):  # several have levels of their own
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
