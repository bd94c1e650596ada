"""`--list-settings` of every command that has `--set`: before anything else is asked or loaded."""

import subprocess
import sys

import pytest

from danq_keras.commands import compare_recipes, train, tune
from danq_keras.system.errors import InputError

COMMANDS = [train, tune, compare_recipes]


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_of_a_named_recipe_are_listed(command, capsys):
    assert command.main(["--list-settings", "--preset", "mouse-mel"]) == 0
    shown = capsys.readouterr().out
    assert "with the values of preset mouse-mel" in shown
    assert "  batch_size=200  [a whole number]\n" in shown
    with pytest.raises(InputError, match="preset: one of"):
        command.main(["--list-settings", "--preset", "mouse"])


def test_without_a_name_they_are_of_the_recipe_for_the_data(tmp_path, capsys):
    assert train.main(["--list-settings"]) == 0
    assert "of preset demo." in capsys.readouterr().out
    bundle = tmp_path / "bundle.tar.gz"
    assert tune.main(["--list-settings", "--data", str(bundle)]) == 0
    assert "of preset danq." in capsys.readouterr().out


def test_listing_loads_no_tensorflow():
    code = (
        "import sys; from danq_keras.commands import train; train.main(['--list-settings']); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_setting_sends_to_the_list(command, tmp_path):
    arguments = [str(tmp_path / "out")] if command is not train else ["--out", str(tmp_path / "o")]
    (tmp_path / "data").mkdir()
    arguments += ["--data", str(tmp_path / "data"), "--preset", "danq", "--set", "lr=1"]
    with pytest.raises(InputError, match=r"Unknown setting 'lr'\. --list-settings shows all"):
        command.main(arguments)


def test_recipes_need_a_place_and_data(tmp_path):
    for arguments in ([], [str(tmp_path)], ["--data", str(tmp_path)]):
        with pytest.raises(InputError, match="OUT and --data: say where"):
            compare_recipes.main(arguments)
