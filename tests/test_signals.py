"""Signals while the program waits, workers that hang, shared memory of killed runs, processes that never meet."""

import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from functools import partial

import numpy as np
import pytest

from data import segments
from data.pipeline import batches
from harness.process import Interrupted, StopSignal
from harness.run import stream
from harness.run.stream import Stream
from navit_eqx.errors import ConfigError, Unavailable
from navit_eqx.training.rendezvous import meet


def waits(stop: StopSignal, signals: int = 1) -> float:
    """Seconds until a wait without end is interrupted."""
    start = time.monotonic()
    with pytest.raises(Interrupted), stop.waiting():
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return time.monotonic() - start


@pytest.fixture
def no_finalizers():
    """What a finalizer raises is a warning, and warnings are errors."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_signal_interrupts_a_wait_and_nothing_else(no_finalizers):
    before = signal.getsignal(signal.SIGALRM)
    with StopSignal() as stop:
        with stop.waiting():
            pass
        assert waits(stop) < 30 and stop
        with pytest.raises(Interrupted), stop.waiting():
            time.sleep(60)
        time.sleep(0.05)  # no timer is left
    with StopSignal(60.0) as stop:
        with stop.waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        assert stop, "it came in time"
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


class Small:
    """Rows that a worker sends through shared memory."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(9000, index, np.uint8)


def left(prefix: str) -> list[str]:
    return [name for name in os.listdir(segments.PLACE) if name.removeprefix("sem.").startswith(prefix)]


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_hold_up_the_end_and_what_it_leaves_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PATIENCE", 0.5)
    monkeypatch.setattr(segments.shared_memory, "_make_filename", segments.shared_memory._make_filename)
    monkeypatch.setattr(segments.synchronize.SemLock, "_make_name", segments.synchronize.SemLock._make_name)
    prefix = segments.prefix_of(tmp_path)
    running = Stream(partial(batches, Small(), 2, workers=1, prefix=prefix), 0)
    next(running.batches)
    (worker,) = [p for p in stream.multiprocessing.active_children() if p not in running.others]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    start = time.monotonic()
    running.close()
    assert time.monotonic() - start < 60 and not worker.is_alive()
    assert any(not name.startswith("sem.") for name in left(prefix))
    assert segments.remove(prefix) > 0 and left(prefix) == []


def test_all_that_a_worker_shares_is_named_by_its_run(monkeypatch):
    """Whatever was imported: joblib, by scikit-learn, names semaphores anew, and those of a killed run stayed."""
    import joblib  # noqa: F401

    for place, name in ((segments.shared_memory, "_make_filename"), (segments.synchronize.SemLock, "_make_name")):
        monkeypatch.setattr(place, name, getattr(place, name))
    segments.name_by("navit-0123-")
    lock, memory = multiprocessing.get_context("spawn").Lock(), segments.shared_memory.SharedMemory(create=True, size=1)
    memory.close()
    memory.unlink()
    assert lock._semlock.name.startswith("/navit-0123-") and memory.name.startswith("navit-0123-")


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "PLACE", tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    mine, other = segments.prefix_of(tmp_path / "run"), segments.prefix_of(tmp_path / "other")
    assert mine != other and len(mine) + 9 <= 31
    for name in (f"{mine}1", f"sem.{mine}-2", f"{other}1", "psm_1"):
        (tmp_path / name).touch()
    assert segments.remove(mine) == 2 and segments.remove("") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other", f"{other}1", "psm_1"}


# processes that meet ------------------------------------------------------------------------------------


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def together(address: str, *guests: tuple[int, int], timeout: float = 20.0) -> list[Exception | None]:
    """What each of several processes ends with, as (count, index); here they are threads."""
    found: list[Exception | None] = [None] * len(guests)

    def run(n: int, count: int, index: int) -> None:
        try:
            meet(address, address, count, index, timeout)
        except Exception as error:
            found[n] = error

    threads = [threading.Thread(target=run, args=(n, *guest)) for n, guest in enumerate(guests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_processes_meet_in_any_order(address):
    assert together(address, (3, 2), (3, 0), (3, 1)) == [None] * 3
    assert together(address, (1, 0)) == [None]


def test_a_process_that_does_not_come_is_named(address):
    (alone,) = together(address, (3, 0), timeout=0.3)
    assert isinstance(alone, Unavailable) and "process 1, 2 of 3 did not come within 0.3 s" in str(alone)
    (guest,) = together(address, (2, 1), timeout=0.3)
    assert isinstance(guest, Unavailable) and "did not start all 2 processes" in str(guest)


def test_numbers_that_do_not_fit_are_named(address):
    host, guest = together(address, (2, 0), (3, 1), timeout=2.0)
    assert isinstance(host, Unavailable) and isinstance(guest, ConfigError)
    assert "JAX_NUM_PROCESSES=3 here, 2 in process 0" in str(guest)
    for count, index in ((2, 2), (0, 0)):
        with pytest.raises(ConfigError, match="must be below JAX_NUM_PROCESSES"):
            meet(address, address, count, index, 1.0)
    with pytest.raises(ConfigError, match="is not host:port"):
        meet("here", "here", 2, 1, 1.0)


def test_a_port_in_use_is_named_at_once(address):
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(Unavailable, match=f"cannot listen at {address}, Address already in use"):
            meet(address, address, 2, 0, 60.0)


def test_a_stranger_does_not_disturb(address):
    """Something that speaks another language at the port."""
    host, port = address.split(":")

    def disturb() -> None:
        for _ in range(100):
            try:
                with socket.create_connection((host, int(port))) as line:
                    line.sendall(b"\xffGET / HTTP/1.1\r\n\r\n")
                return
            except OSError:
                time.sleep(0.02)

    threading.Thread(target=disturb).start()
    waiting = threading.Timer(0.5, lambda: together(address, (2, 1)))
    waiting.start()
    assert together(address, (2, 0)) == [None]
    waiting.join()
