"""What several commands of this verb share; what both verbs share is in `wilss.console`."""

from collections.abc import Callable
from typing import Any

import click

from wilss.console import StorePlace

store_argument: Callable[..., Any] = click.argument("store", type=StorePlace())
