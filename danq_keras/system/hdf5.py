"""What damaged HDF5 files raise, and room on the disk for new ones."""

import os
from pathlib import Path

import h5py

# What h5py may say of a damaged file
HDF5_DAMAGE = (OSError, LookupError, ValueError, TypeError, RuntimeError)


_METADATA_BYTES = 1 << 16  # checksums and what HDF5 adds on closing


def reserve_space(file: h5py.File, n_bytes: int) -> None:
    """Take the space of all rows of a new file now, before hours are spent on them.

    HDF5 may crash the process when a disk fills up later.

    Args:
        file: open for writing, its datasets created and empty.
        n_bytes: what their values will take.

    Raises:
        OSError: the disk has not that much; the file is as small as before.
    """
    file.flush()
    path, used = Path(file.filename), file.id.get_filesize()
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as handle:
        try:
            os.posix_fallocate(handle.fileno(), 0, used + n_bytes + _METADATA_BYTES)
        except OSError as error:
            handle.truncate(used)
            raise OSError(error.errno, error.strerror, str(path)) from error
