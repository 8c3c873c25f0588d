"""What a call of `generate` would do with the store that is there, for `--dry-run`; nothing is written."""

from wilss.disk import is_there
from wilss.errors import counted
from wilss.store import MaskStore

from .generate import noted
from .options import Options
from .plan import MaskPlan
from .request import Request
from .resume import compatible, failed_shards, is_finished, is_of, require_compared, require_whole
from .update import carried_shards


def outlook(request: Request, plan: MaskPlan, *, can_compare: bool = True) -> str:
    """A line. Raises StoreError where `generate` would refuse the store that is there, in the same words.

    can_compare: whether all that the source's identity is made of is here, so that nothing need be fetched for it.
    """
    path, options = request.path, request.options
    if not is_there(path):
        return f"would write {path}{_of_part(options, plan)}"
    if options.overwrite:
        MaskStore.open(path, allow_partial=True)  # refuses to throw away what is no mask store
        return f"would throw {path} away and make all of it again"
    if not can_compare:
        return f"{path} is there; whether it was made with the same is seen when that is fetched"
    request = noted(request)
    store = compatible(request)
    if store is None:
        return f"would write {path}"
    comparison, has_changed = require_compared(store, request)
    if has_changed or not is_of(store, request):
        kept = 0 if comparison is None else len(carried_shards(store, plan, comparison))
        return _parts(f"would update {path}", kept, plan.layout.num_shards)
    if is_finished(store, options):
        require_whole(store)
        return f"{path} is complete already; there is nothing to do"
    shards, to_make = store.layout.num_shards, {*store.shards_to_make()} | failed_shards(store, options)
    return _parts(f"would go on with {path}", shards - len(to_make), shards) + _of_part(options, plan)


def _of_part(options: Options, plan: MaskPlan) -> str:
    """What a part would make first, "" where no part is asked for."""
    if options.part is None:
        return ""
    shards = plan.layout.num_shards
    own = len(range(options.part.index - 1, shards, options.part.count))
    return (
        f"; part {options.part}: {own} of {counted(shards, 'shard')} {'is' if own == 1 else 'are'} its own, then what "
        "others have left"
    )


def _parts(what: str, kept: int, shards: int) -> str:
    stay = "stays" if shards == 1 or kept == 1 else "stay"
    return f"{what}: {kept} of {counted(shards, 'shard')} {stay}, {shards - kept} would be made"
