"""The functions of `import danq_keras as dq`: found when asked for, each with all it takes."""

import inspect
import subprocess
import sys

import pytest

import danq_keras as dq


def test_the_package_loads_nothing_until_it_is_asked():
    code = (
        "import sys, danq_keras as dq; before = {'keras', 'pandas'} & set(sys.modules);"
        "dq.open_dataset; dq.build_dataset; dq.make_demo;"
        "print(before, {'keras', 'tensorflow'} & set(sys.modules), 'train' in dir(dq))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["set()", "set()", "True"]


@pytest.mark.parametrize("name", dq.__all__)
def test_every_function_says_what_it_takes_and_gives(name):
    function = getattr(dq, name)
    assert callable(function)
    text = inspect.getdoc(function)
    assert "Args:" in text
    assert "Raises:" in text
    for argument in inspect.signature(function).parameters:
        assert f"{argument}: " in text, f"{name} does not say what {argument} is"


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = dq.fit
