"""Where a run may go: what is said before TensorFlow starts, and states that can all be left."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from danq_keras.data.unchanged import DatasetWatch
from danq_keras.system import claims
from danq_keras.system.errors import InputError
from danq_keras.training.place import (
    check_place,
    check_set_place,
    is_used,
    read_settings_file,
    refuse_used,
)
from danq_keras.training.request import TrainRequest
from danq_keras.training.run_folder import SameFolder, clear_run, read_config, require_run

CONFIG = {"preset": "danq", "dataset": {}, "model": {}, "train": {}, "targets": []}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "data")


def make_run(folder: Path, config: str = json.dumps(CONFIG)) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name, text in (("config.json", config), ("run.log", ""), ("report.html", "")):
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "left",
    [
        [],
        ["run.log"],
        ["run.log", ".config.json.partial-7@here"],
        ["demo_data"],
        [".claim", "run.log"],
    ],
)
def test_what_a_start_leaves_that_came_to_nothing_is_in_nobodys_way(tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    assert not is_used(tmp_path)
    refuse_used(tmp_path, overwrite=False)
    refuse_used(tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "checkpoints", "demo_data.h5"])
def test_anything_else_is(tmp_path, name):
    (tmp_path / "run.log").touch()
    (tmp_path / name).touch()
    assert is_used(tmp_path)
    with pytest.raises(InputError, match="already exists"):
        refuse_used(tmp_path, overwrite=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[" * 100_000, "nested too deeply"), ("[]", "a JSON object"), ("\xff", "not a JSON file")],
)
def test_what_is_no_file_of_settings_is_refused(tmp_path, text, expected):
    path = tmp_path / "best.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=expected):
        read_settings_file(path)
    with pytest.raises(InputError, match="not the settings of a run"):
        read_config(make_run(tmp_path / "run", text))


def test_settings_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "best.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    assert read_settings_file(path) == CONFIG


def test_a_file_is_in_the_way(tmp_path):
    (tmp_path / "x").touch()
    assert is_used(tmp_path / "x")
    assert not is_used(tmp_path / "y")


@pytest.mark.parametrize("config", ["", "{", "[]", '{"model_type": "bert"}'])
def test_a_run_with_damaged_settings_can_be_replaced(tmp_path, config):
    require_run(make_run(tmp_path / "run", config))
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match="not the settings of a run"):
        require_run(tmp_path)  # anybody's config.json


def test_a_stop_while_a_run_is_cleared_leaves_a_run(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    removed = []

    def stop(path: Path) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path.name)
        claims.remove(path)

    monkeypatch.setattr("danq_keras.training.run_folder.remove", stop)
    with pytest.raises(KeyboardInterrupt):
        clear_run(run, keep=tmp_path / "data")
    assert set(removed) == {"checkpoints", "report.html"}
    refuse_used(run, overwrite=True)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "already exists"),
        ({"overwrite": True, "settings": {"filtres": 3}}, "filtres"),
        ({"overwrite": True, "preset": "dank"}, "dank"),
        ({"overwrite": True, "data": Path("nowhere")}, "nowhere: no such file or folder"),
        ({"overwrite": True, "config": Path("nowhere.json")}, r"nowhere\.json"),
        ({"overwrite": True, "init": Path("nowhere.keras")}, "nowhere.keras: no such model"),
        ({"out": Path("new"), "resume": True}, "no run to resume"),
    ],
)
def test_mistakes_that_are_said_at_once(tmp_path, dataset, monkeypatch, request_, message):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run")
    asked = TrainRequest(**{"data": dataset.folder, "out": Path("run"), **request_})
    with pytest.raises((InputError, FileNotFoundError), match=message):
        check_place(asked)


def test_a_set_is_refused_at_once_too(tmp_path, dataset):
    asked = TrainRequest(data=dataset.folder, out=make_run(tmp_path / "run"))
    with pytest.raises(InputError, match="already exists"):
        check_set_place(asked)
    check_set_place(TrainRequest(data=dataset.folder, out=tmp_path / "new"))
    with claims.claimed_folder(tmp_path), pytest.raises(InputError, match="at work there"):
        check_set_place(TrainRequest(data=dataset.folder, out=tmp_path, overwrite=True))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_place(TrainRequest(data=tmp_path / "typo", out=tmp_path / "file" / "run"))


def test_a_run_at_work_is_refused_at_once(tmp_path, dataset):
    run = make_run(tmp_path / "run")
    for how in ({"resume": True}, {"overwrite": True}):
        asked = TrainRequest(data=dataset.folder, out=run, **how)
        check_place(asked)
        with (
            claims.claimed_folder(run),
            pytest.raises(InputError, match="another process is at work there"),
        ):
            check_place(asked)


def test_these_checks_load_no_tensorflow():
    code = (
        "import sys, danq_keras.commands.train, danq_keras.commands.evaluate, "
        "danq_keras.commands.extract_motifs, danq_keras.commands.compare_recipes; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── what changes in mid-run ─────────────────────────────────────────────────


def test_a_folder_that_is_gone_or_another(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    place = SameFolder(run)
    place.require()
    run.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="removed or renamed"):
        place.require()
    run.mkdir()
    with pytest.raises(InputError, match="removed or renamed"):
        place.require()
    run.rmdir()
    (tmp_path / "moved").rename(run)
    place.require()


def test_data_that_are_cut_short_are_not_read(tmp_path):
    data = tiny.make_dataset(tmp_path / "data")
    data.train.require_whole()
    with data.train.path.open("r+b") as file:
        file.truncate(data.train.path.stat().st_size - 1000)
    with pytest.raises(InputError, match=r"train\.h5: the file was cut short"):
        data.train.require_whole()
    data.valid.require_whole()


def test_data_that_are_rewritten_are_noticed(tmp_path, messages):
    data = tiny.make_dataset(tmp_path / "data")
    watch = DatasetWatch(data)
    watch.require_unchanged()
    data.train.path.touch()  # reads it, and finds it as it was
    watch.require_unchanged()
    content = data.valid.path.read_bytes()
    data.valid.path.unlink()  # the mapped file lives on
    watch.require_unchanged()
    assert "valid.h5: was removed or replaced" in messages.text
    data.valid.path.write_bytes(content)
    watch.require_unchanged()
    offset = data.train.sequence.offset
    with data.train.path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(InputError, match=r"train\.h5: wrong checksum"):
        watch.require_unchanged()
