"""What programs print: plain text, and never the end of a run."""

import errno
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exit_codes import run
from harness.process import StopSignal, was_the_command
from harness.terminal import LONGEST, SafeStream, check_written, is_read, plain
from navit_eqx.files import NotWritten, replacing

ROOT = Path(__file__).parent.parent


@given(text=st.text())
def test_plain_text_has_no_terminal_code(text):
    shown = plain(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert max(map(len, text.split("\n"))) > LONGEST or shown.count("\n") == text.count("\n")
    if all(c.isprintable() or c in "\n\t" for c in text) and len(text) <= LONGEST:
        assert shown == text


def test_long_lines_are_capped():
    assert len(plain("x" * 10**6)) < LONGEST + 10


class Broken(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text):
        raise BrokenPipeError("nobody reads")


def test_a_stream_that_fails_goes_silent():
    stream = SafeStream(Broken())
    print("one", file=stream, flush=True)
    print("two", file=stream, flush=True)
    assert stream.silent


class Full(io.StringIO):
    """A file on a full disk, which is told at the end."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_output_that_is_lost_is_told(monkeypatch):
    """On a full disk an error; a reader that went away wanted no more. Without a stream, or with another, nothing."""
    for inner, read in ((io.StringIO(), True), (Broken(), False)):
        monkeypatch.setattr(sys, "stdout", SafeStream(inner))
        print("a line", flush=True)
        check_written()
        assert is_read() == read
    monkeypatch.setattr(sys, "stdout", SafeStream(Full()))
    print("a line")
    with pytest.raises(NotWritten, match="standard output cannot be written, No space left .*: free space"):
        check_written()
    for other in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdout", other)
        check_written()
        assert is_read()


def test_a_program_outlives_its_reader(tmp_path):
    """As in `program | head -1`: the reader closes the pipe, the program works on to its end."""
    code = f"""
from harness.exit_codes import run
def main():
    for n in range(20000):
        print("line", n, flush=True)
    open({str(tmp_path / "done")!r}, "w").close()
run(main)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as program:
        assert program.stdout.readline() == b"line 0\n"
        program.stdout.close()
        assert program.wait(60) == 0, program.stderr.read()
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_ask_for_the_end(number):
    """In a child process: the first one is noted, a second one ends it."""
    code = """
import sys, time
from harness.process import StopSignal
with StopSignal() as stop:
    print("ready", flush=True)
    while not stop: time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(30)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == b"noted\n"
        child.send_signal(number)
        assert child.wait(30) == 128 + number
    assert number in StopSignal.SIGNALS


def test_a_script_run_by_another_program_is_not_started_anew(tmp_path, monkeypatch):
    """By runpy, as in a notebook: the program that runs it stays."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom harness.process import tune_allocator\nif __name__ == '__main__':\n    tune_allocator()\n"
    )
    monkeypatch.setattr(os, "execve", lambda *a: pytest.fail("the process was replaced"))
    for name in ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert not was_the_command()
    runpy.run_path(str(script), run_name="__main__")


def test_the_command_itself_is_started_anew(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom harness.process import tune_allocator\n"
        "if __name__ == '__main__':\n    tune_allocator()\n"
        "    print(os.environ.get('MALLOC_MMAP_MAX_'), *sys.argv[1:])\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}
    done = subprocess.run([sys.executable, str(script), "a"], capture_output=True, text=True, env=clean)
    assert done.stdout == ("0 a\n" if sys.platform == "linux" else "None a\n"), done.stderr


ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.mark.parametrize("number", ENDS)
def test_a_program_that_is_ended_leaves_nothing_half_done(number, tmp_path, capsys):
    """Outside of training: the file that was there stays, its draft is removed, and the code says which signal came."""
    (tmp_path / "table").write_text("before")
    usual = [signal.getsignal(each) for each in ENDS]

    def main():
        with replacing(tmp_path / "table") as draft:
            draft.write_text("half")
            os.kill(os.getpid(), number)
            time.sleep(60)

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 128 + number and f"stopped: {number.name}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["table"] and (tmp_path / "table").read_text() == "before"
    assert [signal.getsignal(each) for each in ENDS] == usual


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_that_is_ignored_stays_so(number):
    """As `nohup` has it: training goes on when the terminal is closed, and so does every other program."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), number)
            assert not stop
        run(lambda: os.kill(os.getpid(), number))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
