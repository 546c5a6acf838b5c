"""Work that goes on in a thread of its own meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Background"]

T = TypeVar("T")


class Background(Generic[T]):
    """A value that is computed in a thread, from now on. (The executors of concurrent.futures take long to import.)"""

    def __init__(self, work: Callable[[], T]):
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the value is asked for
            self._error = error

    def wait(self) -> None:
        """Returns when it is done, well or not."""
        self._thread.join()

    def result(self) -> T:
        """The value, once it is there. Raises what computing it raised."""
        self.wait()
        if hasattr(self, "_error"):
            raise self._error
        return self._value
