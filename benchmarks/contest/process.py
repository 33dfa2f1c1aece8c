"""A contestant as a process: started, asked for rounds, ended."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.process import ALLOCATOR

ROOT = Path(__file__).parent.parent.parent


class Process:
    """A running worker after warm-up, or the reason why it is absent."""

    def __init__(self, name: str, python: str, worker: Path, folder: Path, env: dict[str, str]):
        self.name, self.rounds, self.absent = name, [], ""
        if not python:
            self.absent = "--peers is not set"
            return
        self.log = folder / f"{name}.log"
        self.started = time.time()
        try:
            with self.log.open("w") as log:
                self.process = subprocess.Popen(
                    [python, str(worker), name, str(folder)],
                    **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
                    **{"stderr": log, "env": os.environ | ALLOCATOR | env | {"PYTHONPATH": str(ROOT)}},
                )
        except OSError as error:
            self.absent = str(error)
            return
        self.about = self.answer()
        self.absent = self.about.get("absent", "")

    def answer(self) -> dict[str, Any]:
        """The next line of its output; a process that ended is absent."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        lines = self.log.read_text().strip().splitlines() or ["nothing"]
        return {"absent": f"ended with code {self.process.wait()}, last output: {lines[-1]}"}

    def round(self) -> None:
        if not self.absent:
            self.process.stdin.write("round\n")
            self.process.stdin.flush()
            answer = self.answer()
            self.absent = answer.get("absent", "")
            self.rounds += [] if self.absent else [answer]

    def end(self) -> None:
        if hasattr(self, "process"):
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()


def thread_limits(count: int) -> dict[str, str]:
    """Environment that limits the threads of NumPy and PyTorch."""
    return {f"{kind}_NUM_THREADS": str(count) for kind in ("OMP", "MKL", "OPENBLAS")}
