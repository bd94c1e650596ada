"""How the cores are dealt out to the runs of a set."""

from pathlib import Path

import pytest

from danq_keras.runs import processes
from danq_keras.runs.processes import RunOrder, run_all


@pytest.mark.parametrize(("n_runs", "at_once", "shares"), [(1, 2, [1]), (3, 2, [2, 2, 2])])
def test_no_core_waits_for_a_run_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_runs: int, at_once: int, shares: list[int]
) -> None:
    seen: list[int] = []

    class Ended:
        status = 0

        def __init__(self, order: RunOrder, *, at_once: int) -> None:
            assert order in orders
            seen.append(at_once)

        def has_ended(self) -> bool:
            return True

    monkeypatch.setattr(processes, "_Process", Ended)
    orders = [RunOrder(tmp_path / f"seed-{number}", "{}") for number in range(n_runs)]
    assert run_all(orders, at_once=at_once) == 0
    assert seen == shares
