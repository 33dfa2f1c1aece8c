"""Processes of one run: how they find each other, what they tell each other, and which of them speaks.

Functions that tell or ask are called by all processes, in the same order. With one process they do nothing.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import ConfigError, check
from .sharding import data_mesh, replicated

TIMEOUTS: dict[str, Any] = {
    "initialization_timeout": 300,
    "heartbeat_timeout_seconds": 60,
    "shutdown_timeout_seconds": 24 * 3600,  # process 0 evaluates while the others wait for it to end
}
BLOCK = 4096  # bytes: messages are filled up to a multiple, so that few programs are compiled


def initialize_distributed(
    distributed: Literal["auto", "on", "off"], environment: Mapping[str, str] = os.environ
) -> None:
    """Become one of the processes of a run; only the first goes on speaking on standard output.

    To be called before anything that starts JAX's backend. Raises ConfigError where `distributed` is "on" and there
    is nothing to join, or variables do not fit together.
    """
    if distributed == "off" or (distributed == "auto" and not launcher(environment)):
        return
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away from whoever listens
    try:
        jax.distributed.initialize(**explicit_arguments(environment), **TIMEOUTS)
    except ValueError as error:
        raise ConfigError(
            f"--distributed {distributed} found no processes to join ({error}): set JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID (docs/scaling.md), or --distributed off"
        ) from None
    connect_devices()
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")


def connect_devices() -> None:
    """Connect all devices now, that nobody is busy: the libraries below wait half a minute for a late process."""
    broadcast_from_main(None)
    any_host = AnyHost(data_mesh())
    for _ in range(2):
        any_host(False)


def launcher(environment: Mapping[str, str]) -> str | None:
    """What started this process as one of several, told from the environment alone; None where nothing did.

    A shell inside a Slurm allocation has some of the variables, but is a step of one task.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))
    found = {
        "JAX_COORDINATOR_ADDRESS": "JAX_COORDINATOR_ADDRESS" in environment,
        "Slurm": {"SLURM_STEP_NODELIST", "SLURM_PROCID"} <= environment.keys() and tasks != "1",
        "Open MPI": "OMPI_MCA_orte_hnp_uri" in environment and environment.get("OMPI_COMM_WORLD_SIZE", "1") != "1",
        "a TPU pod": "," in environment.get("TPU_WORKER_HOSTNAMES", ""),
        "several TPU slices": environment.get("MEGASCALE_NUM_SLICES", "1") != "1",
        "an indexed Kubernetes job": {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys(),
    }
    return next((name for name, here in found.items() if here), None)


def explicit_arguments(environment: Mapping[str, str]) -> dict[str, Any]:
    """What JAX does not read itself: count, own number; then nothing is detected, and only the address given listens.

    Raises ConfigError.
    """
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    given = {key: environment[name] for key, name in names.items() if name in environment}
    for key, text in given.items():
        check(text.isdecimal(), f"{names[key]}={text} is not a number: see docs/scaling.md")
    numbers = {key: int(text) for key, text in given.items()}
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if address is None or len(numbers) < 2:
        return numbers
    check(":" in address, f"JAX_COORDINATOR_ADDRESS={address} names no port: write host:port")
    listens = {"coordinator_bind_address": environment.get("JAX_COORDINATOR_BIND_ADDRESS", address)}
    return {**numbers, "cluster_detection_method": "deactivate", **(listens if numbers["process_id"] == 0 else {})}


def is_main_process() -> bool:
    """Whether this process writes the run's folder and speaks for all."""
    return jax.process_index() == 0


def all_gather(value: Any) -> list[Any]:
    """What each process gives, in their order, on all of them; anything that JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    filled = np.zeros(-(-lengths.max() // BLOCK) * BLOCK, np.uint8)
    filled[: len(text)] = text
    texts = multihost_utils.process_allgather(filled)
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths)]


def broadcast_from_main(value: Any) -> Any:
    """What process 0 gives, on all."""
    return all_gather(value)[0]


def merge_from_hosts(value: dict[str, Any]) -> dict[str, Any]:
    """The entries of all processes."""
    return {key: entry for each in all_gather(value) for key, entry in each.items()}


def assert_same_on_hosts(value: dict[str, Any]) -> None:
    """Raises ConfigError where processes differ, naming what and which."""
    zero, *others = all_gather(value)
    for n, other in enumerate(others, 1):
        different = sorted(key for key in zero.keys() | other.keys() if zero.get(key) != other.get(key))
        check(
            not different,
            f"processes 0 and {n} differ in {', '.join(different)}: start all with the same command on the same images",
        )


def is_peer_failure(error: Exception) -> bool:
    """Whether an error says that another process of this run is gone."""
    return (
        jax.distributed.is_initialized()
        and isinstance(error, jax.errors.JaxRuntimeError)
        and any(word in str(error) for word in ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED"))
    )


def replicate_to_host(tree: Any) -> Any:
    """The same numbers where this process can use them by itself: gathered, leaf by leaf, if others hold a part."""
    if jax.process_count() == 1:
        return tree
    return jax.device_put(multihost_utils.process_allgather(tree, tiled=True))


class AnyHost:
    """Whether any process said yes at the call before: the same answer on all.

    One call late, so that none waits for the step under way. A single process hears itself at once.
    """

    def __init__(self, mesh: Mesh):
        self.rows = NamedSharding(mesh, PartitionSpec("data"))
        self.any = jax.jit(jnp.any, out_shardings=replicated(mesh))
        self.asked: jax.Array | None = None

    def __call__(self, mine: bool) -> bool:
        if jax.process_count() == 1:
            return mine
        flags = np.full(jax.local_device_count(), mine)
        before, self.asked = self.asked, self.any(jax.make_array_from_process_local_data(self.rows, flags))
        return before is not None and bool(before)
