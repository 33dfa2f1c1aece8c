"""Rows of a batch are dealt to devices by cost: the batch holds what it held, and no device waits long for another."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.pipeline import HostShard, batches
from data.sampling.dropping import Constant
from data.sources.digits import Digits, DigitStrips
from harness.config import Config, DataConfig
from harness.cost import image_cost, imbalance
from harness.run.progress import Progress
from navit_eqx.config import ModelConfig
from navit_eqx.training.step import Metrics
from reference.dealing import deal
from tests.support.laws import caught
from tests.support.stream import plans_of, same, stream
from tests.support.tolerances import FLOAT64, assert_close

ROWS, BATCH = 24, 8
STRIPS = DigitStrips("train", 60, 0)
PLANS = plans_of(STRIPS, Constant(0.3))


# the rule -------------------------------------------------------------------------------------------------


def is_fair(rule, costs, devices):
    """Every row once, as many for each device, whose costs differ by no more than those of rows of one round."""
    order = rule(costs, devices)
    assert sorted(order.tolist()) == list(range(len(costs)))
    loads = costs[order].reshape(devices, -1).sum(1)
    rounds = np.sort(costs)[::-1].reshape(-1, devices)
    assert loads.max() - loads.min() <= (rounds[:, 0] - rounds[:, -1]).max() + FLOAT64 * costs.sum()


@given(devices=st.integers(1, 5), rounds=st.integers(1, 4), data=st.data())
def test_devices_cost_nearly_the_same(devices, rounds, data):
    size = devices * rounds
    costs = np.array(data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size)))
    is_fair(deal, costs, devices)
    np.testing.assert_array_equal(deal(costs, devices), deal(costs.copy(), devices))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda costs, devices: np.arange(len(costs)),
        lambda costs, devices: np.argsort(-costs),
        lambda costs, devices: np.argsort(-costs).reshape(-1, devices).T.ravel(),
        lambda costs, devices: np.repeat(deal(costs, devices)[::2], 2),
    ],
    ids=["as planned", "sorted", "the dearest always to the first", "rows twice"],
)
def test_an_unfair_rule_is_caught(wrong):
    costs = np.random.default_rng(1).integers(0, 50, 16) ** 2
    is_fair(deal, costs, 4)
    caught(is_fair, wrong, costs, 4)


# the stream -----------------------------------------------------------------------------------------------


def rows():
    return stream(STRIPS, PLANS, None)


def test_costs_are_those_of_the_planned_tokens():
    """Over the ends of epochs too."""
    want = np.concatenate([(plan.kept.astype(int) ** 2).sum(1) for plan in PLANS])
    first = len(PLANS[0].image_ids)
    for start in (0, first - 3, first):
        np.testing.assert_array_equal(rows().costs(start, BATCH), want[start : start + BATCH])
    row = rows()[first]
    assert rows().costs(first, 1)[0] == (np.bincount(row.segment_ids)[1:] ** 2).sum()


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_a_batch_holds_the_same_rows_for_any_number_of_devices(devices):
    """From any start, on any number of hosts; and each device has B / D rows of nearly equal cost."""
    plain = [batch.image_ids for batch in batches(rows(), BATCH)]
    dealt = [*batches(rows(), BATCH, costs=rows().costs, devices=devices)]
    assert len(dealt) == len(plain) > 2
    for ids, batch in zip(plain, dealt):
        assert sorted(ids.tolist()) == sorted(batch.image_ids.tolist())
    again = [*batches(rows(), BATCH, start=2, costs=rows().costs, devices=devices)]
    for one, other in zip(again, dealt[2:], strict=True):
        same(one, other)
    hosts = [batches(rows(), BATCH, start=2, host=h, hosts=2, costs=rows().costs, devices=devices) for h in range(2)]
    for whole, *parts in zip(dealt[2:], *hosts, strict=True):
        np.testing.assert_array_equal(whole.image_ids, np.concatenate([part.image_ids for part in parts]))
    shard = HostShard(rows(), BATCH, 0, 1, rows().costs, devices)
    for step, batch in enumerate(dealt):
        pairs = [(np.bincount(ids)[1:] ** 2).sum() for ids in batch.segment_ids]
        np.testing.assert_array_equal(np.reshape(pairs, (devices, -1)).sum(1), shard.loads(step))
        is_fair(lambda costs, d, step=step: shard.order(step), shard.costs_at(step), devices)


def test_one_device_reads_rows_in_order():
    for one, other in zip(batches(rows(), BATCH, costs=rows().costs), batches(rows(), BATCH), strict=True):
        same(one, other)
    odd = HostShard(rows(), 6, 0, 1, rows().costs, 4)  # 4 does not divide 6
    assert odd.order(0).tolist() == list(range(6))


def test_what_was_dealt_travels_by_pickle():
    shard = HostShard(rows(), BATCH, 0, 1, rows().costs, 4)
    copy = pickle.loads(pickle.dumps(shard))
    same(shard[BATCH + 3], copy[BATCH + 3])


def test_groups_of_rows_are_dealt_whole():
    class Pairs:
        rows_each = 2

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> int:
            return index

    costs = np.array([9, 9, 1, 1, 5, 5, 4, 4])
    shard = HostShard(Pairs(), 4, 0, 1, lambda start, count: costs[start : start + count], 2)
    assert shard.costs_at(0).tolist() == [18, 2, 10, 8]
    assert sorted(shard.loads(0).tolist()) == [18, 20]


# what is logged -------------------------------------------------------------------------------------------


def test_imbalance_is_that_of_the_cost_of_images():
    """Devices with as many tokens and images: the difference of their costs is that of their images."""
    shape, lengths = ModelConfig((16, 16), width=64, depth=2, heads=2, mlp_width=128), np.array([[9, 9], [2, 16]])
    flops = np.array([[image_cost(shape, 10, n) for n in row] for row in lengths.tolist()]).sum(1)
    pools = 2 * image_cost(shape, 10, 0)  # what two images cost without their tokens
    got = imbalance(shape, 10, 18, (lengths**2).sum(1))
    assert_close(got, (flops - pools).max() / (flops - pools).mean(), FLOAT64)
    assert imbalance(shape, 10, 18, np.array([7, 7])) == 1.0 < got


def test_imbalance_stands_in_the_log(tmp_path):
    """The mean over the steps since the last line; of one device there is none."""
    config = Config(data=DataConfig(source=Digits(20, 10)), steps=8)
    manifest = config.data.source.open("", "train").manifest
    numbers = dict(loss_sum=1.0, count=4, images=4, tokens=90, places=100, pairs=2100.0, grad_norm=1.0, refused=False)
    found: Any = {name: np.asarray(number) for name, number in numbers.items()}
    metrics = Metrics(**found, extras={})
    for name, known in (("many", [1.5, 1.0, 2.0].__getitem__), ("one", None)):
        (tmp_path / name).mkdir()
        progress = Progress(tmp_path / name, config, manifest, 0, None, known)
        for step in (1, 2, 3):
            progress.add(step, metrics, np.array([[1]]))
            if step != 1:
                progress.line(step, float, 0)
        progress.close()
    many, one = ([*map(json.loads, (tmp_path / n / "metrics.jsonl").read_text().splitlines())] for n in ("many", "one"))
    assert [line["imbalance"] for line in many] == [1.25, 2.0]
    assert not any("imbalance" in line for line in one)
