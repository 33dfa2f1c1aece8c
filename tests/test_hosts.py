"""When a process joins others, told from its environment; with one process nothing is told to anyone."""

import os

import jax
import jax.numpy as jnp
import pytest

from navit_eqx.errors import ConfigError
from navit_eqx.training import hosts
from tests.support.devices import mesh_of

STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    "environment, name",
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, None),  # a shell in an allocation, before any step
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell that is a step
        (STEP | {"SLURM_NTASKS": "1"}, None),
        (STEP, "Slurm"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "8"}, "Slurm"),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "a TPU pod"),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"MEGASCALE_NUM_SLICES": "2"}, "several TPU slices"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "an indexed Kubernetes job"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_COORDINATOR_ADDRESS"),
    ],
)
def test_a_launcher_is_recognised(environment, name):
    assert hosts.launcher(environment) == name


PLAIN = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}


def test_variables_say_all():
    got = hosts.explicit_arguments(PLAIN)
    assert got.pop("coordinator_bind_address") == "a:1"
    assert got == {"num_processes": 2, "process_id": 0, "cluster_detection_method": "deactivate"}
    assert "coordinator_bind_address" not in hosts.explicit_arguments(PLAIN | {"JAX_PROCESS_ID": "1"})
    assert hosts.explicit_arguments({"JAX_PROCESS_ID": "1"}) == {"process_id": 1}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID=first is not a number"),
        ({"JAX_COORDINATOR_ADDRESS": "a"}, "names no port: write host:port"),
    ],
)
def test_variables_that_do_not_fit_are_named(change, words):
    with pytest.raises(ConfigError, match=words):
        hosts.explicit_arguments(PLAIN | change)


def test_who_must_join_and_finds_nobody_is_told_how(monkeypatch):
    def refuse(**given):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    hosts.initialize_distributed("off", PLAIN)
    hosts.initialize_distributed("auto", {})
    with pytest.raises(ConfigError, match="found no processes to join .*JAX_NUM_PROCESSES"):
        hosts.initialize_distributed("on", {})


def test_alone_there_is_nobody_to_ask():
    value = {"a": [1, None, "é"]}
    assert (
        hosts.all_gather(value) == [value]
        and hosts.broadcast_from_main(value) is value
        and hosts.merge_from_hosts(value) == value
    )
    hosts.assert_same_on_hosts(value)
    tree = {"w": jnp.zeros(3)}
    assert hosts.replicate_to_host(tree) is tree and hosts.is_main_process()
    any_host = hosts.AnyHost(mesh_of(2))
    assert any_host(True, False) == (True, False)
    assert os.environ.get("JAX_COORDINATOR_ADDRESS") is None and not hosts.is_peer_failure(RuntimeError("Gloo"))


def test_processes_that_differ_are_named(monkeypatch):
    monkeypatch.setattr(hosts, "all_gather", lambda value: [value, value, value | {"seed": 1}])
    with pytest.raises(ConfigError, match="processes 0 and 2 differ in seed"):
        hosts.assert_same_on_hosts({"seed": 0, "rows": 8})
