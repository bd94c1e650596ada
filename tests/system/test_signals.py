"""A request to stop: noted everywhere, honoured where nothing is half-done, never lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from danq_keras.system import signals
from danq_keras.system.command import run_command
from danq_keras.system.errors import InputError, Terminated
from danq_keras.system.signals import Interruption, check_stop
from danq_keras.system.terminal import progress

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def ends(main: Callable[[], object]) -> int:
    """Exit status of a command that does that; all handlers are as before."""
    before = {number: signal.getsignal(number) for number in (*STATUS, signal.SIGALRM)}
    status = run_command(lambda _: int(bool(main())))
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    return status


@pytest.mark.parametrize("number", STATUS)
def test_a_command_goes_on_to_the_next_good_moment(number: signal.Signals) -> None:
    done = []

    def main() -> None:
        with progress(total=9, desc="work") as bar:
            for step in range(9):
                if step == 3:
                    os.kill(os.getpid(), number)
                done.append(step)
                bar.update()

    assert ends(main) == STATUS[number]
    assert done == [0, 1, 2, 3]


def test_a_request_that_a_callback_swallows_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(signals, "_AGAIN_SECONDS", 0.05)
    swallowed = []

    def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            time.sleep(5)
        except Terminated:  # as a library does with an exception in its callback
            swallowed.append(True)
        time.sleep(5)

    begin = time.monotonic()
    assert ends(main) == 143
    assert swallowed == [True]
    assert time.monotonic() - begin < 2


def test_a_request_at_the_very_end_is_not_lost() -> None:
    assert ends(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143


@pytest.mark.parametrize("error", [RuntimeError("of a library"), InputError("x: damaged.")])
def test_what_a_library_makes_of_it_is_a_stop(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            check_stop()
        except KeyboardInterrupt:
            raise error from None

    assert ends(main) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_inside_a_loop_that_looks_itself_nothing_is_raised() -> None:
    def main() -> bool:
        with Interruption(notice="") as request:
            os.kill(os.getpid(), signal.SIGTERM)
            check_stop()
            assert request.signal == signal.SIGTERM
            with request.raised(), pytest.raises(Terminated):
                check_stop()
            check_stop()
            request.raise_error()

    assert ends(main) == 143


def test_a_request_that_came_before_such_a_loop_stops_at_its_door() -> None:
    def main() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        with Interruption():
            pytest.fail("the loop must not begin")

    assert ends(main) == 129


def test_asked_twice_it_ends_at_once() -> None:
    done = []

    def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(2)

    assert ends(main) == 143
    assert done == [1]


def test_what_a_system_sends_when_it_shuts_down_is_one_request() -> None:
    with Interruption(notice="") as request:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal == signal.SIGTERM


def test_below_nohup_a_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ends(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
        with signals.signals_deferred():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_asked() -> None:
    seen = []

    def work() -> None:
        with Interruption() as request:
            check_stop()
            seen.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


def test_no_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise MemoryError("Unable to allocate 7 TiB\nfor an array")

    assert ends(main) == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: not enough memory (Unable to allocate 7 TiB for an array).")
    assert message.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character(encoding: str) -> None:
    code = (
        "import sys; from danq_keras.system.command import run_command; "
        "sys.exit(run_command(lambda _: print('3 × 4 … – \\udc80') or "
        "print('→ \\udc80', file=sys.stderr) or 0))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, check=False
    )
    assert result.returncode == 0
    assert result.stdout.decode(encoding).startswith("3 ")
    assert b"Traceback" not in result.stderr
