"""`--help`: every field of every configuration has a sentence."""

import ast
import dataclasses
import inspect
import operator
import textwrap
import typing

import pytest

import evaluate
import predict
import train
from harness.cli import choose_classes, unions
from harness.config import Config
from harness.presets import PRESETS
from navit_eqx.config import Stages
from navit_eqx.errors import ConfigError
from navit_eqx.serialize import alternatives


def sentences(kind: type) -> dict[str, str]:
    """The sentence below each field in the source of a dataclass; empty where there is none."""
    (source,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(source, ast.ClassDef)
    found = {}
    for line, below in zip(source.body, [*source.body[1:], None]):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            found[line.target.id] = text.strip() if isinstance(text, str) else ""
    return found


def configurations(*roots: type) -> list[type]:
    """All dataclasses that the fields of `roots` can hold."""
    found, left = [], list(roots)
    while left:
        kind = left.pop()
        if dataclasses.is_dataclass(kind) and kind not in found:
            found.append(kind)
            hints = typing.get_type_hints(kind)
            left += [each for field in dataclasses.fields(kind) for each in alternatives(hints[field.name])]
    return found


def faults(kind: type) -> list[str]:
    """Fields whose help is not a sentence of three words at least that ends with a period."""
    own = sentences(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name in kind.__dict__.get("__annotations__", {})]
    return [name for name in names if len(own[name].split()) < 3 or not own[name].endswith(".")]


@pytest.mark.parametrize("kind", configurations(Config, evaluate.Options, predict.Options), ids=lambda k: k.__name__)
def test_every_field_has_a_sentence(kind):
    assert faults(kind) == []
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")


def test_a_field_without_a_sentence_is_found():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        """Fields with too little help."""

        good: int = 0
        """Number of good things."""
        silent: int = 0
        short: int = 0
        """In steps."""

    assert faults(Odd) == ["silent", "short"]


@pytest.mark.parametrize("preset", ["folder", "digits", "video-digits"])
def test_a_class_can_be_chosen_before_its_fields_are_given(preset):
    """Its defaults need not fit the other options of a preset, as long as what is given in the end does."""
    default = PRESETS[preset]()
    for path, classes in unions(default).items():
        for name, kind in classes.items():
            chosen, rest = choose_classes(default, [f"--{path}", name, "--rest", "1"])
            assert rest == ["--rest", "1"]
            assert type(operator.attrgetter(path)(chosen)) is (type(None) if kind is None else kind)


def test_stages_are_chosen_and_then_given(monkeypatch, capsys):
    words = ["folder", "--data.root", "DIR", "--model.stages", "stages"]
    assert train.command_line([*words, "--model.stages.depths", "2", "3"])[1].model.stages == Stages((2, 3))
    with pytest.raises(ConfigError, match="must add up to model.depth=5"):
        train.command_line(words)
