"""Work done ahead or behind in a thread of its own, and how many threads there are."""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

Item = TypeVar("Item")
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, none of them None, the next being made in another thread meanwhile."""
    with contextlib.closing(one_ahead(lambda _: next(items, None), itertools.repeat(None))) as made:
        yield from itertools.takewhile(lambda item: item is not None, made)


def one_ahead(make: Callable[[_In], _Out], items: Iterable[_In]) -> Generator[_Out]:
    """`make` of each item, in order; a second thread makes the next one meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming: Future[_Out] | None = None
        for item in items:
            ready, coming = coming, pool.submit(make, item)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


class WriteBehind:
    """Writes in a second thread, one after the other, in the order in which they were asked for.

    What comes after a write that failed is not begun: it may speak of what is not there. The error
    is raised by the next call, here, where something can be done about it.

    Args:
        most: writes that may be open; one more waits for the first of them.
    """

    def __init__(self, *, most: int = 2) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._open: deque[Future[None]] = deque()
        self._most = most
        self._failed = False

    def submit(self, write: Callable[[], object]) -> None:
        """Have something written; it must own its data, since the caller goes on.

        Raises:
            Exception: of an earlier write; this one is then not begun.
        """
        self.check()
        while len(self._open) >= self._most:
            self._first()
        self._open.append(self._pool.submit(self._unless_failed, write))

    def check(self) -> None:
        """Raise the error of a write that has failed by now.

        Raises:
            Exception: of the first that did.
        """
        while self._open and self._open[0].done():
            self._first()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait; where the block ends with an error, that one counts."""
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self.wait()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: of the first write that failed.
        """
        while self._open:
            self._first()

    def _unless_failed(self, write: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise

    def _first(self) -> None:
        try:
            self._open.popleft().result()
        except Exception:
            while self._open:
                self._open.popleft().result()
            self._failed = False
            raise


def n_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
