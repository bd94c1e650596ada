"""What is looked at before TensorFlow starts."""

import os
import resource
import subprocess
import sys

import pytest

from danq_keras.system import tensorflow
from danq_keras.system.errors import InputError


@pytest.mark.parametrize(("gib", "loaded", "enough"), [(2, True, True), (2, False, False)])
def test_a_limit_of_memory_that_is_too_low_is_refused(monkeypatch, gib, loaded, enough) -> None:
    """By what the process has, what the libraries need, and what each core adds."""
    monkeypatch.setattr(tensorflow.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(tensorflow.Path, "read_text", lambda _: "131072 5")  # pages: 0.5 GiB
    monkeypatch.setattr(tensorflow.resource, "getpagesize", lambda: 4096)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (gib << 30, gib << 30))
    if loaded:
        monkeypatch.setitem(sys.modules, "tensorflow", sys)
    else:
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    if enough:
        tensorflow._require_address_space()
        return
    with pytest.raises(InputError, match=r"needs 2\.6 GiB of address space at least, .* have 2\.0"):
        tensorflow._require_address_space()


def test_without_a_limit_nothing_is_refused(monkeypatch) -> None:
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (unlimited, unlimited))
    tensorflow._require_address_space()


def test_a_processor_without_avx512_gets_the_kernels_of_onednn_too() -> None:
    """Unless the environment says otherwise; another kind of processor is left to TensorFlow."""
    program = (
        "import os, platform\n"
        "platform.machine = lambda: {machine!r}\n"
        "from danq_keras.system.tensorflow import start_tensorflow\n"
        "start_tensorflow()\n"
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    )
    said = {}
    for machine, given in (("x86_64", None), ("x86_64", "0"), ("aarch64", None)):
        environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
        if given is not None:
            environment["TF_ENABLE_ONEDNN_OPTS"] = given
        command = [sys.executable, "-c", program.format(machine=machine)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said[machine, given] = ended.stdout.strip()
    assert said == {("x86_64", None): "1", ("x86_64", "0"): "0", ("aarch64", None): "None"}
