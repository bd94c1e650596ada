"""Effects read back: what is not what it should be is one line."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from danq_keras.system.errors import InputError
from danq_keras.variants.reader import FORMAT, read_effects


def write(path: Path, **changed: object) -> Path:
    """Two variants of one target; `changed` datasets are replaced, or left out where None."""
    text = np.array(["x", "y"], object)
    content = {
        **dict.fromkeys(("chrom", "id", "ref", "alt"), text),
        "pos": np.array([3, 5]),
        "ref_pred": np.array([[0.0], [0.5]], np.float32),
        "alt_pred": np.array([[1.0], [0.25]], np.float32),
        "targets": np.array(["t"], object),
    } | changed
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
        file.attrs.update({"format": FORMAT, "model_fingerprint": "m", "strands": "both"})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    effects = read_effects(write(tmp_path / "e.h5"))
    assert effects.chrom.tolist() == ["x", "y"]
    assert effects.pos.tolist() == [3, 5]
    assert effects.ref_pred.tolist() == [[0.0], [0.5]]
    assert effects.alt_pred.tolist() == [[1.0], [0.25]]
    assert (effects.targets, effects.model, effects.strands) == (("t",), "m", "both")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alt_pred": np.array([[0.5], [np.nan]])}, "'alt_pred' must hold prob.* in row 1. Score"),
        ({"ref_pred": np.array([[1.5], [0.5]])}, "'ref_pred' must hold prob.* in row 0. Score"),
        ({"ref_pred": np.zeros((2, 2))}, r"each target, \(2, 1\). Received: \(2, 2\). Score"),
        ({"alt_pred": np.zeros(2)}, r"Received: \(2,\)"),
        ({"alt_pred": None}, "not a readable file of effects"),
        ({"pos": np.array([], np.int64)}, "no variants in it"),
    ],
)
def test_what_is_wrong_is_one_line(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_effects(write(tmp_path / "e.h5", **changed))
    assert str(caught.value).startswith(str(tmp_path / "e.h5"))
    assert "\n" not in str(caught.value)
