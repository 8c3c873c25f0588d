"""Which classes come at which step: the only home of class arithmetic.

Ids are places in the taxonomy; channels are places in `seen(t)`, that is background first, then the classes
in
the order in which they were learnt. Nothing else in wilss turns one into the other.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from wilss.data.names import composed
from wilss.data.taxonomy import BACKGROUND, COCO, VOC, VOID, Taxonomy, closest
from wilss.errors import ProtocolError

Setting = Literal["overlap", "disjoint"]


@dataclass(frozen=True, kw_only=True)
class StepProtocol:
    """The steps of class-incremental learning.

    steps: the new classes of every step, taxonomy ids without background, no class twice.
    setting: `overlap` gives a step every image that holds one of its new classes; `disjoint` only those that
        hold nothing that comes later (or never).
    Raises ProtocolError where the steps make no sense.
    """

    name: str
    taxonomy: Taxonomy
    steps: tuple[tuple[int, ...], ...]
    setting: Setting = "overlap"

    def __post_init__(self) -> None:
        """Refuse steps without classes, unknown classes and classes that come twice."""
        if self.setting not in ("overlap", "disjoint"):
            raise ProtocolError(f"setting {self.setting!r} is neither overlap nor disjoint; choose one.")
        if not self.steps:
            raise ProtocolError(f"the protocol {self.name} has no steps; name the classes of at least one.")
        first_step: dict[int, int] = {}
        for step, classes in enumerate(self.steps):
            if not classes:
                raise ProtocolError(f"step {step} of {self.name} has no classes; name some, or drop the step.")
            for identity in classes:
                self._check_class(identity, step, first_step)

    def _check_class(self, identity: int, step: int, first_step: dict[int, int]) -> None:
        if identity == BACKGROUND:
            raise ProtocolError(f"step {step} of {self.name} lists background (0), which every step has; leave it out.")
        if not 0 < identity < len(self.taxonomy.class_names):
            last = len(self.taxonomy.class_names) - 1
            raise ProtocolError(
                f"step {step} of {self.name} lists class {identity}, but {self.taxonomy.name} has 1 to {last}."
            )
        if identity in first_step:
            raise ProtocolError(
                f"step {step} of {self.name} lists class {identity} ({self.taxonomy.name_of(identity)}), which came "
                f"at step {first_step[identity]} already; list it once."
            )
        first_step[identity] = step

    @property
    def num_steps(self) -> int:
        """How many steps there are, the base step 0 included."""
        return len(self.steps)

    def new(self, step: int) -> tuple[int, ...]:
        """The ids that come at `step`, without background."""
        self._check_step(step)
        return self.steps[step]

    def old(self, step: int) -> tuple[int, ...]:
        """The ids that came before `step`, without background."""
        self._check_step(step)
        return tuple(identity for classes in self.steps[:step] for identity in classes)

    def later(self, step: int) -> tuple[int, ...]:
        """The ids that come after `step`, without background: held out from a network that has learnt `step`."""
        self._check_step(step)
        return tuple(identity for classes in self.steps[step + 1 :] for identity in classes)

    def seen(self, step: int) -> tuple[int, ...]:
        """The ids of all channels after `step`: background, then old, then new."""
        return (BACKGROUND, *self.old(step), *self.new(step))

    def new_channels(self, step: int) -> tuple[int, ...]:
        """The channels of `new(step)`."""
        first = 1 + len(self.old(step))
        return tuple(range(first, first + len(self.new(step))))

    def old_channels(self, step: int) -> tuple[int, ...]:
        """The channels that a network had before `step`, background's channel 0 included."""
        return tuple(range(1 + len(self.old(step))))

    def channel_of(self, identity: int, step: int) -> int:
        """The channel of a class, or of background, in a network that has learnt `step`."""
        return self.seen(step).index(identity)

    def admits(self, classes: Collection[int], step: int) -> bool:
        """Whether an image that holds `classes` (ids; background and void do not count) belongs to `step`."""
        if not any(identity in classes for identity in self.new(step)):
            return False
        return self.setting == "overlap" or self._holds_nothing_later(classes, step)

    def lacks(self, classes: Collection[int], step: int) -> bool:
        """Whether an image that holds `classes`, and nothing else, is one of `step` without any of its new classes."""
        if any(identity in classes for identity in self.new(step)):
            return False
        return self.setting == "overlap" or self._holds_nothing_later(classes, step)

    def _holds_nothing_later(self, classes: Collection[int], step: int) -> bool:
        seen = self.seen(step)
        return all(identity in seen for identity in classes if identity != VOID)

    def difference(self, other: "StepProtocol", step: int, *, here: str, there: str) -> str | None:
        """The first class or step, of those up to `step`, in which `other` is not the same; None where all are.

        What comes after `step` may be other classes, more or fewer: nothing was learnt of them. here, there: what the
        phrase calls this protocol's owner and the other's, such as "the manifest".
        """
        ours, theirs = self.taxonomy.class_names, dict(enumerate(other.taxonomy.class_names))
        for identity in sorted(self.seen(step)):
            if composed(ours[identity]) != composed(theirs.get(identity, "")):
                their = repr(theirs[identity]) if identity in theirs else "unknown"
                return f"class {identity} is {ours[identity]!r} to {here} and {their} to {there}"
        for number, (our_new, their_new) in enumerate(zip(self.steps[: step + 1], other.steps, strict=False)):
            if our_new != their_new:
                names = [
                    ", ".join(map(protocol.taxonomy.name_of, new))
                    for protocol, new in ((self, our_new), (other, their_new))
                ]
                return f"step {number} brings {names[0]} to {here} and {names[1]} to {there}"
        if other.num_steps <= step:
            return f"{here} has learnt step {step}, and {there}'s last step is {other.num_steps - 1}"
        return None

    def _check_step(self, step: int) -> None:
        if not 0 <= step < self.num_steps:
            steps = f"steps are 0 to {self.num_steps - 1}" if self.num_steps > 1 else "only step is 0"
            raise ProtocolError(f"the protocol {self.name} has no step {step}; its {steps}.")


def _sizes(*sizes: int) -> tuple[tuple[int, ...], ...]:
    """Ids 1, 2, ... cut into steps of these sizes."""
    starts = [1 + sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=True))


def _fold(number: int) -> tuple[tuple[int, ...], ...]:
    """PASCAL-5i (Shaban et al. 2017): five of twenty classes in the order of their ids, held out from the others."""
    held_out = tuple(range(1 + 5 * number, 6 + 5 * number))
    return tuple(identity for identity in range(1, 21) if identity not in held_out), held_out


def _coco_voc() -> tuple[tuple[int, ...], ...]:
    voc = tuple(identity for name in VOC.class_names[1:] if (identity := COCO.find(name)) is not None)
    return tuple(identity for identity in COCO.class_ids if identity not in voc), voc


#: The protocols of the field, as the new ids of every step. `coco-voc` is for COCO's 80 classes: the 60 that
#: VOC lacks,
#: then VOC's 20 in VOC's order. The others are for 20 classes, VOC's or the built-in ones; `5i-0` to `5i-3` are the
#: folds of few-shot segmentation.
PRESETS: dict[str, tuple[tuple[int, ...], ...]] = {
    "19-1": _sizes(19, 1),
    "15-5": _sizes(15, 5),
    "15-1": _sizes(15, 1, 1, 1, 1, 1),
    "10-10": _sizes(10, 10),
    "10-5": _sizes(10, 5, 5),
    "10-2": _sizes(10, 2, 2, 2, 2, 2),
    "coco-voc": _coco_voc(),
    **{f"5i-{number}": _fold(number) for number in range(4)},
}


def preset(name: str, taxonomy: Taxonomy, setting: Setting = "overlap") -> StepProtocol:
    """A protocol of the field by its name. Raises ProtocolError if `taxonomy` has another number of classes."""
    if name not in PRESETS:
        raise ProtocolError(f"there is no protocol {name!r}{closest(name, PRESETS)}.")
    steps, have = PRESETS[name], len(taxonomy.class_names) - 1
    wanted = sum(len(classes) for classes in steps)
    if wanted != have or (name == "coco-voc" and taxonomy.class_names != COCO.class_names):
        raise ProtocolError(
            f"the protocol {name} is for {'COCO' if name == 'coco-voc' else 'a data set'} with {wanted} classes, but "
            f"{taxonomy.name} has {have} or other ones; write its `steps` out instead."
        )
    return StepProtocol(name=name, taxonomy=taxonomy, steps=steps, setting=setting)


def name_of_steps(steps: Iterable[Collection[int]]) -> str:
    """The field's name of these steps if they are a preset's, else their sizes: "12-4-4"."""
    wanted = tuple(tuple(classes) for classes in steps)
    known = {preset_steps: name for name, preset_steps in reversed(PRESETS.items())}  # 15-5 is 5i-3, too
    return known.get(wanted, "-".join(str(len(classes)) for classes in wanted))
