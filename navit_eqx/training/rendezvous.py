"""All processes meet before JAX joins them: JAX aborts with a C++ trace where one does not come or a port is taken."""

import json
import socket
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any

from ..errors import Unavailable, check

ANSWER = 5.0  # seconds for one message
RETRY = 0.2  # seconds between attempts to connect


def meet(address: str, bind: str, count: int, index: int, timeout: float) -> None:
    """Return once all `count` processes are there; process 0 listens at `bind`, the others call `address`.

    Raises ConfigError where the numbers do not fit each other, Unavailable where process 0 cannot listen or a process
    does not come within `timeout` seconds.
    """
    check(0 <= index < count, f"JAX_PROCESS_ID={index} must be below JAX_NUM_PROCESSES={count}")
    if count == 1:
        return
    print(
        f"process {index} waits for {count} processes at {address}, at most {timeout:g} s", file=sys.stderr, flush=True
    )
    deadline = time.monotonic() + timeout
    if index == 0:
        host(split(bind), count, deadline, timeout)
    else:
        call(split(address), count, index, deadline, timeout)


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`.   Raises ConfigError."""
    name, _, port = address.rpartition(":")
    check(bool(name) and port.isdecimal() and int(port) < 2**16, f"{address} is not host:port: see docs/scaling.md")
    return name.strip("[]"), int(port)


def host(place: tuple[str, int], count: int, deadline: float, timeout: float) -> None:
    """Wait for the other processes, then tell each to go on."""
    with ExitStack() as stack:
        try:
            family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
            server = stack.enter_context(socket.create_server(place, family=family, backlog=count))
        except OSError as error:
            raise Unavailable(
                f"process 0 cannot listen at {place[0]}:{place[1]}, {error.strerror}: choose another port in "
                "JAX_COORDINATOR_ADDRESS, the same for all processes"
            ) from None
        there: dict[int, socket.socket] = {}
        while len(there) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                guest = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(n) for n in range(1, count) if n not in there)
                raise Unavailable(
                    f"process {missing} of {count} did not come within {timeout:g} s: look at its messages, and start "
                    "all with the same command"
                ) from None
            with suppress(OSError, ValueError, TypeError, KeyError):  # a stranger, or a guest that left
                guest.settimeout(ANSWER)
                said = receive(guest)
                why = refusal(said, count)
                send(guest, {"error": why} if why else {})
                if not why:
                    there[said["index"]] = guest
        for guest in there.values():
            with suppress(OSError):
                send(guest, {"go": True})


def refusal(said: dict[str, Any], count: int) -> str:
    """The reason why a process cannot join; empty where it can."""
    if said["count"] != count:
        return f"JAX_NUM_PROCESSES={said['count']} here, {count} in process 0: start all with the same number"
    return "" if 0 < said["index"] < count else f"JAX_PROCESS_ID={said['index']} is not one of 1 to {count - 1}"


def call(place: tuple[str, int], count: int, index: int, deadline: float, timeout: float) -> None:
    """Tell process 0 that this process is there, and wait until all are."""
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(place, timeout=ANSWER) as line:
                send(line, {"index": index, "count": count})
                said = receive(line)
                check("error" not in said, f"process 0 refuses process {index}: {said.get('error')}")
                line.settimeout(max(deadline - time.monotonic(), 0.01))
                if receive(line).get("go"):
                    return
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            last = error
        time.sleep(RETRY)
    raise Unavailable(
        f"process 0 did not start all {count} processes at {place[0]}:{place[1]} within {timeout:g} s "
        f"({last or 'no answer'}): look at its messages, and start all with the same command"
    )


def send(line: socket.socket, value: dict[str, Any]) -> None:
    """Write one line of JSON."""
    line.sendall(json.dumps(value).encode() + b"\n")


def receive(line: socket.socket) -> dict[str, Any]:
    """One line of JSON.   Raises OSError or ValueError."""
    text = b""
    while not text.endswith(b"\n") and len(text) < 1000:
        part = line.recv(1)
        if not part:
            raise ConnectionError("the connection was closed")
        text += part
    value = json.loads(text)
    return value if isinstance(value, dict) else {}
