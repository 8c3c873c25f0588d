"""What both networks say of a sample's images, kept on disk: a search reads it as often as it likes.

A file holds a batch of images, made as `generate` makes a batch of them; it is named by all that its numbers depend
on. Whoever stops finds the batches that are done there the next time.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.contents import content_of
from wilss.data.manifest import Manifest
from wilss.digests import digest_of_json, version_of
from wilss.disk import cache_folder, make_folder, unlink, write_output
from wilss.errors import ImageError
from wilss.models.encoders.vit.encoder import LastBlock

from ..make.plan import MaskPlan
from ..make.run import propose_in_parts
from ..sources.base import ImageTask, why_not_finite
from ..sources.features.proposer import KeptProposer
from ..sources.fmwiss import FmwissSource
from ..sources.fmwiss_params import FmwissParams
from ..sources.fmwiss_proposer import FmwissProposer
from ..sources.placing import similarity_of
from ..stages.params import noted

Blocks = tuple[LastBlock, ...]

_OURS = re.compile(r"[0-9a-f]{32}")  # names of our files
_FORM = 2  # raise it when the same name would mean other content
_LIBRARIES = ("wilss", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow")
#: Parameters that decide what the networks say; the search is free in all others.
_OF_FORWARD = ("form", "clip_size", "vit_size", "longest", "templates", "precision")
#: The same, of those that came later: only where they are not at their default.
_LATER = ("synonyms", "window", "window_stride", "attention_blocks", "clip_attention")


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the networks say of one image of T tags.

    tags: float32 [T, h, w], cosines with its tags' prompts; words: float32 [G, h, w], with each set of background
    words. blocks: the last ones of each network that says where, the ViT first; a batch of one.
    """

    task: ImageTask
    tags: Mapping[str, Tensor]
    words: Mapping[str, Tensor]
    blocks: tuple[Blocks, ...]
    logit_scale: float

    def blocks_for(self, params: FmwissParams) -> tuple[Blocks, ...]:
        """Those of the blocks that masks of these parameters are made of."""
        networks = self.blocks if params.clip_attention else self.blocks[:1]
        return tuple(of_one[-params.attention_blocks :] for of_one in networks)

    @property
    def device(self) -> torch.device:
        """Where all of it lies."""
        return self.blocks[0][-1].keys.device


def default_folder(manifest: Manifest, step: int) -> Path | None:
    """Where it is kept when nobody says: beside the cache of text features, by manifest; None without a home."""
    cache = cache_folder("text")
    return (
        None
        if cache is None
        else cache.parent / "tune" / f"{manifest.name}-{digest_of_json(str(manifest.path.resolve()))[:8]}-step-{step}"
    )


class Scratch:
    """The batches of a plan, made by `see` and read by a search.

    sources: the source by each set of background words, all with prepared text. folder: other files in it stay.
    threads: of a forward pass on the CPU, whose rounding may depend on it.
    """

    def __init__(
        self, folder: Path, plan: MaskPlan, sources: Mapping[str, FmwissSource], device: str, threads: int = 1
    ) -> None:
        self.folder, self._sources, self._device, self._threads = folder, sources, device, threads
        shards = map(plan.shard, range(plan.layout.num_shards))
        self.batches = [tuple(s.images[i] for i in batch) for s in shards for batch in s.batches]
        facts = digest_of_json(self._facts())
        self._files = [folder / f"{_name(facts, batch)}.npz" for batch in self.batches]

    def see(self, progress: Callable[[int, int], None]) -> None:
        """Run the networks over the batches that are not there yet; what is there of other runs is removed.

        Raises StoreError where the folder cannot be written.
        """
        make_folder(self.folder)
        ours = {file for file in self.folder.glob("*.npz") if _OURS.fullmatch(file.stem)}
        for stale in ours - {*self._files}:
            unlink(stale)
        proposer: FmwissProposer | KeptProposer | None = None
        done, total = 0, sum(map(len, self.batches))
        for batch, file in zip(self.batches, self._files, strict=True):
            progress(done, total)
            if not _is_whole(file):
                proposer = proposer or next(iter(self._sources.values())).open(self._device, self._threads)
                write_output(file, self._seen_by(proposer, batch))
            done += len(batch)
        progress(done, total)

    def read(self, number: int) -> list[Seen]:
        """The images of a batch that could be read."""
        with np.load(self._files[number], allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            return [self._one(arrays, facts, place, task) for place, task in self._read_tasks(number, facts)]

    @property
    def failed(self) -> dict[str, str]:
        """Why images could not be read, by id."""
        failed: dict[str, str] = {}
        for file in self._files:
            with np.load(file, allow_pickle=False) as arrays:
                failed |= json.loads(str(arrays["facts"]))["failed"]
        return failed

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self._files)

    def _facts(self) -> dict[str, Any]:
        one, names = next(iter(self._sources.values())), (*_OF_FORWARD, *_LATER)
        identities = {words: source.identity() for words, source in self._sources.items()}
        return {
            "form": _FORM,
            "models": identities[next(iter(identities))]["models"],
            "prompts": {words: identity["prompts_sha256"] for words, identity in identities.items()},
            "parameters": {name: value for name, value in noted(one.params, _OF_FORWARD).items() if name in names},
            "parts": list(one.parts),
            **({"features_from": [kept.digest for kept in one.features_from]} if one.features_from else {}),
            "versions": {name: version_of(name) for name in _LIBRARIES},
            "device": self._device,
            "threads": self._threads,
        }

    def _seen_by(self, proposer: FmwissProposer | KeptProposer, batch: Sequence[ImageTask]) -> bytes:
        """The file of a batch."""
        loaded, failed = {}, {}
        for place, task in enumerate(batch):
            try:
                loaded[place] = proposer.load(task)
            except ImageError as error:
                failed[task.record.image_id] = str(error)
        keeper: Any = _Keeper(proposer, self._sources)
        kept: Any = propose_in_parts(keeper, [batch[place] for place in loaded], list(loaded.values()))
        for place, one in zip(loaded, kept, strict=True):
            if problem := why_not_finite(batch[place], {name: [array] for name, array in one.items()}):
                failed[batch[place].record.image_id] = problem
        arrays = {f"{place}.{name}": a for place, one in zip(loaded, kept, strict=True) for name, a in one.items()}
        facts = {"failed": failed, "logit_scale": proposer.logit_scale}
        file = io.BytesIO()
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
        return file.getvalue()

    def _read_tasks(self, number: int, facts: Mapping[str, Any]) -> Iterator[tuple[int, ImageTask]]:
        for place, task in enumerate(self.batches[number]):
            if task.record.image_id not in facts["failed"]:
                yield place, task

    def _one(self, arrays: Any, facts: Mapping[str, Any], place: int, task: ImageTask) -> Seen:
        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[f"{place}.{name}"]).to(self._device)

        def block(name: str) -> LastBlock:
            # In the network queries and keys of a token lie side by side; the same products of them are then the same.
            queries, keys, *values = tensor(f"block.{name}").permute(1, 2, 0, 3)
            prefix, *grid = arrays[f"{place}.grid.{name}"].tolist()
            outputs = tensor(f"outputs.{name}")[None] if f"{place}.outputs.{name}" in arrays else None
            return LastBlock(
                queries=queries[None],
                keys=keys[None],
                prefix=prefix,
                grid=(grid[0], grid[1]),
                values=values[0][None] if values else None,
                outputs=outputs,
            )

        counts = arrays[f"{place}.blocks"].tolist()
        blocks = tuple(
            tuple(block(f"{network}.{number}") for number in range(count)) for network, count in enumerate(counts)
        )
        tags, words = ({w: tensor(f"{kind}.{w}") for w in self._sources} for kind in ("tags", "words"))
        return Seen(task=task, tags=tags, words=words, blocks=blocks, logit_scale=facts["logit_scale"])


class _Keeper:
    """In the place of a proposer: what it would make masks of, as arrays by name."""

    def __init__(self, proposer: FmwissProposer | KeptProposer, sources: Mapping[str, FmwissSource]) -> None:
        self._proposer, self._sources = proposer, sources

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[dict[str, NDArray[Any]]]:
        if isinstance(self._proposer, KeptProposer) and len(loaded) > 1:  # each image has features of its own store
            return [one for pair in zip(tasks, loaded, strict=True) for one in self.propose(pair[:1], pair[1:])]
        with torch.inference_mode():
            features, blocks = self._proposer.forward(loaded)
            assert isinstance(features, Tensor)  # the tune of Grad-CAM is refused
            made: list[dict[str, NDArray[Any]]] = [_of_blocks(blocks, row) for row in range(len(tasks))]
            for words, source in self._sources.items():
                tags, others = similarity_of(features, torch.from_numpy(source.text).to(features.device), source)
                for row, task in enumerate(tasks):
                    made[row][f"tags.{words}"] = tags[row][list(task.categories)].cpu().numpy()
                    made[row][f"words.{words}"] = others[row].cpu().numpy()
        return made


def _of_blocks(blocks: Sequence[Blocks], row: int) -> dict[str, NDArray[Any]]:
    """The blocks of one image as arrays by name; how many each network has is `blocks`."""
    arrays: dict[str, NDArray[Any]] = {"blocks": np.array([len(of_one) for of_one in blocks])}
    for network, of_one in enumerate(blocks):
        for number, block in enumerate(of_one):
            name = f"{network}.{number}"
            parts = [part[row] for part in (block.queries, block.keys, block.values) if part is not None]
            arrays[f"block.{name}"] = torch.stack(parts).permute(2, 0, 1, 3).contiguous().cpu().numpy()
            arrays[f"grid.{name}"] = np.array([block.prefix, *block.grid])
            if block.outputs is not None:
                arrays[f"outputs.{name}"] = block.outputs[row].cpu().numpy()
    return arrays


def _name(facts: str, batch: Sequence[ImageTask]) -> str:
    """What the file of a batch is called: by all that it depends on, the images' contents among it."""
    images = [(task.record.image_id, content_of(task.record, "images"), list(task.categories)) for task in batch]
    return digest_of_json([facts, images])[:32]


def _is_whole(file: Path) -> bool:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return "facts" in arrays
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
