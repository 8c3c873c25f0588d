"""Every error that wilss raises on purpose: one sentence that names the file and says how to fix it.

Only the command lines turn these into exit codes; everything else lets them pass.
"""


class WilssError(Exception):
    """Base of all errors that a user can fix; its text is shown as it is, without a traceback."""


class ManifestError(WilssError):
    """The manifest, or a list or annotation file that it names, is wrong."""


class ProtocolError(WilssError):
    """A step, class or setting that the protocol does not have."""


class OneImageError(WilssError):
    """One image alone is at fault: it is named and left out, and the run goes on with the others.

    This is what handlers of single images catch, and nothing wider: a server that does not answer, or a store that was
    removed, says nothing of the image that was asked for.
    """


class ImageError(OneImageError):
    """An image, its label or a map of it cannot be used."""


class SupportError(ManifestError, OneImageError):
    """What an annotated image is said to show does not fit it."""


class StoreError(WilssError):
    """A mask store is missing, damaged, locked, or made with something else."""


class MasksError(StoreError, OneImageError):
    """The masks or maps that a store holds of one image cannot be read."""


class UnreachableError(StoreError):
    """A server does not answer, or refuses: nothing is known of any image, so none may be left out because of it."""


class WeightsError(WilssError):
    """Weights are missing, of the wrong shape or digest, or not finite."""


class EncoderError(WilssError):
    """An encoder that has no dense path, or that the options do not fit."""


class ParameterError(WilssError):
    """A parameter or option that nothing has, or a value that it cannot have."""


class CheckpointError(WilssError):
    """A checkpoint is missing, damaged, or of another taxonomy or protocol."""


class TrainingError(WilssError):
    """Training cannot go on: a loss that is not a number, memory that does not suffice."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things as it stands in a sentence: "1 image", "2 images". plural: where it takes more than an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def first_line(error: BaseException | None) -> str:
    """What an exception says, short enough to stand inside a sentence; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
