"""`wilss-train`, `wilss-eval`, `wilss-predict`, `wilss-memory`: each a command of its own, imported when it is used."""

import importlib
from collections.abc import Callable

from wilss import console


def _program(prog_name: str, module: str) -> Callable[..., None]:
    """The function that runs a program and exits; options have environment variables such as WILSS_TRAIN_EPOCHS."""

    def main(arguments: list[str] | None = None) -> None:
        command = importlib.import_module(f"wilss_train.commands.{module}").command
        prefix = prog_name.upper().replace("-", "_")
        console.run(command, prog_name=prog_name, package="wilss_train", env_prefix=prefix, arguments=arguments)

    return main


train = _program("wilss-train", "train")
evaluate = _program("wilss-eval", "evaluate")
predict = _program("wilss-predict", "predict")
memory = _program("wilss-memory", "memory")
