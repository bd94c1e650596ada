"""Targets of a store: how a user names them, and what they must be."""

import pytest

from danq_keras.data.targets import Targets
from danq_keras.system.errors import InputError

NAMES = Targets(
    ("K562|CTCF|None", "K562|CTCF|None#2", "K562|NRSF|None", "8988T|DNase|None", "REB1#2")
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("2", 2),
        ("0", 0),
        ("K562|NRSF|None", 2),
        ("K562|CTCF|None#2", 1),
        ("REB1", 4),  # a stem that is not repeated
        (" REB1", 4),  # of "A, REB1"
    ],
)
def test_find_by_number_name_or_stem(wanted: str, expected: int) -> None:
    assert NAMES.find([wanted]) == [expected]


def test_find_keeps_the_wanted_order() -> None:
    assert NAMES.find(["3", "REB1", "0"]) == [3, 4, 0]
    assert NAMES.find([]) == []


def test_find_prefers_names_to_numbers() -> None:
    assert Targets(("2", "1", "0")).find(["2", "0"]) == [0, 2]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            ["K562|CTCF|None"],
            "Target 'K562|CTCF|None' fits several: 0 (K562|CTCF|None), 1 (K562|CTCF|None#2). "
            "Use the number.",
        ),
        (["5"], "Target number 5 is not in 0 … 4."),
        (["K562|NRFS|None"], "Unknown target 'K562|NRFS|None'. Nearest: K562|NRSF|None"),
        (["-1"], "Unknown target '-1'. They are "),
        (["2", "K562|NRSF|None"], "Target 'K562|NRSF|None' is named twice."),
    ],
)
def test_find_refuses(wanted: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        NAMES.find(wanted)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_subset_keeps_columns_together() -> None:
    targets = Targets(
        tuple(f"t{i}" for i in range(11)),
        cell_type=tuple(f"cell{i}" for i in range(11)),
        group=("",) * 10 + ("TF é",),
    )
    subset = targets.subset([10, 0])
    assert subset.names == ("t10", "t0")
    assert subset.cell_type == ("cell10", "cell0")
    assert subset.group == ("TF é", "")
    assert len(subset) == 2


def test_names_must_be_unique() -> None:
    with pytest.raises(InputError, match=r"must be unique\. Received twice: a, b\."):
        Targets(("b", "a", "c", "a", "b"))


def test_columns_must_be_complete() -> None:
    with pytest.raises(ValueError, match="assay has 1 values for 2 targets"):
        Targets(("a", "b"), assay=("x",))
