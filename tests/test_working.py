"""Progress: nothing is silent for long, lines in place leave no trace, tables fit a terminal."""

import io
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import check
from harness import working as module
from harness.evaluation.tables import table
from harness.run.cadence import Cadence
from harness.terminal import ERASE, WIDTH, SafeStream
from harness.working import working

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


class Terminal(io.StringIO):
    """A terminal that can erase its line."""

    def isatty(self):
        return True

    @property
    def screen(self) -> str:
        """What is to be seen."""
        return "\n".join(line.split(ERASE)[-1] for line in self.getvalue().split("\n"))


@pytest.fixture
def impatient(monkeypatch):
    """Plain lines after a quarter of a second, lines in place after a hundredth."""
    monkeypatch.setattr(module, "PLAIN", 0.25)
    monkeypatch.setattr(module, "REFRESH", 0.01)
    monkeypatch.setenv("TERM", "xterm")


@given(events=st.lists(st.tuples(st.booleans(), WORDS), max_size=8))
def test_lines_in_place_leave_no_trace(events):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        terminal = Terminal()
        stream = SafeStream(terminal)
        for printed, text in events:
            print(text, file=stream) if printed else stream.status(text)
        stream.status("")
        assert terminal.screen == "".join(f"{text}\n" for printed, text in events if printed)


def test_a_line_in_place_waits_for_the_end_of_a_printed_one(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    stream = SafeStream(terminal)
    stream.write("half")
    stream.status("in place")
    stream.write(" and whole\n")
    assert terminal.screen == "half and whole\n"


def test_on_a_terminal_the_innermost_work_is_shown_and_erased(impatient, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", SafeStream(terminal))
    with working("outer"), working("inner", 7, "images") as advance:
        advance(3)
        time.sleep(0.1)
        assert "inner: 3 of 7 images, 0:00" in terminal.screen and "outer" not in terminal.getvalue()
    print("done")
    assert terminal.screen == "done\n"


def test_elsewhere_a_line_comes_only_after_silence(impatient, monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", SafeStream(pipe))
    with working("talking"):
        for _ in range(8):
            print("word")
            time.sleep(0.05)
    assert "talking" not in pipe.getvalue()
    with working("compiling"):
        time.sleep(0.6)
    assert 1 <= pipe.getvalue().count("compiling: 0:0") <= 2 and ERASE not in pipe.getvalue()
    with working("hidden", plain=False):
        time.sleep(0.4)
    assert "hidden" not in pipe.getvalue()


def test_an_error_ends_the_work():
    with pytest.raises(KeyError), working("failing"):
        raise KeyError
    assert module.OPEN == []


@given(steps=st.integers(0, 9), n=st.integers(1, 40))
def test_steps_are_counted(steps, n):
    assert Cadence(steps, 1e9).due(n, wanted=True) == (steps > 0 and n % steps == 0)


@given(seconds=st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0)), min_size=1, max_size=30))
def test_processes_agree_on_a_time(seconds):
    """Clocks differ, wishes come one call late: both processes find the same steps due, never two in a row."""
    now = [0.0, 0.0]
    with pytest.MonkeyPatch.context() as patch:
        current = 0
        patch.setattr("harness.run.cadence.time.perf_counter", lambda: now[current])
        pair, late, due = [Cadence(None, 2.0), Cadence(None, 2.0)], False, []
        for n, passed in enumerate(seconds, 1):
            wishes, found = [], []
            for current in (0, 1):
                now[current] += passed[current]
                wishes.append(pair[current].wanted)
                found.append(pair[current].due(n, late))
            late = any(wishes)
            assert found[0] == found[1]
            due.append(found[0])
    assert not any(a and b for a, b in zip(due, due[1:]))


ROWS = st.lists(
    st.dictionaries(
        st.text("abc_xyz", min_size=1, max_size=60), st.none() | st.text("aäz ", max_size=90) | st.floats()
    ),
    min_size=1,
    max_size=1,
).flatmap(lambda rows: st.integers(1, 3).map(lambda n: rows * n))


@given(rows=ROWS)
def test_tables_fit_a_terminal(rows):
    assert max(map(len, table(rows).split("\n"))) <= WIDTH


@given(count=st.integers(1, 40), rows=st.integers(2, 4))
def test_split_tables_have_every_cell(count, rows):
    cells = [{f"column {c}": f"r{r}c{c}" for c in range(count)} for r in range(rows)]
    text = table(cells)
    assert all(cell in text.split() for row in cells for cell in row.values())
    assert all(line.split()[0] == cells[0]["column 0"] for line in text.split("\n") if "r0c" in line)


@given(name=st.text(min_size=1, max_size=90).filter(lambda name: "/" not in name))
def test_the_table_of_checked_folders_fits_a_terminal(name):
    assert max(map(len, check.table({f"{name}/a.png": ""}).split("\n"))) <= WIDTH


def test_a_long_check_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    monkeypatch.setattr(check, "SILENT", 0.0)
    check.main([str(tmp_path)])
    assert "1 of 2 files\n" in capsys.readouterr().out
