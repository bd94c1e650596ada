"""Commands in forked children, killed at any moment: TensorFlow is imported once for all of them.

A server process imports the package and whatever library is slow to load, runs nothing of it, and
forks a child for each command. A child can be killed from outside at any time, or end itself with
SIGKILL just before the n-th time it touches a file of a folder, by itself or through h5py: between
any two of these moments a kill leaves the same files behind.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import h5py
import numpy as np

TRIALS = int(os.environ.get("DANQ_FAULT_TRIALS", "50"))
"""Of each of the long tests."""
SECONDS = 300
"""More than any command takes."""
_TOUCHING = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.listdir"}


# ── the side of the tests ───────────────────────────────────────────────────


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its status (minus a signal that killed it), and what it said."""

    status: int
    said: str
    touched: int
    """How often it touched a file of the watched folder; 0 if it was killed."""

    def require(self, *allowed: int) -> Self:
        """One of these statuses, and no traceback in any case."""
        assert self.status in allowed, f"status {self.status}:\n{self.said}"
        assert "Traceback" not in self.said, self.said
        return self


class Server:
    """Forks commands; use as a context manager.

    Args:
        folder: for the logs of the children.
        modules: what is imported once.
    """

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        self._folder, self._n = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TQDM_DISABLE": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self,
        name: str,
        *words: object,
        kill_at: int | None = None,
        watched: Path | None = None,
        kill_with: int = signal.SIGKILL,
        signals: Mapping[float, int] | None = None,
        limits: Mapping[str, int] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> Ended:
        """Run a command to its end.

        Args:
            name: of the command's module.
            *words: of its command line.
            kill_at: a signal before it touches the watched folder for the n-th time, from 1.
            watched: a folder; what is beside it and begins with its name counts too.
            kill_with: the signal.
            signals: seconds after its start → a signal for it.
            limits: name in `resource`, such as "RLIMIT_FSIZE" → bytes.
            settings: "module.NAME" of the package → a value for the child; of a text such as
                "in_process:run_all" what it names.
        """
        self._n += 1
        log = self._folder / f"{self._n}.log"
        order = {
            "name": name,
            "words": [str(word) for word in words],
            "log": str(log),
            "watched": None if watched is None else str(watched),
            "kill_at": kill_at,
            "kill_with": int(kill_with),
            "limits": dict(limits or {}),
            "settings": dict(settings or {}),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid, begin = int(self._read()), time.monotonic()
        for seconds, number in sorted((signals or {}).items()):
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)  # a zombie until the server has looked: no other process
        status = int(self._read())
        said = log.read_text("utf-8", errors="replace")
        count = log.with_suffix(".count")
        return Ended(status, said, int(count.read_text()) if count.exists() else 0)

    def address_space(self) -> int:
        """Bytes of memory that a forked command begins with."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server of forked commands has ended"
        return line


# ── what two runs are compared by ───────────────────────────────────────────


def arrays(file: h5py.File) -> dict[str, bytes]:
    """Path → values of every dataset."""
    found: dict[str, bytes] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item[()])
            is_text = values.dtype.kind == "O"
            found[name] = str(values.tolist()).encode() if is_text else values.tobytes()

    file.visititems(visit)
    return found


def weights(run: Path) -> dict[str, bytes]:
    """Of model.keras."""
    with zipfile.ZipFile(run / "model.keras") as members:
        content = io.BytesIO(members.read("model.weights.h5"))
    with h5py.File(content) as file:
        return arrays(file)


def last_checkpoint(run: Path) -> dict[str, bytes]:
    """Weights, moments and random states, which a later epoch would begin from."""
    with h5py.File(max((run / "checkpoints").glob("step-*.h5"))) as file:
        return arrays(file)


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders below a folder: what no complete output has."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".claim"
    )


class Killable(Protocol):
    """What can be killed before a touch of its folder, continued, and compared at its end."""

    touched: int

    def go_on(self, out: Path, **how: Any) -> Ended:
        """Start, or continue where there is something to continue."""

    def finish(self, out: Path) -> None:
        """Continue to the end, and compare."""


def kill_and_finish(work: Killable, out: Path, *, trial: int, seed: int) -> None:
    """One kill, or in every third trial two, evenly over all moments that leave other files."""
    rng = np.random.default_rng([seed, trial])
    step = work.touched / TRIALS
    kill_at = 1 + min(int((trial + rng.random()) * step), work.touched - 1)
    work.go_on(out, kill_at=kill_at).require(-signal.SIGKILL)
    if trial % 3 == 0:
        work.go_on(out, kill_at=int(rng.integers(1, 40))).require(-signal.SIGKILL, 0)
    work.finish(out)


# ── the side of the server ──────────────────────────────────────────────────


def _watch(folder: str, kill_at: int | None, kill_with: int) -> list[int]:
    """Count the times that the process touches a folder, and signal to it at one of them."""
    count = [0]
    beside = str(Path(folder).with_name(f".{Path(folder).name}."))

    def touch(path: Any) -> None:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith((folder, beside)):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), kill_with)

    sys.addaudithook(lambda event, arguments: event in _TOUCHING and touch(arguments[0]))
    _watch_hdf5(touch)
    return count


def _watch_hdf5(touch: Callable[[Any], None]) -> None:
    """What HDF5 does to files Python's audit does not see."""

    def watched(real: Any, path_of: Callable[[Any], Any]) -> Any:
        @functools.wraps(real)
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            with contextlib.suppress(RuntimeError, ValueError):  # of what is closed already
                touch(path_of(self))
            return real(self, *arguments, **options)

        return call

    for owner, name, path_of in (
        (h5py.File, "flush", lambda self: self.filename),
        (h5py.File, "close", lambda self: self.filename),
        (h5py.Dataset, "__setitem__", lambda self: self.file.filename),
        (h5py.AttributeManager, "modify", lambda self: self._id and h5py.h5f.get_name(self._id)),
    ):
        setattr(owner, name, watched(getattr(owner, name), path_of))


def _child(order: dict[str, Any]) -> int:
    from danq_keras.system.command import run_command

    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [order["name"], *order["words"]]
    main = importlib.import_module(f"danq_keras.commands.{order['name']}").main
    for name, value in order["settings"].items():
        module, _, variable = name.rpartition(".")
        if isinstance(value, str):
            place, _, known = value.partition(":")
            value = getattr(importlib.import_module(place), known)
        setattr(importlib.import_module(f"danq_keras.{module}"), variable, value)
    count = None
    if order["watched"] is not None:
        count = _watch(order["watched"], order["kill_at"], order["kill_with"])
    for name, value in order["limits"].items():
        number = getattr(resource, name)
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    try:
        status = run_command(main)
    except SystemExit as error:  # of argparse
        status = error.code if isinstance(error.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    if count is not None:
        Path(order["log"]).with_suffix(".count").write_text(str(count[0]))
    return status


def _serve(modules: Sequence[str], orders: Iterator[str]) -> None:
    replies = os.fdopen(os.dup(1), "w")
    for module in modules:
        importlib.import_module(module)
    for line in orders:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = _child(json.loads(line))
            finally:  # nothing of the server's is to be done in the child
                if sys.exc_info()[0] is not None:
                    traceback.print_exc()
                os._exit(status)
        print(pid, file=replies, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=replies, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1:], iter(sys.stdin.readline, ""))
