"""A second pass over a store: what its masks say of all images together, told to every single image.

After ModuSeg (2026): first masks are eroded, features of a frozen network are pooled inside them into a bank, outliers
are dropped, and every patch takes the vote of the features in the bank that are most like its own. What the first pass
saw in most images of a class corrects what it saw in one.

An image's own features have no vote on it: a patch is most like itself, so that every mask, wrong ones first, would
confirm itself. How much its first masks count beside the vote is a parameter, `first`.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from wilss.data.layouts import ImageRecord
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.data.names import some
from wilss.digests import digest_of_json, version_of
from wilss.disk import Location, cache_folder, location_of
from wilss.errors import ParameterError, StoreError, counted
from wilss.store import MaskStore
from wilss.store.changes import require_unchanged
from wilss.store.records import records_for

from ..stages.regions import regions_identity
from .bank_features import BankEncoders
from .bank_file import FORM, Bank, BankMaker, read_bank, write_bank
from .bank_first import FirstPass, first_pass, listed, require_first_pass
from .bank_params import BankParams
from .bank_proposer import BankProposer
from .base import Grids
from .features.kept_in import KeptIn, kept_in
from .presets import params_of

log = logging.getLogger(__name__)
_LIBRARIES = ("wilss", "torch", "timm", "open_clip_torch", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class BankSource:
    """Masks by the vote of a bank that was made of another store's masks.

    names, category_ids: of the step's classes, in the order of the category axis. records: of the first store's images
    by id; None once `prepare` has made the bank. file: where the bank is kept then, or `held` where it could not be.
    """

    name: ClassVar[str] = "bank"
    reads_labels: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 0

    params: BankParams
    networks: BankEncoders
    first: FirstPass
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    seed: int
    records: Mapping[str, ImageRecord] | None = field(default=None, repr=False, compare=False)
    file: Path | None = field(default=None, repr=False, compare=False)
    held: Bank | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> "BankSource":
        """The source for one step: the defaults, then the manifest's `masks.bank`, then `values`.

        Raises StoreError for a first store that is not complete, not of this step, these classes and these images, or
        holds pixel labels; ParameterError where none is named.
        """
        params = params_of(BankParams(), manifest, cls.name, values, where=where)
        if not params.store:
            raise ParameterError(
                "the source 'bank' goes over the masks of another store and has been given none; run `wilss-masks bank "
                "step-1.zarr --out step-1b.zarr`."
            )
        store = MaskStore.open(_place(params.store), allow_partial=True)
        ids = tuple(manifest.protocol.new(step))
        names = tuple(manifest.taxonomy.name_of(identity) for identity in ids)
        require_first_pass(store, manifest, step, dict(zip(ids, names, strict=True)))
        records = records_for(store, manifest, may_have_grown=False)
        require_unchanged(store, records)
        return cls(
            params=params,
            networks=BankEncoders(clip=manifest.encoders.clip, vit=manifest.encoders.vit, params=params),
            first=first_pass(store),
            names=names,
            category_ids=ids,
            seed=seed,
            records=records,
        )

    @property
    def has_void(self) -> bool:
        """Whether pixels may be void: those that nobody is sure of, and those of first masks that stay."""
        return self.params.has_void or self.first.has_void

    @property
    def uses_tags(self) -> bool:
        """As the first pass did."""
        return self.first.uses_tags

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """Those that the features and their spreading need."""
        return self.networks.specs

    @property
    def preparing(self) -> str:
        """What is done before the first mask, in words; "" where it is done."""
        if self.records is None:
            return ""
        return (
            f"first the bank, from a forward pass over {counted(self.first.images, 'image')} where it is not kept yet"
        )

    @property
    def reads_store(self) -> Location:
        """The store that is read, which must not be written."""
        return self.first.path

    def identity(self) -> Mapping[str, Any]:
        """Parameters, seed, networks, the first store by its seal, and what decides the bank; not where things lie."""
        return {
            "parameters": self.params.noted(),
            "seed": self.seed,
            "models": self.networks.identity(),
            "made_from": {"source": self.first.source, "seal": self.first.seal},
            "bank_sha256": self.bank_digest(),
            **regions_identity(self.params),
            **({"features_from": self._stores_of_features} if self.features_from else {}),
        }

    @property
    def features_from(self) -> tuple[KeptIn, ...]:
        """Stores whose features stand for the images that they are of."""
        return self.networks.features_from

    @property
    def _stores_of_features(self) -> list[str]:
        return [one.digest for one in self.features_from]

    def with_features_from(self, paths: Sequence[Location]) -> "BankSource":
        """The same, with the features of these stores for their images. Raises StoreError where they are of others."""
        found = kept_in(paths, self.networks.features_identity(), self.networks.identity())
        return dataclasses.replace(self, networks=dataclasses.replace(self.networks, features_from=found))

    def bank_digest(self) -> str:
        """sha256 of all that decides the bank, but for the device and the libraries, which round."""
        deciding = [FORM, self.first.digest, self.params.of_the_bank(), self.seed, self.networks.digest()]
        return digest_of_json([*deciding, list(self.names), *self._stores_of_features])

    def grids(self, height: int, width: int) -> Grids:
        """The grid on which the vote on an image of this size ends."""
        return Grids(score=self.networks.grid(height, width))

    def prepare(self, device: str) -> "BankSource":
        """Make the bank, or find it in the cache; a source that is prepared already is returned as it is."""
        if self.records is None:
            return self
        file = self._cached(device)
        bank = None if file is None else read_bank(file)
        if bank is None:
            store = self.first.open()
            maker = BankMaker(store=store, names=self.names, encoders=self.networks, params=self.params, seed=self.seed)
            bank = maker.make(self.records, device)
            file = _kept(file, bank)
            _tell_of_missing(bank)
        self._tell_of_gaps(bank)
        return dataclasses.replace(self, records=None, file=file, held=None if file else bank)

    def open(self, device: str, threads: int) -> BankProposer:
        """Load the networks and the bank on `device`."""
        import torch

        torch.set_num_threads(threads)
        source = self.prepare(device)
        bank = source.held if source.file is None else read_bank(source.file)
        if bank is None:
            raise StoreError(
                f"the bank that this run has made is not at {source.file} on this machine, or damaged; name a folder "
                "that all workers see as WILSS_CACHE, and run the same command again."
            )
        return BankProposer(source, bank.to(device), device)

    def _cached(self, device: str) -> Path | None:
        """Where the bank is kept, by all that decides it and what rounds; None where there is no home."""
        import torch

        folder = cache_folder("banks")
        rounding = [torch.device(device).type, torch.get_num_threads(), *map(version_of, _LIBRARIES)]
        return None if folder is None else folder / f"{digest_of_json([self.bank_digest(), rounding])}.bank"

    def _tell_of_gaps(self, bank: Bank) -> None:
        """A warning of classes that one image alone, or none, gave to the bank, so that there is no vote on it."""
        images = [len(set(rows.tolist())) for rows in bank.rows]
        if few := [name for name, count in zip(("background", *self.names), images, strict=True) if count < 2]:
            log.warning(
                "the bank has features of %s from one image at most; where no other image can vote on a tag, the first "
                "masks stay. Smaller --set erode and min_area leave more.",
                listed(few),
            )


def _place(word: str) -> Location:
    place = location_of(word)
    return place.expanduser() if isinstance(place, Path) else place


def _kept(file: Path | None, bank: Bank) -> Path | None:
    """The file once the bank is in it; None where it has to be held in memory.

    That is where it cannot be written, or is without some images: the file is named by the whole first store, and once
    they are back would be taken for the bank of all.
    """
    if bank.missing:
        return None
    if file is not None:
        try:
            write_bank(file, bank)
        except OSError as error:
            log.warning("the bank cannot be kept in %s (%s); it is held in memory", file.parent, error.strerror)
            return None
    return file


def _tell_of_missing(bank: Bank) -> None:
    """A warning of images whose masks no other image is compared with, since they are not there any more."""
    if bank.missing:
        log.warning(
            "the bank is without %s of the first store, which cannot be read: masks of others may come out otherwise "
            "than with them. Bring them back and make this store again with --overwrite.",
            some(bank.missing),
        )
