"""Gives damaged files to readers, each in a child process, and counts what they come to.

`fuzz_binary` and `fuzz_text` say which files, how they are damaged, and by which readers; run one
of them as a script: `python tests/faults/fuzz_text.py TRIALS [SEED] [READER …]` prints a line for
each reader: how many mutants were refused in one line (and of how many HDF5 comes to no end, or
crashes), accepted with the same content, accepted with another content, how many of the accepted
were compared with what a plain reader reads, and what else happened, with the trial that repeats
it. The child has limits of time and memory.

A process that forks must not have used TensorFlow yet, so the tests start these as scripts.
"""

import faulthandler
import hashlib
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS, MEMORY = 10, 2 << 30
CAUGHT = {"endless": "comes to no end", "crash": "crashes on it", "memory": "asks for more memory"}
"""What a child of the reader's own comes to; these mutants are refused in one line too."""
GOOD = ("refused", *CAUGHT, "same", "other")
Content = Any


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    `make` writes a sound file and gives its path; `read` reads one and gives all that it read;
    `mutate` damages a file in place, and says whether it changed bytes below the format; `summed`
    says that the file has checksums, so that no damage of bytes may go unnoticed. `plain` is
    another reader of the same, as plain as can be: what it reads of a text, or None where it has
    no opinion; whatever `read` accepts must be the same.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Content]
    mutate: Callable[[Path, random.Random], bool]
    summed: bool = False
    plain: Callable[[bytes], Content | None] | None = None


def digest(content: Content) -> str:
    return hashlib.sha256(pickle.dumps(content)).hexdigest()


def outcome(read: Callable[[Path], Content], path: Path) -> str:
    """What reading comes to in a child: "ok " and a digest, "refused", or what went wrong."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(receive)
        _read_and_exit(read, path, send)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return said or f"ended silently with {os.WEXITSTATUS(status)}"


def _read_and_exit(read: Callable[[Path], Content], path: Path, send: int) -> None:
    from danq_keras.system.errors import InputError

    said = ""
    try:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(15 * SECONDS)  # of a busy machine
        said = f"ok {digest(read(path))}"
    except InputError as error:
        message = str(error)
        calm = message.isprintable() and len(message) < 1000 and str(path.parent) in message
        caught = next((key for key, words in CAUGHT.items() if words in message), "refused")
        said = caught if calm else f"refused badly: {message!r}"
    except BaseException:  # noqa: BLE001
        said = traceback.format_exc()
    finally:
        os.write(send, said.encode()[:60_000])
        os._exit(0)


def campaign(
    reader: Reader, trials: int, seed: int, folder: Path, *, warm: bool = True
) -> Counter[str]:
    """Count what becomes of mutants; keys beside the good ones are what went wrong.

    Args:
        reader: that gets them.
        trials: number of mutants.
        seed: number from which they are drawn.
        folder: for the files.
        warm: whether this process may read the sound file itself, which saves each child imports.
    """
    sound = reader.make(folder)
    whole = sound.read_bytes()
    if warm:
        reader.read(sound)  # what it imports need not be imported in each child
        sound.write_bytes(whole)
    before = outcome(reader.read, sound)
    if not before.startswith("ok "):
        raise RuntimeError(f"{reader.name}: the sound file is not read: {before}")
    counts: Counter[str] = Counter()
    for trial in range(trials):
        rng = random.Random(f"{reader.name} {seed} {trial}")
        sound.write_bytes(whole)
        in_bytes = reader.mutate(sound, rng)
        mutant = sound.read_bytes()
        said = outcome(reader.read, sound)
        meant = reader.plain(mutant) if reader.plain and said.startswith("ok ") else None
        counts["compared"] += meant is not None
        if meant is not None and said != f"ok {digest(meant)}":
            counts[f"trial {trial}: accepted, but a plain reader reads something else"] += 1
        elif said == before:
            counts["same"] += 1
        elif said.startswith("ok "):
            unseen = in_bytes and reader.summed and mutant != whole
            counts[f"unnoticed in trial {trial}" if unseen else "other"] += 1
        elif said in GOOD:
            counts[said] += 1
        else:
            last = said.strip().splitlines()[-1]
            counts[f"trial {trial}: {last[:300]}"] += 1
            if os.environ.get("DANQ_FAULT_SHOW"):
                print(f"--- {reader.name} {seed} {trial}\n{said}", file=sys.stderr)
    sound.write_bytes(whole)
    return counts


def main(
    readers: Mapping[str, Reader], arguments: Sequence[str], *, cold: Sequence[str] = ()
) -> int:
    """Run the campaigns that a command line asks for; the exit status."""
    trials, seed = int(arguments[0]), int((arguments[1:2] or ["0"])[0])
    bad = 0
    for name in arguments[2:] or readers:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            counts = campaign(readers[name], trials, seed, Path(folder), warm=name not in cold)
        compared = counts.pop("compared")
        wrong = {key: n for key, n in counts.items() if key not in GOOD}
        bad += sum(wrong.values())
        shown = ", ".join(f"{key} {counts[key]}" for key in GOOD)
        if readers[name].plain is not None:
            shown += f", compared {compared}"
        seconds = time.monotonic() - began
        print(f"{name}: {trials} tried, {shown}, wrong {sum(wrong.values())}, {seconds:.0f} s")
        for key in wrong:
            print(f"  {key}")
        sys.stdout.flush()
    return min(bad, 1)
