"""A configuration that starts comes back from JSON; what would not come back does not start."""

import dataclasses
import json
import math
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import parse
from harness.config import Config
from harness.exit_codes import code_of
from harness.presets import PRESETS
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import alternatives, decode, encode
from tests.support.fields import fields_of

LARGEST = 2**31 - 1
NUMBER = st.sampled_from(
    [0, 1, 2, 3, 8, 16, 128, LARGEST, -1, 0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 1e-300, 1e38, 1e308, math.inf]
)


@st.composite
def values(draw, annotation: Any) -> Any:
    """A value of an annotation, of those that make no sense too."""
    if alternatives(annotation) != (annotation,):
        return draw(values(draw(st.sampled_from(alternatives(annotation)))))
    if typing.get_origin(annotation) is tuple:
        return tuple(draw(st.lists(values(typing.get_args(annotation)[0]), max_size=3)))
    if typing.get_origin(annotation) is typing.Literal:
        return draw(st.sampled_from(typing.get_args(annotation)))
    if dataclasses.is_dataclass(annotation):
        return draw(instances(annotation))
    if annotation in (int, float):
        return draw(NUMBER.filter(lambda x: annotation is float or isinstance(x, int)))
    return draw({bool: st.booleans(), str: st.text(max_size=5), type(None): st.none()}[annotation])


@st.composite
def instances(draw, kind: type) -> Any:
    """A class with a few fields set; as it stands where these make no sense."""
    fields = fields_of(kind)
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)) if fields else []
    try:
        return kind(**{name: draw(values(fields[name])) for name in {*chosen}})
    except ValueError:
        return kind()


@given(config=instances(Config))
def test_a_configuration_that_starts_comes_back_from_json(config):
    assert decode(Config, json.loads(json.dumps(encode(config)))) == config


@pytest.mark.parametrize("words", ["--optim.clip inf", "--optim.clip 0", "--optim.clip -1", "--optim.lr nan"])
def test_a_command_line_that_would_not_come_back_does_not_start(words):
    """With the code of a file that holds the same value; a word that is no number is a wrong command line."""
    option = words.split()[0].removeprefix("--")
    with pytest.raises(ConfigError, match=option.rpartition(".")[2]) as error:
        parse(Config, default=PRESETS["digits"](), args=words.split())
    assert code_of(error.value) == 78
    with pytest.raises(SystemExit) as end:
        parse(Config, default=PRESETS["digits"](), args=[f"--{option}", "many"])
    assert end.value.code == 2
