"""What is saved is what comes back, to the bit, or is named as damaged."""

import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from navit_eqx.errors import ConfigError
from navit_eqx.training import checkpoints
from navit_eqx.training.checkpoints import Checkpointer, CorruptCheckpoint, digest, load
from navit_eqx.training.sharding import abstract_arrays
from tests.support.laws import caught
from tests.support.runs import bits_of, like, same_bits

DTYPES = ("float32", "float64", "bfloat16", "int32", "uint8")


def any_bits(seed: int, sharding=None) -> dict[str, jax.Array]:
    """Every bit pattern: NaN with a payload, −0, subnormal numbers."""
    rng = np.random.default_rng(seed)
    leaves = {name: np.frombuffer(rng.bytes(8 * 6 * jnp.dtype(name).itemsize), jnp.dtype(name)) for name in DTYPES}
    return {name: jax.device_put(leaf.reshape(8, 6), sharding) for name, leaf in leaves.items()}


def two_saved(folder: Path) -> tuple[dict, dict]:
    """Steps 1 and 2 on disk."""
    first, second = any_bits(1), any_bits(2)
    with Checkpointer(folder, 2) as saver:
        saver.save(1, first, {"n": 1})
        saver.save(2, second, {"n": 2})
    return first, second


def test_every_bit_comes_back_on_another_sharding(tmp_path):
    """Saved on eight devices, read on one; saved on one, read on 2 x 4."""
    eight = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    blocks = NamedSharding(jax.make_mesh((2, 4), ("a", "b")), PartitionSpec("b", "a"))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for n, (there, here) in enumerate([(eight, one), (one, blocks)]):
        saved = any_bits(n, there)
        with Checkpointer(tmp_path, 2) as saver:
            saver.save(n, saved, {"n": n})
        found = Checkpointer(tmp_path, 2).restore(abstract_arrays(saved, here))
        assert found is not None and found[1] == {"n": n}
        same_bits(found[0], saved)
        assert {leaf.sharding for leaf in jax.tree.leaves(found[0])} == {here}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_digest_sees_every_bit_and_no_sharding(dtype):
    leaf = np.asarray(any_bits(3)[dtype])
    digests = jax.jit(jax.vmap(digest))
    flat = bits_of(leaf).reshape(-1)
    width = 8 * leaf.dtype.itemsize
    flipped = np.stack([flat] * (1 + flat.size * width))
    for n in range(flat.size * width):
        flipped[1 + n, n // width] ^= flat.dtype.type(1 << (n % width))
    found = np.asarray(digests(flipped.view(leaf.dtype).reshape(-1, *leaf.shape)))
    assert (found[1:] != found[0]).all(), "both sums change"
    swapped = np.asarray(digests(jnp.asarray(leaf[::-1])[None]))
    assert (swapped != found[0]).all()
    mesh = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    np.testing.assert_array_equal(jax.jit(digest)(jax.device_put(leaf, mesh)), found[0])


def test_damage_to_any_file_is_named_and_the_step_before_is_used(tmp_path):
    first, second = two_saved(tmp_path / "saved")
    step, whole = tmp_path / "saved" / "2", tmp_path / "whole"
    same_bits(load(step, like(second))[0], second)
    shutil.move(step, whole)
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    assert len(files) > 8 and any("ocdbt.process" in str(file) for file in files)
    for file in files:
        for damage in (delete, truncate, flip):
            shutil.copytree(whole, step)
            if damage(step / file):
                with pytest.raises(
                    CorruptCheckpoint, match=f"{file} (is missing|differs from what was saved|cannot be read)"
                ):
                    load(step, like(second))
            shutil.rmtree(step)
    for file, damage in ((files[-1], flip), (files[0], delete), (Path("saved.json"), truncate)):
        shutil.copytree(whole, step)
        damage(step / file)
        said: list[str] = []
        saver = Checkpointer(tmp_path / "saved", 2, said.append)
        found = saver.restore(like(second))
        assert found is not None and found[1] == {"n": 1} and saver.steps == [1]
        same_bits(found[0], first)
        assert len(said) == 1 and "step 2 is damaged" in said[0] and f"2/{file}" in said[0] and "step 1" in said[0]
    shutil.rmtree(tmp_path / "saved" / "2.damaged")
    flip(tmp_path / "saved" / "1" / "saved.json")
    with pytest.raises(ConfigError, match="no step in .* is what was saved"):
        Checkpointer(tmp_path / "saved", 2).restore(like(second))


def delete(file: Path) -> bool:
    file.unlink()
    return True


def truncate(file: Path) -> bool:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    return len(data) > 0


def flip(file: Path) -> bool:
    data = bytearray(file.read_bytes())
    if data:
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    return len(data) > 0


def test_two_fences_guard_the_tensors(tmp_path, monkeypatch):
    """Blind to the files, the digests of the leaves see the damage; blind to both, wrong numbers would come back."""
    _, second = two_saved(tmp_path)
    path = tmp_path / "2"
    names = checkpoints.digests_of_files(path)
    shutil.rmtree(path / "state")
    shutil.copytree(tmp_path / "1" / "state", path / "state")
    monkeypatch.setattr(checkpoints, "digests_of_files", lambda path: names)
    with pytest.raises(CorruptCheckpoint, match="is not what it was in training"):
        load(path, like(second))
    monkeypatch.setattr(checkpoints, "fingerprint", lambda state: checkpoints.read_record(path)["leaves"])
    caught(same_bits, load(path, like(second))[0], second)


def test_another_structure_is_refused_by_name(tmp_path):
    _, second = two_saved(tmp_path)
    for wrong, words in (
        (second | {"new": second["int32"]}, "new is missing there, int32.8, 6. here"),
        ({k: v for k, v in second.items() if k != "uint8"}, "uint8 is uint8.8, 6. there, missing here"),
        (second | {"int32": second["float32"]}, "int32 is int32.8, 6. there, float32.8, 6. here"),
        (second | {"new": None}, "a version whose parts have other fields"),
    ):
        with pytest.raises(ConfigError, match=words):
            Checkpointer(tmp_path, 2).restore(like(wrong))


def test_the_last_few_are_kept_and_rests_are_removed(tmp_path):
    state = {"n": jnp.arange(3)}
    with Checkpointer(tmp_path, 2) as saver:
        for n in (1, 2, 3, 10):
            saver.save(n, state, {})
        saver.finish()
        assert saver.steps == [3, 10] and {path.name for path in tmp_path.iterdir()} == {"3", "10"}
    (tmp_path / "11.orbax-checkpoint-tmp").mkdir()
    shutil.copytree(tmp_path / "10", tmp_path / "12")
    (tmp_path / "12" / "saved.json").unlink()
    said: list[str] = []
    assert Checkpointer(tmp_path, 2, said.append).steps == [3, 10]
    assert {path.name for path in tmp_path.iterdir()} == {"3", "10"}
    assert said == ["step 12 was not wholly saved: it is removed"]
    assert Checkpointer(tmp_path / "none", 2).restore(like(state)) is None


def test_a_save_that_fails_is_reported_and_costs_nothing_else(tmp_path):
    """A limit on the size of files stands for a full disk."""
    big = {"w": jax.device_put(np.random.default_rng(0).normal(size=(300, 300)))}
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpointer(tmp_path, 3, said.append) as saver:
        saver.save(1, big, {})
        saver.finish()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            saver.save(2, big, {})
            saver.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(said) == 1 and "step 2 was not saved, step 1 is the last one saved" in said[0]
        assert f"{tmp_path}/2 cannot be written, File too large: raise the limit" in said[0]
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        saver.save(3, big, {})
        saver.finish()
        assert saver.steps == [1, 3] and len(said) == 1
