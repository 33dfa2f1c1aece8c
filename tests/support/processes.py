"""Several processes of one program, as on several hosts; the fixture `processes` of `tests/conftest.py` ends them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds


def start(module: str, processes: list, count: int, out: Path, *arguments: str) -> list[subprocess.Popen]:
    """So many processes of a module, with eight devices together; what they say goes to `out/said-N`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    plain = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(8 // count), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    cache = {"JAX_COMPILATION_CACHE_DIR": str(out / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    started = []
    for n in range(count):
        joint = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(n)}
        environment = os.environ | plain | cache | (joint if count > 1 else {})
        with (out / f"said-{n}").open("a") as said:
            command = [sys.executable, "-m", module, *arguments]
            started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said))
    processes += started
    return started


def ended(running: list[subprocess.Popen], out: Path, *codes: int) -> None:
    """Every process ends with one of these exit codes."""
    for n, process in enumerate(running):
        assert process.wait(PATIENCE) in codes, (out / f"said-{n}").read_text()
