"""The notebooks run from the first cell to the last, and are committed with what they show.

Their trainings are cut to two epochs here; nothing else of a cell is changed.
"""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_small_and_show_their_output(path):
    assert path.stat().st_size < MOST_BYTES
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.long if number else ())
        for number, path in enumerate(NOTEBOOKS)
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_they_run(path, tmp_path):
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.source = re.sub(r'"epochs": \d+', '"epochs": 2', cell.source)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
