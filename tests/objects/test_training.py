"""Training from a store in a bucket: the same samples in the same order, and the same weights and losses to the bit."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.wilss_train.data.semi.world import make, masks
from tests.wilss_train.logs import untimed_lines
from tests.wilss_train.run.test_train import METHOD, PARAMS, QUIET
from wilss.data.manifest import load_manifest
from wilss.disk import ObjectUrl
from wilss.errors import StoreError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.store import MaskStore
from wilss_train import MaskDataset
from wilss_train.inputs import open_inputs
from wilss_train.results.report.log import LOG_FILE
from wilss_train.run.train import run_training

from .proxy import Proxy
from .servers import SETTINGS
from .test_stores import copied


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "pets")


@pytest.fixture
def there(bucket: ObjectUrl, root: Path) -> ObjectUrl:
    """A copy of the data set's store of step 0."""
    return copied(masks(root), bucket / "step-0.zarr")


def test_a_dataset_gives_the_same_samples(root: Path, there: ObjectUrl) -> None:
    near, far = (MaskDataset(place, root / "data_manifest.yaml") for place in (masks(root), str(there)))
    assert len(near) == len(far)
    for ours, theirs in zip(near, far, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ("image", "masks", "void"))
    pickled = pickle.dumps(far)
    assert not any(secret.encode() in pickled for secret in list(SETTINGS.values())[:2])
    np.testing.assert_array_equal(pickle.loads(pickled).label(0), near.label(0))


def test_a_process_that_was_forked_is_told_to_start_afresh(
    root: Path, there: ObjectUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = MaskDataset(str(there), root / "data_manifest.yaml")
    loader = DataLoader(far, batch_size=1, num_workers=1, multiprocessing_context="fork", timeout=60)
    batches: Any = iter(loader)
    with pytest.raises(StoreError, match="cannot be read in a process that was forked .*spawn"):
        next(batches)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # it waits so long for its worker
    batches._shutdown_workers()


def test_training_gives_the_same_bits_and_reads_every_shard_once(root: Path, there: ObjectUrl, proxy: Proxy) -> None:
    manifest = load_manifest(root / "data_manifest.yaml")
    for place, out in ((masks(root), root / "near"), (there, root / "far")):
        proxy.asked.clear()
        inputs = open_inputs(manifest, place, None, "finetune")
        run_training(inputs, METHOD, replace(PARAMS, epochs=2), out, QUIET)
    assert (root / "near" / MODEL_FILE).read_bytes() == (root / "far" / MODEL_FILE).read_bytes()
    assert untimed_lines(root / "near" / LOG_FILE) == untimed_lines(root / "far" / LOG_FILE)
    read = Counter(path for method, path in proxy.asked if method == "GET" and "/mask/c/" in path)
    verified = 1  # before it begins, a run compares every shard with its digest
    assert read
    assert max(read.values()) == verified + 1


def test_shards_are_read_ahead(there: ObjectUrl, proxy: Proxy) -> None:
    store = MaskStore.open(there)
    store.fetch(range(store.layout.num_images))
    store._fetchers.shutdown(wait=True)
    proxy.asked.clear()
    store.read(0)
    assert [path for _, path in proxy.asked if "/mask/c/" in path] == []
