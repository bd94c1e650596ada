"""Writes in a second thread: their order, their errors, and what is not begun after one."""

import threading

import pytest

from danq_keras.system.threads import WriteBehind


def fail() -> None:
    raise OSError(28, "No space left on device")


def test_written_in_order_while_the_caller_goes_on() -> None:
    written: list[int] = []
    go_on = threading.Event()
    files = WriteBehind(most=3)
    files.submit(lambda: go_on.wait(10))
    for number in (1, 2):
        files.submit(lambda number=number: written.append(number))  # type: ignore[misc]
    assert written == []
    go_on.set()
    files.wait()
    assert written == [1, 2]


def test_one_too_many_waits_for_the_first() -> None:
    written: list[int] = []
    files = WriteBehind(most=1)
    for number in range(5):
        files.submit(lambda number=number: written.append(number))  # type: ignore[misc]
        assert len(written) >= number
    files.wait()
    assert written == [0, 1, 2, 3, 4]


def test_after_a_failure_nothing_is_begun_and_the_next_call_raises_it_once() -> None:
    written: list[int] = []
    go_on = threading.Event()
    files = WriteBehind(most=3)
    files.submit(lambda: go_on.wait(10))
    files.submit(fail)
    files.submit(lambda: written.append(1))
    go_on.set()
    with pytest.raises(OSError, match="No space"):
        files.wait()
    assert written == []
    files.submit(lambda: written.append(2))
    files.wait()
    assert written == [2]


def test_a_block_waits_and_its_own_error_counts() -> None:
    written: list[int] = []
    files = WriteBehind()
    with files:
        files.submit(lambda: written.append(1))
    assert written == [1]

    def in_a_block() -> None:
        with files:
            files.submit(fail)
            files.submit(lambda: written.append(2))
            raise KeyError

    with pytest.raises(KeyError):
        in_a_block()
    with pytest.raises(OSError, match="No space"), files:
        files.submit(fail)
    assert written == [1]


def test_a_failure_is_told_when_it_is_known() -> None:
    files = WriteBehind()
    files.submit(fail)
    files._pool.submit(int).result()  # until the thread has come past it
    with pytest.raises(OSError, match="No space"):
        files.check()
    files.check()
