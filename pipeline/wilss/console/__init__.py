"""What the command lines of both verbs share: common options, exit codes, progress, tables. Only here is click at home.

Importing this is quick: what is heavy comes with the commands, when they run.
"""

from .options import (
    DataPlace,
    StorePlace,
    add_common_options,
    batch_size_option,
    device_option,
    is_quiet,
    manifest_option,
    manifest_option_with,
    version_option,
)
from .output import (
    FINISHED_WITH_FAILURES,
    aligned,
    finish,
    pasted,
    percent,
    require_png,
    show_figures,
    tell_failures,
    write_json,
)
from .progress import ProgressDisplay
from .running import going_on, run

__all__ = [
    "FINISHED_WITH_FAILURES",
    "DataPlace",
    "ProgressDisplay",
    "StorePlace",
    "add_common_options",
    "aligned",
    "batch_size_option",
    "device_option",
    "finish",
    "going_on",
    "is_quiet",
    "manifest_option",
    "manifest_option_with",
    "pasted",
    "percent",
    "require_png",
    "run",
    "show_figures",
    "tell_failures",
    "version_option",
    "write_json",
]
