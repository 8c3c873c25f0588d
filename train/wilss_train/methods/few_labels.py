"""What the methods for few labelled images share: step 0 alone, the list of labelled images, and how many at a time."""

from wilss.errors import CheckpointError, ParameterError

from ..context import RunContext
from ..data.semi.labelled import Labelled, list_path, read_labelled
from ..inputs import RunInputs


def require_first_step(method: str, inputs: RunInputs) -> None:
    """Raise CheckpointError for a step that must not forget."""
    if inputs.step:
        raise CheckpointError(
            f"{method} trains step 0, and {inputs.store.path} holds masks of step {inputs.step}, which "
            "must not forget; take --method fmwiss for it."
        )


def chosen_images(labelled: str, inputs: RunInputs, *, lone: str) -> Labelled:
    """The images that the list `labelled` names, and the others.

    lone: what to do where there are no others, "" where that is allowed. Raises ParameterError for a list of no use.
    """
    path = list_path(labelled, inputs.manifest)
    chosen = read_labelled(path, inputs.store, inputs.manifest, inputs.step, inputs.records)
    if lone and not len(chosen.others):
        raise ParameterError(
            f"{labelled} names every image of {inputs.store.path}, so there is none left to learn from without a "
            f"label; shorten the list, or {lone}."
        )
    return chosen


def labelled_batch(count: int, context: RunContext) -> int:
    """Labelled images of an optimiser step over all processes, two at least for each of its parts.

    count: what was asked for, 0 for as many as others. Raises ParameterError.
    """
    count, parts = count or context.params.batch_size, context.world * context.params.accumulate
    if count % parts or count < 2 * parts:
        raise ParameterError(
            f"labelled_batch is {count}, which {context.world} processes and "
            f"accumulate={context.params.accumulate} do not share evenly with two images each; "
            "make it a multiple of both."
        )
    return count
