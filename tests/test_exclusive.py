"""Options of a model that exclude each other: exactly these pairs are refused, by both names."""

from itertools import combinations

import pytest

from navit_eqx.config import (
    AreaWeights,
    CuDNN,
    Detail,
    Flexi,
    Fuzzy,
    Levels,
    Local,
    Loop,
    ModelConfig,
    NoPositions,
    Pallas,
    Splash,
    Stages,
    Tubelets,
    Windows,
)
from navit_eqx.errors import ConfigError

BACKENDS = (Loop, Windows, Pallas, CuDNN, Splash)
FIELDS = {
    "flexi": {"flexi": Flexi((8,))},
    "levels": {"levels": Levels()},
    "detail": {"detail": Detail()},
    "areas": {"areas": AreaWeights()},
    "fuzzy": {"fuzzy": Fuzzy()},
    "local": {"local": Local()},
    "stages": {"stages": Stages((6, 6))},
    "head_size": {"head_size": 32},
    "registers": {"registers": 1},
    "tubelets": {"patch": (2, 16, 16), "tubelets": Tubelets()},
    "clips": {"patch": (2, 16, 16)},
    "text": {"patch": (1,)},
} | {kind.__name__: {"attention": kind()} for kind in BACKENDS}
EXCLUDED = {
    "flexi": "tubelets",
    "levels": "clips text",
    "detail": "flexi stages clips text",
    "areas": "stages clips text Windows CuDNN Splash",
    "fuzzy": "local levels detail areas clips text",
    "local": "registers text Loop Windows Pallas CuDNN Splash",
    "stages": "local levels registers clips text Windows Pallas CuDNN Splash",
    "registers": "Windows CuDNN",
    "head_size": "stages",
}
PAIRS = [(a, b) for a, b in combinations(FIELDS, 2) if FIELDS[a].keys().isdisjoint(FIELDS[b])]


def words(name: str) -> set[str]:
    """Tubelets have clips, too."""
    return {name, "clips"} if name == "tubelets" else {name}


def config(*names: str) -> ModelConfig:
    return ModelConfig(posembed=NoPositions(), **{key: value for name in names for key, value in FIELDS[name].items()})


@pytest.mark.parametrize("name", FIELDS)
def test_each_goes_alone(name):
    config(name)


@pytest.mark.parametrize("one, other", PAIRS)
def test_two_go_together_unless_they_exclude_each_other(one, other):
    found = {(a, b) for a, b in ((one, other), (other, one)) if words(b) & {*EXCLUDED.get(a, "").split()}}
    if not found:
        config(one, other)
        return
    with pytest.raises(ConfigError, match="does not go with .*: choose one of them") as error:
        config(one, other)
    assert any(word in str(error.value) for word in words(one)) and any(w in str(error.value) for w in words(other))
