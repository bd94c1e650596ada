"""Whether the files of an open dataset stay what they were while somebody works with them.

A file that was removed or replaced by another lives on for who has it open; one that is rewritten
in its place does not.
"""

from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.system.terminal import log


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
            split.require_whole()
            split.verify()


def _state(split: Split) -> tuple[tuple[int, int], int, int] | None:
    try:
        state = split.path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino), state.st_size, state.st_mtime_ns
