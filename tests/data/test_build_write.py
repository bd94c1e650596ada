"""Making the next thing while the last is used."""

import threading

import pytest

from danq_keras.system.threads import one_ahead


def test_results_come_in_order_and_one_ahead() -> None:
    begun = []

    def make(item: int) -> int:
        begun.append(item)
        return item * 10

    for results in ([], [1], [1, 2, 3, 4]):
        begun.clear()
        seen = []
        for value in one_ahead(make, results):
            seen.append(value)
            assert len(begun) <= len(seen) + 1
        assert seen == [item * 10 for item in results]
        assert begun == results


def test_the_next_is_made_while_the_last_is_used() -> None:
    second_begun = threading.Event()

    def make(item: int) -> int:
        if item == 1:
            second_begun.set()
        return item

    values = one_ahead(make, range(3))
    assert next(values) == 0
    assert second_begun.wait(timeout=10)  # although nobody has asked for it
    assert list(values) == [1, 2]


def test_an_error_reaches_the_user_at_its_place() -> None:
    def make(item: int) -> float:
        return 1 / item

    values = one_ahead(make, [1, 0, 2])
    assert next(values) == 1
    with pytest.raises(ZeroDivisionError):
        next(values)
