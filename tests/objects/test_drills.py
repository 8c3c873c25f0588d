"""Kills and faults of the network in numbers: whatever meets a run, the store is that of a run that nothing met."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.drills import turns
from tests.faults.standin import make
from wilss.disk import ObjectUrl, buckets, folder_at, object_lock
from wilss.store import MaskStore

from .killing import KilledError, count_down
from .proxy import Proxy
from .tally import tallied
from .test_stores import beside, contents, copied

#: Requests that write in a run of ten images, at least.
WRITES = 90


def killed_at(request: int, run: Callable[[], Any]) -> bool:
    """Let no request that writes through from the one of this number on; whether the run came so far."""
    with pytest.MonkeyPatch.context() as patch:
        left = count_down(patch, ("put", "create", "replace", "delete", "copy"))
        left[0] = request
        try:
            run()
        except KilledError:
            return True
    return left[0] < 0


@pytest.mark.parametrize("request_number", turns(range(WRITES), short=[3, 37, 61]))
def test_a_kill_at_a_request_that_writes(
    bucket: ObjectUrl, here: Path, images: Path, request_number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss_masks.make.run._COMMIT_SECONDS", 0.0)
    there = bucket / "step-0.zarr"
    with tallied("requests") as done:
        assert killed_at(request_number, lambda: make(images, there))
        done["kills"] += 1
        if folder_at(there).exists("zarr.json") and not MaskStore.open(there, allow_partial=True).is_complete:
            assert set(contents(there)) <= set(contents(here))
        monkeypatch.setattr(object_lock, "_is_gone", lambda holder: True)
        monkeypatch.setattr(buckets, "_PROBE_SECONDS", -600.0)  # the clock of a server may be another one
        make(images, there)
        done["stores"] += 1
        assert contents(there) == contents(here)
        assert beside(there) == {"step-0.zarr", "step-0.zarr.stamps"}


@pytest.mark.parametrize("request_number", turns(range(0, 240, 4), short=[80]))
def test_a_kill_at_a_request_of_an_update(
    bucket: ObjectUrl, here: Path, images: Path, tmp_path: Path, request_number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it came before the new store took the old one's place, that one is there, whole."""
    there = copied(here, bucket / "step-0.zarr")
    before = contents(there)
    (images / "image_0003.png").unlink()
    make(images, tmp_path / "new.zarr")
    with tallied("update") as done:
        done["kills"] += killed_at(request_number, lambda: make(images, there, update=True))
        if folder_at(there).exists("zarr.json"):
            opened = MaskStore.open(there, allow_partial=True)
            assert not opened.is_complete or contents(there) in (before, contents(tmp_path / "new.zarr"))
        monkeypatch.setattr(object_lock, "_is_gone", lambda holder: True)
        make(images, there, update=True)
        done["stores"] += 1
        assert contents(there) == contents(tmp_path / "new.zarr")


@pytest.mark.parametrize(("kills", "seed"), turns([(50, seed) for seed in range(6)], short=[(1, 6)]))
def test_processes_killed_at_random(bucket: ObjectUrl, here: Path, images: Path, kills: int, seed: int) -> None:
    """SIGKILL of a process that writes, which leaves its lock; the next one takes over at once, and goes on."""
    draw, there = random.Random(seed), bucket / "step-0.zarr"
    words = [sys.executable, "-m", "tests.faults.standin", str(images), str(there), "--delay", "0.2"]
    with tallied("kills") as done:
        while done["kills"] < kills:
            process = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
            )
            lock = folder_at(bucket)
            while process.poll() is None and not lock.exists("step-0.zarr.lock"):
                time.sleep(0.05)
            time.sleep(draw.uniform(0, 1.5))
            process.send_signal(signal.SIGKILL)
            done["kills"] += process.wait() == -signal.SIGKILL
            if folder_at(there).exists("zarr.json") and MaskStore.open(there, allow_partial=True).is_complete:
                done["stores"] += 1
                assert contents(there) == contents(here)
                for name in list(contents(there)):
                    folder_at(there).remove(name)
        make(images, there)
        done["stores"] += 1
        assert contents(there) == contents(here)


@pytest.mark.long
def test_a_thousand_faults(bucket: ObjectUrl, here: Path, images: Path, proxy: Proxy) -> None:
    """A quarter of the requests meet one of six faults, and listings come late; `test_stores` has the short form."""
    with tallied("faults") as done:
        while done["faults"] < 1000:
            assert done["stores"] < 200, "the proxy makes too few faults"
            there = bucket / f"step-{done['stores']}.zarr"
            proxy.at_random(0.25, done["stores"])
            proxy.late, proxy.happened = 2.0, Counter()
            make(images, there)
            assert not list(MaskStore.open(there).verify())
            proxy.plan, proxy.late = (lambda method, path: ""), 0.0
            done["faults"] += sum(proxy.happened.values())
            done["stores"] += 1
            assert contents(there) == contents(here)
