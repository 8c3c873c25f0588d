"""`read`: what somebody drew or said in another tool, as corrections of a store."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.annotations import AnnotatedImage, Annotations, ImageNames, Shape, read_annotations
from wilss.data.names import some
from wilss.data.taxonomy import VOID, closest, meaning_of, same_class
from wilss.errors import ImageError, counted
from wilss.store import LabelMaps, MaskStore, Status

from ..review import Correction, Verdict
from ..review.corrections import TIME_UNKNOWN
from .common import class_names

_Mask = NDArray[np.bool_]


def read(path: Path, store: MaskStore, form: str | None = None) -> "Reading":
    """The corrections that a file or folder of another tool holds; it is read as they are asked for.

    form: one of `wilss.data.annotations.READERS`, where it is not to be recognised. Raises ManifestError, also later,
    for a file that cannot be read at all.
    """
    return Reading(path, store, read_annotations(path, class_names(store), form))


class Reading:
    """Corrections one after the other; `problems` and `notes` are whole once the last has been given.

    problems: a sentence for everything that does not fit, image by image. notes: sentences about how the rest was read.
    An image of the file says all about the classes that the file knows: a mask that is the store's own (as stored, or
    as it is exported where masks overlap) is accepted where somebody said so, and is left as it is otherwise; another
    one is a correction; one that is gone is rejected.
    """

    def __init__(self, path: Path, store: MaskStore, annotations: Annotations) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._path, self._store, self._annotations = path, store, annotations
        self._names, self._labels = ImageNames(store.image_ids), LabelMaps(store)
        self._status = store.current_status()
        self._sizes = np.stack([store.vector("height"), store.vector("width")], axis=1)
        self._classes = _Classes(store)
        self._seen: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._gone: list[str] = []
        self._left: list[str] = []
        self._given = self._all()

    def __iter__(self) -> Iterator[Correction]:
        """Itself."""
        return self

    def __next__(self) -> Correction:
        """The next correction."""
        return next(self._given)

    def _all(self) -> Iterator[Correction]:
        for image in self._annotations.images:
            try:
                image_id = self._image_id(image)
                yield from self._of_image(image_id, image)
            except ImageError as error:
                self.problems.append(f"{self._path}: {error}")
        self._finish()

    def _finish(self) -> None:
        if not self._seen and not self.problems:
            self.notes.append(f"{self._path}: nobody has annotated an image in it; there is nothing to read.")
        for name, count in self._classes.strangers.items():
            self.problems.append(
                f"{self._path}: {name!r} is no class of {self._store.path}{closest(name, self._store.category_names)}; "
                f"its shapes in {counted(count, 'image')} are left out."
            )
        if boxes := self._counts["boxes"]:
            self.notes.append(f"{self._path}: {counted(boxes, 'box', 'boxes')} without an outline count as filled.")
        if self._gone:
            self.notes.append(
                f"{self._path}: masks of the store are missing, {_missing(self._gone)}, and count as rejected."
            )
        if self._left:
            self.notes.append(
                f"{self._path}: masks of the store are missing, {_missing(self._left)}, beside shapes of an unknown "
                "class that may be theirs; they are left as they are."
            )
        if same := self._counts["same"]:
            self.notes.append(f"{self._path}: {counted(same, 'mask')} are as in the store, and nobody judged them.")

    def _image_id(self, image: AnnotatedImage) -> str:
        """Which image of the store it is. Raises ImageError where it is none, or was there before."""
        known = image.image_id is not None and self._names.has(image.image_id)
        image_id = image.image_id if known else self._names.find(image.name)
        if image_id is None:
            raise ImageError(
                f"{image.name!r} is no image of {self._store.path}, or could be several; it is left out. Name it by "
                "its id, with folders."
            )
        if image_id in self._seen:
            raise ImageError(f"{image.name!r} is {image_id!r}, which was there before; only the first is read.")
        self._seen.add(image_id)
        return image_id

    def _of_image(self, image_id: str, image: AnnotatedImage) -> Iterator[Correction]:
        size = self._size(image_id, image)
        by_class, has_strangers = self._classes.of_shapes(image)
        stored = self._stored(image_id, size)
        for identity in self._classes.known(image):
            shapes = by_class.get(identity, [])
            try:
                drawn = self._drawn(shapes, size)
                found = self._judged(identity, shapes, drawn, stored, image)
            except (ImageError, ValueError) as error:
                self.problems.append(
                    f"{self._path}: {image_id!r}, class {self._classes.name_of(identity)}: a shape cannot be read "
                    f"({str(error).rstrip('.')}); the class is left out in this image."
                )
                continue
            if found is None:
                continue
            verdict, mask = found
            if not shapes and has_strangers:  # one of these shapes may be of this class
                self._left.append(image_id)
                continue
            if verdict == "rejected" and not shapes:
                self._gone.append(image_id)
            yield Correction(
                image_id=image_id,
                category=identity,
                verdict=verdict,
                mask=mask,
                author=image.author,
                at=image.at or TIME_UNKNOWN,
                origin=self._annotations.form,
            )

    def _size(self, image_id: str, image: AnnotatedImage) -> tuple[int, int]:
        """Height and width in the store. Raises ImageError where the file has another size, or cannot be used."""
        if image.problem is not None:
            raise ImageError(f"{image_id!r}: {image.problem.rstrip('.')}; it is left out.")
        height, width = self._sizes[self._store.position(image_id)].tolist()
        if not (height and width):
            raise ImageError(f"{image_id!r} could not be opened when {self._store.path} was made; it is left out.")
        if image.size is not None and image.size != (height, width):
            raise ImageError(
                f"{image_id!r} is {image.size[1]} x {image.size[0]} pixels there and {width} x {height} in "
                f"{self._store.path}; annotate the image in its own size. It is left out."
            )
        return height, width

    def _stored(self, image_id: str, size: tuple[int, int]) -> "_Stored":
        row = self._store.position(image_id)
        if self._status[row] != Status.DONE:
            return _Stored({}, np.zeros(size, np.uint8), np.zeros(size, np.bool_))
        masks, labels = self._labels.with_masks(row)
        ids = (self._store.category_ids[category] for category in masks.categories)
        void = np.zeros(size, np.bool_) if masks.void is None else masks.void
        return _Stored(dict(zip(ids, masks.masks, strict=True)), labels, void)

    def _drawn(self, shapes: list[Shape], size: tuple[int, int]) -> _Mask:
        drawn = np.zeros(size, np.bool_)
        for shape in shapes:
            drawn |= shape.drawn(size)
            self._counts["boxes"] += shape.kind == "box"
        if shapes and not drawn.any():
            raise ValueError("it covers no pixel")
        return drawn

    def _judged(
        self, identity: int, shapes: list[Shape], drawn: _Mask, stored: "_Stored", image: AnnotatedImage
    ) -> tuple[Verdict, _Mask | None] | None:
        """What is said of one class, and its new mask; None where nothing is."""
        if identity == VOID:
            return None if np.array_equal(drawn, stored.void) else ("corrected", drawn)
        verdicts = {shape.verdict for shape in shapes} | {image.verdict}
        if not shapes:
            return ("rejected", None) if stored.shows(identity) else None
        if "rejected" in verdicts:
            return ("rejected", None) if identity in stored.masks else None
        if not stored.equals(identity, drawn):
            return "corrected", drawn
        if "accepted" in verdicts or image.is_judged:
            return "accepted", None
        self._counts["same"] += 1
        return None


def _missing(image_ids: Sequence[str]) -> str:
    """So many masks of so many images; an image is named for each of its masks."""
    return f"{len(image_ids)} in {some(list(dict.fromkeys(image_ids)))}"


class _Stored:
    """The masks of an image in the store, by class; and its label map, in which overlaps are resolved."""

    def __init__(self, masks: Mapping[int, _Mask], labels: NDArray[np.uint8], void: _Mask) -> None:
        self.masks, self._labels, self.void = masks, labels, void

    def equals(self, identity: int, drawn: _Mask) -> bool:
        """Whether a mask is the store's, as it is stored or as it is exported without overlaps."""
        mask = self.masks.get(identity)
        return mask is not None and (np.array_equal(mask, drawn) or np.array_equal(self._labels == identity, drawn))

    def shows(self, identity: int) -> bool:
        """Whether any pixel of a class is to be seen where overlaps are resolved."""
        return bool((self._labels == identity).any())


class _Classes:
    """Which classes of the store the names in a file mean. strangers: names that mean none, and in how many images."""

    def __init__(self, store: MaskStore) -> None:
        self.strangers: Counter[str] = Counter()
        self._names = dict(zip(store.category_ids, store.category_names, strict=True))
        self._ids = {same_class(name): identity for identity, name in self._names.items()}
        self._exact = {name: identity for identity, name in self._names.items()}
        # a label map has all classes of the data: those of other steps say nothing of this one's
        self._others = {same_class(name) for name in class_names(store)}

    def name_of(self, identity: int) -> str:
        """The name of a class of the store, or of void."""
        return repr(self._names.get(identity, "void"))

    def of_shapes(self, image: AnnotatedImage) -> tuple[dict[int, list[Shape]], bool]:
        """The shapes of an image by class, and whether there are some of classes that nobody knows."""
        found: dict[int, list[Shape]] = {}
        strange = set()
        for shape in image.shapes:
            identity = self._find(shape.name)
            if identity is not None:
                found.setdefault(identity, []).append(shape)
            elif same_class(shape.name) not in self._others:
                strange.add(shape.name)
        self.strangers.update(strange)
        return found, bool(strange)

    def known(self, image: AnnotatedImage) -> list[int]:
        """The classes that an image of the file says something about, and void, if it does."""
        if image.known is None:
            has_void = any(self._find(shape.name) == VOID for shape in image.shapes)
            return [*self._names, *([VOID] if has_void else [])]
        said = {self._find(name) for name in image.known}
        return [identity for identity in (*self._names, VOID) if identity in said]

    def _find(self, name: str) -> int | None:
        identity = self._exact.get(name, self._ids.get(same_class(name)))
        return VOID if identity is None and meaning_of(name) == VOID else identity
