"""Whether the files of an open dataset stay what they were while somebody works with them.

The splits are mapped from the disk: reading past the end of a file that was cut short ends the
process with SIGBUS and not a word, so the size is looked at first. A file that was removed or
replaced by another lives on for who has it open; one that is rewritten in its place does not.
"""

import os

import numpy as np

from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.system.errors import InputError
from danq_keras.system.terminal import log


def require_whole(split: Split) -> None:
    """Make sure that the file of a split still holds all rows; costs microseconds.

    Raises:
        InputError: it was cut short.
    """
    try:
        size = os.stat(split.path).st_size  # noqa: PTH116  three times as fast, once a batch
    except OSError:  # removed: what is mapped is still there
        return
    if size < _needed(split):
        raise InputError(
            f"{split.path}: was cut short while it was read. Restore it, or build it again."
        )


def _needed(split: Split) -> int:
    mapped = (split.sequence, split.labels, split.ignore)
    ends = [each.offset + each.nbytes for each in mapped if isinstance(each, np.memmap)]
    return max(ends, default=0)


class DatasetWatch:
    """Notices when the files of an open dataset are changed.

    Args:
        dataset: open and as it should be, now.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._splits = [dataset.split(name) for name in SPLITS]
        self._states = {split.path: _state(split) for split in self._splits}

    def require_unchanged(self) -> None:
        """Make sure that what is mapped is what it was; reads all of a file that was touched.

        Raises:
            InputError: a file was changed in its place.
        """
        for split in self._splits:
            before, now = self._states[split.path], _state(split)
            if now == before:
                continue
            self._states[split.path] = now
            if before is None or now is None or now[0] != before[0]:
                log.warning("%s: was removed or replaced; the old file is read on.", split.path)
                continue
            require_whole(split)
            split.verify()


def _state(split: Split) -> tuple[tuple[int, int], int, int] | None:
    try:
        state = split.path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino), state.st_size, state.st_mtime_ns
