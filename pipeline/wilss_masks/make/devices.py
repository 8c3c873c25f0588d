"""Whether a run has what it asks for: devices that are there, and a scheduler that may be talked to."""

from wilss.errors import ParameterError
from wilss.models.devices import require_device_word, resolve_device

from .cluster import require_usable_address
from .options import Options

__all__ = ["require_means"]


def require_means(options: Options) -> None:
    """Refuse devices that are not there and a scheduler that must not be talked to, before anything is done."""
    cluster = options.cluster
    if cluster.is_elsewhere:
        require_usable_address(cluster)
    require_device_word(options.device)
    if options.device != "auto" and not cluster.is_elsewhere:
        resolve_device(options.device)
    said = f"--devices {','.join(map(str, cluster.devices))}"
    if cluster.devices and options.device == "cpu":
        raise ParameterError(f"{said} and --device cpu ask for different things; leave one of them out.")
    for index in cluster.devices:
        if index < 0 or cluster.devices.count(index) > 1:
            raise ParameterError(f"{said} is no list of different GPUs; name each once, as in --devices 0,1.")
        resolve_device(f"cuda:{index}", said)
