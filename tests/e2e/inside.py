"""Commands that run within the test's own process, where their constants can be changed under them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cdc.config.load import Config, load
from tests.helpers.pipelines import Pipeline


@contextmanager
def inside(command: Callable[[Config, threading.Event], Any], pipeline: Pipeline) -> Iterator[Callable[[], bool]]:
    """A command of `cdc.commands` works in a thread until the block ends; whether it still does. What it raised is raised at the end."""
    stop, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            command(load(pipeline.path, pipeline.environ), stop)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        stop.set()
        thread.join(60)
    for error in errors:
        raise error
