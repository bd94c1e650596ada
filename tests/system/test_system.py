"""How commands end, what they leave behind, and what they print."""

import argparse
import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from danq_keras.system import claims, command, errors, files, signals, terminal
from danq_keras.system.command import run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.signals import Interruption


@pytest.fixture(autouse=True)
def same_process_afterwards() -> Iterator[None]:
    """Put signal handlers and the package's logger back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    log = terminal.log
    level, propagate, before = log.level, log.propagate, list(log.handlers)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for handler in set(log.handlers) - set(before):
        handler.close()
    log.handlers, log.propagate = before, propagate
    log.setLevel(level)


def ends_with(error: BaseException) -> Callable[[list[str] | None], int]:
    def main(_argv: list[str] | None) -> int:
        raise error

    return main


# ── exit statuses ───────────────────────────────────────────────────────────


def test_success() -> None:
    assert run_command(lambda _argv: None) == 0
    assert run_command(lambda _argv: 0) == 0
    assert run_command(lambda _argv: 3) == 3


def test_main_reads_the_command_line() -> None:
    received = []
    run_command(lambda argv: received.append(argv))
    assert received == [None]  # argparse then reads sys.argv


def test_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ends_with(InputError("x.bed: empty. Give another."))) == 2
    captured = capsys.readouterr()
    assert captured.err == "Error: x.bed: empty. Give another.\n"
    assert captured.out == ""


def test_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ends_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_terminate_is_143(capsys: pytest.CaptureFixture[str]) -> None:
    cleaned = []

    def main(_argv: list[str] | None) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0
        finally:
            cleaned.append(True)

    assert run_command(main) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err == "Terminated.\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.ENOENT, "no such file"),
        (errno.EISDIR, "this is a folder"),
        (errno.ENOTDIR, "not a folder"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EFBIG, "`ulimit -f`"),
        (errno.EIO, "input/output error"),
        (errno.ESTALE, "on its server"),
        (errno.ENOLCK, "cannot lock"),
        (errno.EMFILE, "`ulimit -n`"),
    ],
)
def test_refusals_of_the_system(number: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(ends_with(OSError(number, os.strerror(number), "out/x.h5"))) == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: out/x.h5: ")
    assert text in message
    assert message.count("\n") == 1


def test_really_full_device(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    def main(_argv: list[str] | None) -> None:
        with full.open("wb", buffering=0) as file:
            file.write(b"x")

    assert run_command(main) == 2
    assert "the disk is full" in capsys.readouterr().err


def test_full_disk_as_hdf5_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError("Can't write data (file write failed:\n errno = 28, error message = …)")
    assert run_command(ends_with(error)) == 2
    message = capsys.readouterr().err
    assert "the disk is full" in message
    assert f"Temporary files go to {tempfile.gettempdir()}" in message
    assert message.count("\n") == 1


def test_what_hdf5_meets_on_closing_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("Can't decrement id ref count (unable to extend file, errno = 27, …)")
    assert run_command(ends_with(error)) == 2
    assert "`ulimit -f`" in capsys.readouterr().err


def test_defects_keep_their_traceback() -> None:
    with pytest.raises(OSError, match="weird"):
        run_command(ends_with(OSError(errno.EDOM, "weird")))
    with pytest.raises(ValueError, match="defect"):
        run_command(ends_with(ValueError("defect")))
    with pytest.raises(RuntimeError, match="errno = 33"):
        run_command(ends_with(RuntimeError("errno = 33")))


# ── output ──────────────────────────────────────────────────────────────────


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.tsv"
    with atomic_output(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
        assert temporary.parent == path.parent  # one file system, so renaming is atomic
    assert path.read_text() == "done"
    assert names(path.parent) == ["x.tsv"]


def test_atomic_folder(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()  # an empty folder does not count as existing
    with atomic_output(path) as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
    assert names(path) == ["a"]
    assert names(tmp_path) == ["set"]


def test_file_in_the_place_of_an_empty_folder(tmp_path: Path) -> None:
    """It does not count as existing, so it must not spoil the end of a long job."""
    path = tmp_path / "x.tsv"
    path.mkdir()
    with atomic_output(path) as temporary:
        temporary.write_text("done")
    assert path.read_text() == "done"


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), errors.Terminated()])
@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_behind(tmp_path: Path, error: BaseException, folder: bool) -> None:
    def fail() -> None:
        with atomic_output(tmp_path / "x") as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "part").touch()
            else:
                temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == []


def test_error_keeps_the_old_output(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail() -> None:
        with atomic_output(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with (
        pytest.raises(InputError, match=r"x: already exists\. .*`overwrite=True`"),
        atomic_output(path),
    ):
        pytest.fail("the body must not run")
    assert path.read_text() == "old"


@pytest.mark.parametrize("was_folder", [False, True])
@pytest.mark.parametrize("is_folder", [False, True])
def test_overwriting(tmp_path: Path, was_folder: bool, is_folder: bool) -> None:
    path = tmp_path / "x"
    if was_folder:
        path.mkdir()
        (path / "old").touch()
    else:
        path.write_text("old")
    if was_folder and not is_folder:  # a file never replaces somebody's folder
        with pytest.raises(IsADirectoryError), atomic_output(path, overwrite=True) as temporary:
            temporary.write_text("new")
        assert names(path) == ["old"]
        return
    with atomic_output(path, overwrite=True) as temporary:
        if is_folder:
            temporary.mkdir()
            (temporary / "new").touch()
        else:
            temporary.write_text("new")
    assert names(path) == ["new"] if is_folder else path.read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_leftovers_of_a_killed_process_do_not_mix_in(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with atomic_output(path) as temporary:
        temporary.mkdir()
        leftover = temporary
    leftover.mkdir()
    (leftover / "stale").touch()
    with atomic_output(path) as temporary:
        assert temporary == leftover
        temporary.mkdir()
    assert names(path) == []


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "y" / "x"):
        with pytest.raises(InputError, match="its parent is not a folder"), atomic_output(path):
            pytest.fail("the body must not run")


def test_refuse_existing(tmp_path: Path) -> None:
    files.refuse_existing(tmp_path / "new", overwrite=False)
    files.refuse_existing(tmp_path, overwrite=False)  # empty
    (tmp_path / "x").touch()
    files.refuse_existing(tmp_path, overwrite=True)
    for path in (tmp_path, tmp_path / "x"):
        with pytest.raises(InputError, match="already exists"):
            files.refuse_existing(path, overwrite=False)


# ── interruption ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, errors.Terminated)],
)
def test_signal_is_a_request_first(number: int, error: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert interruption.signal is None
        os.kill(os.getpid(), number)
        assert interruption.signal == number
        with pytest.raises(KeyboardInterrupt):  # a second one stops at once
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    with pytest.raises(error):
        interruption.raise_error()


# ── what is shown ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, errors.Terminated)],
)
def test_a_signal_waits_for_the_end_of_the_block(
    number: signal.Signals, error: type[BaseException]
) -> None:
    done = []
    with signals.Interruption(raises=True, notice="") as request:
        with pytest.raises(error):  # noqa: PT012  what comes after the signal is the point
            with signals.signals_deferred():
                signal.raise_signal(number)
                signal.raise_signal(number)
                done.append("the rest of the block")
            done.append("after the block")
        assert done == ["the rest of the block"]
        request.signal = None  # another day
        with pytest.raises(ZeroDivisionError), signals.signals_deferred():
            raise ZeroDivisionError
        signal.raise_signal(number)  # as before
        with pytest.raises(error):
            signals.check_stop()
        request.signal = None


def test_other_threads_have_no_signals_to_defer() -> None:
    def work() -> int:
        with signals.signals_deferred():
            return 7

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == 7


def test_logging_goes_to_terminal_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.log.handlers = []
    terminal.set_up_logging()
    terminal.set_up_logging()  # again: no second line on the terminal
    with terminal.logged_to(tmp_path / "run.log"):
        terminal.log.info("%d windows", 7)
        terminal.log.debug("hidden")
        assert capsys.readouterr().err == "7 windows\n"
        assert (tmp_path / "run.log").read_text().endswith(" INFO 7 windows\n")
        with terminal.logged_to(tmp_path / "second.log"):  # a set of runs has its own
            terminal.log.warning("more")
    assert len((tmp_path / "run.log").read_text().splitlines()) == 2
    assert "WARNING more" in (tmp_path / "second.log").read_text()
    assert not terminal.log.propagate  # the root logger would print it again


@pytest.mark.parametrize("ending", [InputError, KeyboardInterrupt, errors.Terminated])
def test_a_log_file_is_left_however_the_run_ends(
    tmp_path: Path, ending: type[BaseException]
) -> None:
    before = list(terminal.log.handlers)
    with pytest.raises(ending), terminal.logged_to(tmp_path / "run.log"):
        raise ending
    assert terminal.log.handlers == before
    terminal.log.warning("of a later run")
    assert (tmp_path / "run.log").read_text() == ""


def test_progress_without_a_terminal_is_calm_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with terminal.progress(total=5000, desc="convert", unit="rows") as bar:
        bar.update(4999)
        bar.start_t -= 60  # as if a minute had passed
        bar.last_print_t -= 30
        bar.update()
    text = sys.stderr.getvalue()
    assert "convert" in text
    assert "5000/5000" in text
    assert text.count("\r") <= 3
    assert text.endswith("\n")


def test_what_is_done_at_once_needs_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with terminal.progress(total=5000, desc="convert", unit="rows") as bar:
        for _ in range(5000):
            bar.update()
        assert bar.n == 5000
    assert sys.stderr.getvalue() == ""


def test_native_chatter_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with terminal.quiet_native_output():
        os.write(2, b"chatter\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_native_messages_are_shown_with_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with terminal.quiet_native_output():
            os.write(2, b"the reason\n")
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_a_reader_that_leaves_early_is_no_error():
    code = (
        "import sys; from danq_keras.system.command import run_command; "
        "sys.exit(run_command(lambda _: sum(print('x' * 99) or 0 for _ in range(99999))))"
    )
    command = f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["x" * 99, "141"]
    assert result.stderr == ""


def test_atomic_output_refuses_what_appeared_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "set"
    output = atomic_output(path)
    output.__enter__().mkdir()
    path.mkdir()
    (path / "of another process").touch()
    with pytest.raises(InputError, match="already exists"):
        output.__exit__(None, None, None)
    assert names(path) == ["of another process"]
    assert names(tmp_path) == ["set"]


def test_atomic_output_names_the_final_path_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    with pytest.raises(OSError, match="No such file") as caught, atomic_output(path) as temporary:
        (temporary / "inside").touch()
    assert caught.value.filename == str(path / "inside")


def test_claimed_folder_is_refused_to_others_until_it_is_let_go(tmp_path: Path) -> None:
    another = claims.claimed_folder(tmp_path)
    with (
        claims.claimed_folder(tmp_path),
        pytest.raises(InputError, match="another process is at work there"),
    ):
        another.__enter__()
    with claims.claimed_folder(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_names_the_output(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    with pytest.raises(OSError, match="No space") as caught, atomic_output(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as file.write does
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`min_overlap`: at most 1.", "--min-overlap: at most 1."),
        ("Give `overwrite=True`.", "Give --overwrite."),
        ("`mode='skip'` counts them.", "--mode skip counts them."),
        ("`genome`: no FASTA.", "GENOME: no FASTA."),
        ("`filters`: above zero.", "`filters`: above zero."),
        ("`windows`: none.", "--fasta: none."),
        ("`freeze`: a number.", "--freeze-conv: a number."),
    ],
)
def test_arguments_become_the_flags_of_the_command(said: str, shown: str) -> None:
    def parser() -> argparse.ArgumentParser:
        made = argparse.ArgumentParser()
        made.add_argument("genome", metavar="GENOME")
        made.add_argument("--min-overlap", "-m")
        made.add_argument("--mode")
        made.add_argument("--freeze-conv", dest="freeze")
        made.add_argument("--overwrite", action="store_true")
        return made

    @command.command(parser, windows="--fasta")
    def main(_argv: list[str] | None = None) -> int:
        raise errors.InputError(said)

    with pytest.raises(errors.InputError) as raised:
        main([])
    assert str(raised.value) == shown
