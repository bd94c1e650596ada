"""Ctrl-C, SIGTERM and SIGHUP: noted when they arrive, honoured where nothing is half-done.

A handler that raises does so in the middle of anything: inside a library's callback the exception
is lost, or becomes an error of the library. Here a handler notes the request and no more.
`check_stop` raises it; it is called between two steps, batches or blocks, and by every progress
bar. A command that calls it nowhere for `GRACE_SECONDS` is interrupted wherever it is, again and
again until it ends.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Self

from danq_keras.system.errors import Terminated

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 2.0
"""After a request: until a command is interrupted wherever it is."""
_AGAIN_SECONDS = 10.0  # until it is interrupted once more: its clearing up takes time too
_NOTICE = "Stopping after this step; the state is saved. (Again to stop at once.)"

_active: list["Interruption"] = []  # innermost last
_held: list[None] = []  # one for each block of `signals_deferred` under way


class Interruption:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a request, which the block inside honours.

    `signal` is the request, None before it comes. A second one ends the block at once; a third one
    ends the process. SIGHUP stays ignored where it is, as below `nohup`. Outside the main thread,
    which alone gets signals, nothing is ever requested.

    Args:
        raises: whether `check_stop` raises the request, also by itself after a while and at the
            end of the block; else the block looks at `signal`.
        notice: line for the terminal when the request comes; "" for none.
    """

    def __init__(self, *, raises: bool = False, notice: str = _NOTICE) -> None:
        self.signal: int | None = None
        self._raises = self._insists = raises
        self._notice = notice
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        check_stop()  # what was asked of the block around this one
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._request)
        if self._insists:
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._insist)
        _active.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self not in _active:
            return
        if self._insists:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _active.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.signal is None:
            return
        for outer in _active:  # what comes of this error on its way out is known there
            outer.signal = outer.signal or self.signal
        if self._insists and kind is not SystemExit:
            self.raise_error()  # also where it was lost, or became an error of a library

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            with contextlib.suppress(OSError):  # not logged: a handler may interrupt a log's line
                os.write(2, f"{self._notice}\n".encode() if self._notice else b"")
            if self._insists:
                signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS, _AGAIN_SECONDS)
        elif number == self.signal or signal.SIGHUP not in (number, self.signal):
            # SIGTERM and SIGHUP together are one request: a system that shuts down sends both
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt

    def _insist(self, _number: int, _frame: FrameType | None) -> None:
        if _active and _active[-1] is self and not _held:
            self.raise_error()

    def check(self) -> None:
        """Raise the request, where this is the place to do so.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            Terminated: SIGTERM or SIGHUP.
        """
        if self.signal is not None and self._raises:
            if self._insists:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self.raise_error()

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Let `check_stop` raise the request inside this block, which can be left anywhere."""
        before, self._raises = self._raises, True
        try:
            yield
        finally:
            self._raises = before

    def raise_error(self) -> NoReturn:
        """End the command as its signal asks.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            Terminated: SIGTERM or SIGHUP.
        """
        if self.signal in (signal.SIGTERM, signal.SIGHUP):
            raise Terminated(self.signal)
        raise KeyboardInterrupt


def check_stop() -> None:
    """Raise a request to stop that has come, see `Interruption`; a place where that is safe.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        Terminated: SIGTERM or SIGHUP.
    """
    if _active and threading.current_thread() is threading.main_thread():
        _active[-1].check()


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of the block.

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
        for number in STOP_SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    _held.append(None)
    try:
        yield
    finally:
        _held.pop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])
        check_stop()
