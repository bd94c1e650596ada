"""The targets of a dataset: their names, what they are, and how a user's words find them.

Names are unique; a name that a dataset had to number (`name`, `name#2`, …) fits several targets
and is never taken for the first. Nothing here knows files.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from danq_keras.system.errors import InputError, shorten
from danq_keras.system.names import refuse_control

TargetChoice: TypeAlias = str | int | Sequence[str | int]

TARGET_COLUMNS = ("cell_type", "assay", "treatment", "group")


@dataclass(frozen=True)
class Targets:
    """The targets of a dataset, in the order of the label bits.

    `names` are unique; each other column is empty or has one text a target ("" where unknown).
    """

    names: tuple[str, ...]
    cell_type: tuple[str, ...] = ()
    assay: tuple[str, ...] = ()
    treatment: tuple[str, ...] = ()
    group: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise InputError(
                f"Target names must be unique. Received twice: {', '.join(repeated[:5])}. "
                "Rename one of each pair."
            )
        refuse_control(self.names, None, "target")
        for column in TARGET_COLUMNS:
            values = getattr(self, column)
            refuse_control(values, None, f"target's {column}")
            if values and len(values) != len(self.names):
                raise ValueError(
                    f"{column} has {len(values)} values for {len(self.names)} targets."
                )

    def __len__(self) -> int:
        return len(self.names)

    def column(self, name: str) -> tuple[str, ...]:
        """Values of one of `TARGET_COLUMNS`, "" for each target where the dataset has none."""
        values: tuple[str, ...] = getattr(self, name)
        return values or ("",) * len(self)

    def subset(self, indices: Sequence[int]) -> "Targets":
        """The targets at `indices`, in that order."""
        return Targets(
            tuple(self.names[i] for i in indices),
            *(tuple(self.column(column)[i] for i in indices) for column in TARGET_COLUMNS),
        )

    def find(self, wanted: TargetChoice) -> list[int]:
        """Numbers of the targets that a user names by number, by name, or by unrepeated stem.

        Args:
            wanted: one or several of 0-based numbers, also as text, or names; blanks around them do
                not count. A name that the dataset had to number (`name`, `name#2`, …) fits several
                targets and is refused.

        Raises:
            InputError: a target is unknown, ambiguous or named twice.
        """
        found: list[int] = []
        for text in [wanted] if isinstance(wanted, str | int | np.integer) else wanted:
            index = self._find_one(str(text).strip())
            if index in found:
                raise InputError(f"Target {text!r} is named twice. Name each target once.")
            found.append(index)
        return found

    def _find_one(self, text: str) -> int:
        stem_matches = [
            i for i, name in enumerate(self.names) if name == text or name.split("#")[0] == text
        ]
        if len(stem_matches) > 1:
            listed = ", ".join(f"{i} ({self.names[i]})" for i in stem_matches)
            raise InputError(f"Target {text!r} fits several: {listed}. Use the number.")
        if stem_matches:
            return stem_matches[0]
        if text.isdecimal() and int(text) < len(self):
            return int(text)
        if text.isdecimal():
            raise InputError(f"Target number {text} is not in 0 … {len(self) - 1}.")
        nearest = difflib.get_close_matches(text, self.names, n=3, cutoff=0.3)
        hint = f"Nearest: {', '.join(nearest)}" if nearest else f"They are {shorten(self.names, 5)}"
        raise InputError(f"Unknown target {text!r}. {hint}.")
