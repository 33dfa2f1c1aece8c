"""A trace holds the steps that were asked for, whole ones, and is written also where a run is stopped."""

import jax
import jax.numpy as jnp
import pytest

from harness.run import trace as module
from harness.run.trace import BEFORE, Trace


@pytest.fixture
def calls(monkeypatch):
    """What was asked of the profiler, and when something was waited for."""
    found = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder, **how: found.append(("start", folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: found.append(("stop",)))
    monkeypatch.setattr(module.jax, "block_until_ready", lambda result: found.append(("wait", result)))
    return found


@pytest.mark.parametrize(("start", "steps"), [(0, 1), (0, 5), (300, 3)])
def test_so_many_steps_are_recorded(calls, tmp_path, start, steps):
    trace = Trace(tmp_path, start, steps, start + 1000)
    for n in range(start + 1, start + BEFORE + steps + 9):
        calls.append(n)
        trace.after(n, f"metrics {n}")
    trace.close()
    first, last = calls.index(("start", tmp_path)), calls.index(("stop",))
    assert [c for c in calls[first:last] if isinstance(c, int)] == [
        *range(start + BEFORE + 1, start + BEFORE + steps + 1)
    ]
    assert calls[first - 1] == ("wait", f"metrics {start + BEFORE}")
    assert calls[last - 1] == ("wait", f"metrics {start + BEFORE + steps}") and calls.count(("stop",)) == 1


@pytest.mark.parametrize(("end", "steps", "recorded"), [(10, 3, [8, 9, 10]), (3, 9, [2, 3]), (22, 2, [21, 22])])
def test_a_short_run_records_its_last_steps(calls, tmp_path, end, steps, recorded):
    """All but the first, which compiles."""
    trace = Trace(tmp_path, 0, steps, end)
    for n in range(1, end + 1):
        calls.append(n)
        trace.after(n, None)
    trace.close()
    first, last = calls.index(("start", tmp_path)), calls.index(("stop",))
    assert [c for c in calls[first:last] if isinstance(c, int)] == recorded


def test_without_the_option_nothing_is_waited_for(calls, tmp_path):
    trace = Trace(tmp_path, 0, 0, 59)
    for n in range(1, 60):
        trace.after(n, None)
    trace.close()
    assert not calls


def test_a_run_that_is_stopped_writes_what_it_has(calls, tmp_path):
    trace = Trace(tmp_path, 0, 1000, 2000)
    for n in range(1, 40):
        trace.after(n, None)
    trace.close()
    assert calls[-1] == ("stop",)


def test_the_files_are_those_of_perfetto_and_tensorboard(tmp_path, capsys):
    trace = Trace(tmp_path / "trace", 0, 1, 1000)
    for n in (BEFORE, BEFORE + 1):
        trace.after(n, jnp.ones(3) + n)
    names = {path.name for path in (tmp_path / "trace").rglob("*") if path.is_file()}
    assert "perfetto_trace.json.gz" in names and any(name.endswith(".xplane.pb") for name in names)
    assert str(tmp_path / "trace") in capsys.readouterr().out
