"""Files and pipes as inputs, and names that come from outside."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from danq_keras.data.targets import Targets
from danq_keras.system.errors import InputError
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import identity, input_file, is_pipe, refuse_pipe
from danq_keras.system.names import printable, refuse_control
from danq_keras.system.tables import read_table, read_text_table


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that gives two lines, once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=["file\tname\na.bed\tA\n"], daemon=True).start()
    return path


def test_a_file_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    assert input_file(path) == path
    assert not is_pipe(path)
    assert identity(path)[:2] == [str(path.resolve()), 1]
    refuse_pipe(path)
    with pytest.raises(InputError, match="no such file"):
        input_file(tmp_path / "b")
    with pytest.raises(InputError, match="this is a folder"):
        input_file(tmp_path)


def test_a_pipe_is_read_as_often_as_wanted(pipe: Path) -> None:
    assert is_pipe(pipe)
    rows = read_table(pipe, required=("file", "name"))
    assert rows.to_dict("records") == [{"file": "a.bed", "name": "A"}]
    with open_bytes(pipe) as file:
        assert file.readline() == b"file\tname\n"
    assert identity(pipe) == identity(pipe)
    assert len(str(identity(pipe)[1])) == 64


def test_a_pipe_is_refused_for_the_true_reason(pipe: Path) -> None:
    with pytest.raises(InputError, match=r"pipe: a pipe, and this input is read .* Write it to a"):
        refuse_pipe(pipe)


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [("echo hello |", "hello"), ("", "hello"), ("closed", "standard input is closed")],
)
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(tmp_path: Path, name: str, redirection: str, expected: str) -> None:
    (tmp_path / "x").write_text("hello")
    end = "<&-" if redirection == "closed" else "" if redirection else f"< {tmp_path / 'x'}"
    program = (
        "from pathlib import Path; from danq_keras.system.inputs import input_file\n"
        f"for _ in range(2): text = input_file(Path({name!r})).read_text()\nprint(text)"
    )
    script = f'{redirection.replace("closed", "")} "$0" -c "$1" {end}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, program], capture_output=True, text=True, check=False
    )
    assert expected in done.stdout + done.stderr


def test_standard_input_that_was_read_in_part_goes_on_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"first\nsecond\n")
    program = (
        "from pathlib import Path; from danq_keras.system.inputs import input_file\n"
        "for _ in range(2): print(input_file(Path('-')).read_text())"
    )
    with path.open("rb") as file:
        os.lseek(file.fileno(), len(b"first\n"), os.SEEK_SET)
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=file, capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["second", "second"]


def test_tables_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("\ufefffile\tname\na\tb\n", encoding="utf-8")
    assert list(read_table(path, required=("file", "name"))) == ["file", "name"]
    assert list(read_text_table(path)) == ["file", "name"]


def test_a_table_with_more_cells_than_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("file\tname\na\tb\nc\td\te\n")
    with pytest.raises(InputError, match=r"t\.tsv: not a table"):
        read_table(path, required=("file", "name"))


@pytest.mark.parametrize(
    "name", ["a\tb", "a\nb", "\rb", "a\x1b[31m", "a\0", "a\x7f", "a\x85", "a\u2028b", "\u202ea"]
)
def test_names_with_control_characters_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="table: the name of a target must not hold") as error:
        refuse_control(["fine", name], "table", "target")
    assert printable(str(error.value)) == str(error.value)
    with pytest.raises(InputError, match="The name of a target must not hold"):
        Targets((name, "b"))
    with pytest.raises(InputError, match="target's cell_type must not hold"):
        Targets(("a", "b"), cell_type=("", name))


def test_other_names_are_not(tmp_path: Path) -> None:
    names = ["a b", "<script>", '"quoted"', "β-globin", "x" * 300, "", "a|b;c=d"]
    refuse_control(names, tmp_path, "target")


def test_control_characters_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\tb\nc\x9b\u202e") == "a\\x1b[31m\tb\nc\\x9b\\u202e"
