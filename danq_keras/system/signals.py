"""Ctrl-C and SIGTERM: honoured between two steps, or held back for a moment."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Self

from danq_keras.system.errors import Terminated
from danq_keras.system.terminal import log


class Interruption:
    """Turns Ctrl-C and SIGTERM into a request that a loop honours between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: stop at once
            raise KeyboardInterrupt
        self.signal = number
        log.info("Stopping after this step; the state is saved. (Again to stop at once.)")

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_error(self) -> NoReturn:
        """End the command as its signal asks."""
        if self.signal == signal.SIGTERM:
            raise Terminated
        raise KeyboardInterrupt


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block.

    For short work that must not be half-done, or in which the exception would be lost: HDF5 turns
    one that is raised while it converts text into an error of its own. Does nothing outside the
    main thread, which no signal interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _frame: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])
