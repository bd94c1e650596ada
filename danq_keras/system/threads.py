"""Work done one step ahead in a thread of its own, and how many threads there are."""

import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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


def n_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
