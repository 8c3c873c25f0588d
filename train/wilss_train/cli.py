"""`wilss-train`, `wilss-eval`, `wilss-predict`, `wilss-memory`: each a command of its own, imported when it is used."""

import importlib

from wilss import console


def train(arguments: list[str] | None = None) -> None:
    """Run `wilss-train`, and exit."""
    _run("train", "wilss-train", "WILSS_TRAIN", arguments)


def evaluate(arguments: list[str] | None = None) -> None:
    """Run `wilss-eval`, and exit."""
    _run("evaluate", "wilss-eval", "WILSS_EVAL", arguments)


def predict(arguments: list[str] | None = None) -> None:
    """Run `wilss-predict`, and exit."""
    _run("predict", "wilss-predict", "WILSS_PREDICT", arguments)


def memory(arguments: list[str] | None = None) -> None:
    """Run `wilss-memory`, and exit."""
    _run("memory", "wilss-memory", "WILSS_MEMORY", arguments)


def _run(module: str, prog_name: str, env_prefix: str, arguments: list[str] | None) -> None:
    command = importlib.import_module(f"wilss_train.commands.{module}").command
    console.run(command, prog_name=prog_name, package="wilss_train", env_prefix=env_prefix, arguments=arguments)
