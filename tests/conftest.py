"""Strict settings for every test: float64, no silent change of dtype or rank, eight CPU devices, Hypothesis."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = os.environ.get("NAVIT_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
if "XDG_CACHE_HOME" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="navit-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
if version("jaxlib").startswith("0.10."):  # compiles in half the time; another might not know these
    quickly = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ.setdefault("XLA_FLAGS", quickly)

import jax
import pytest
from hypothesis import Phase, settings

# As from a terminal: below nohup, and in the background of a shell, signals are ignored that tests send.
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# What is tested is what a program says, not how fast: most of the time would go into making it fast.
jax.config.update("jax_disable_most_optimizations", True)

# No deadlines: the first example compiles.
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=2000, deadline=None, print_blob=True)
# A mistake has to be seen, not to be made small.
quick = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
settings.register_profile("mutants", max_examples=20, deadline=None, derandomize=True, phases=quick)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not walk over it again and again."""
    gc.freeze()


DATASETS = os.environ.get("NAVIT_DATASETS", "")


@pytest.fixture(autouse=True, scope="session")
def small_groups():
    """Rows are computed in groups of few tokens: eight devices would compute thousands for a handful of images."""
    from navit_eqx import inference

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "TOKENS_AT_ONCE", 128)
        yield


@pytest.fixture
def datasets():
    """Folder of real images; without it the test is skipped."""
    from pathlib import Path

    if not DATASETS:
        pytest.skip("NAVIT_DATASETS is not set: no real images to test on")
    return Path(DATASETS)


@pytest.fixture
def processes():
    """Processes that a test starts; what is left of them is ended."""
    running: list = []
    yield running
    for process in running:
        process.kill()
        process.wait()
