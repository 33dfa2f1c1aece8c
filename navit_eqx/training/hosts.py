"""Multi-process start-up, broadcast and gather between hosts, main-process logging.

Collective functions must be called by all processes, in the same order. With one process they do nothing.
"""

import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import ConfigError, check
from .rendezvous import meet
from .sharding import data_mesh, replicated

TIMEOUTS: dict[str, Any] = {
    "initialization_timeout": 300,
    "heartbeat_timeout_seconds": 60,
    "shutdown_timeout_seconds": 24 * 3600,  # the other processes wait while process 0 evaluates
}
BLOCK = 4096  # bytes: messages are padded to a multiple, so that few programs are compiled


def initialize_distributed(
    distributed: Literal["auto", "on", "off"], environment: Mapping[str, str] = os.environ
) -> None:
    """Initialize `jax.distributed` for this process; only the main process keeps its standard output.

    Must be called before anything that initializes JAX's backend. Raises ConfigError where `distributed` is "on" and no
    coordinator is found, or where environment variables are inconsistent; Unavailable where a process does not come.
    """
    if distributed == "off" or (distributed == "auto" and not launcher(environment)):
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would replace our SIGTERM handler
    arguments = explicit_arguments(environment)
    if {"num_processes", "process_id"} <= arguments.keys() and "JAX_COORDINATOR_ADDRESS" in environment:
        address = environment["JAX_COORDINATOR_ADDRESS"]
        bind = arguments.get("coordinator_bind_address", address)
        count, index = arguments["num_processes"], arguments["process_id"]
        meet(address, bind, count, index, TIMEOUTS["initialization_timeout"])
    try:
        jax.distributed.initialize(**arguments, **TIMEOUTS)
    except ValueError as error:
        raise ConfigError(
            f"--distributed {distributed} found no processes to join ({error}): set JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID (docs/scaling.md), or --distributed off"
        ) from None
    connect_devices()
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")


def connect_devices() -> None:
    """Connect all devices before training: the collective libraries wait only 30 s for a late process."""
    broadcast_from_main(None)
    any_host = AnyHost(data_mesh())
    for _ in range(2):
        any_host(False)


def launcher(environment: Mapping[str, str]) -> str | None:
    """The launcher that started this process as one of several, from environment variables; None for a single process.

    A shell inside a Slurm allocation has some of the variables, but is a step with one task.
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
    """Arguments of `jax.distributed.initialize` from variables that JAX does not read: process count and process id.

    With both and a coordinator address, cluster detection is off, and process 0 listens on that address only.
    Raises ConfigError where a variable is not a number or the address has no port.
    """
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    texts = {key: environment[name] for key, name in names.items() if name in environment}
    for key, text in texts.items():
        check(text.isdecimal(), f"{names[key]}={text} is not a number: see docs/scaling.md")
    numbers = {key: int(text) for key, text in texts.items()}
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if address is None or len(numbers) < 2:
        return numbers
    check(":" in address, f"JAX_COORDINATOR_ADDRESS={address} names no port: write host:port")
    listens = {"coordinator_bind_address": environment.get("JAX_COORDINATOR_BIND_ADDRESS", address)}
    return {**numbers, "cluster_detection_method": "deactivate", **(listens if numbers["process_id"] == 0 else {})}


def is_main_process() -> bool:
    """Whether this is process 0, which writes the folder of the run and logs."""
    return jax.process_index() == 0


def all_gather(value: Any) -> list[Any]:
    """The values of all processes, in process order, on every process; values are JSON."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(-(-lengths.max() // BLOCK) * BLOCK, np.uint8)
    padded[: len(text)] = text
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths)]


def broadcast_from_main(value: Any) -> Any:
    """The value of process 0, on every process."""
    return all_gather(value)[0]


def merge_from_hosts(value: dict[str, Any]) -> dict[str, Any]:
    """The union of the dictionaries of all processes, on every process."""
    return {key: entry for each in all_gather(value) for key, entry in each.items()}


def assert_same_on_hosts(value: dict[str, Any]) -> None:
    """Raises ConfigError where processes have different entries, naming keys and processes."""
    zero, *others = all_gather(value)
    for n, other in enumerate(others, 1):
        different = sorted(key for key in zero.keys() | other.keys() if zero.get(key) != other.get(key))
        check(
            not different,
            f"processes 0 and {n} differ in {', '.join(different)}: start all with the same command on the same images",
        )


def is_peer_failure(error: Exception) -> bool:
    """Whether an error means that another process of this run has failed."""
    return (
        jax.distributed.is_initialized()
        and isinstance(error, jax.errors.JaxRuntimeError)
        and any(word in str(error) for word in ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED"))
    )


def replicate_to_host(tree: Any) -> Any:
    """The arrays on this process alone: gathered leaf by leaf where other processes hold shards."""
    if jax.process_count() == 1:
        return tree
    return jax.device_put(multihost_utils.process_allgather(tree, tiled=True))


class AnyHost:
    """Whether any process passed True in the previous call, flag by flag; the same result on every process.

    The result is one call late, so that no process waits for the step in progress; immediate for a single process.
    """

    def __init__(self, mesh: Mesh):
        self.rows = NamedSharding(mesh, PartitionSpec("data"))
        self.any = jax.jit(partial(jnp.any, axis=0), out_shardings=replicated(mesh))
        self.pending: jax.Array | None = None

    def __call__(self, *mine: bool) -> tuple[bool, ...]:
        if jax.process_count() == 1:
            return mine
        flags = np.tile(np.array(mine), (jax.local_device_count(), 1))
        before, self.pending = self.pending, self.any(jax.make_array_from_process_local_data(self.rows, flags))
        return (False,) * len(mine) if before is None else tuple(np.asarray(before).tolist())
