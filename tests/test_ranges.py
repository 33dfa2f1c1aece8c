"""Every number of a configuration has a range: below it, above it, NaN and other types are refused by name."""

import dataclasses
import math
import re
import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluate
import predict
from harness.config import Config
from harness.exit_codes import code_of
from harness.presets import PRESETS
from navit_eqx.errors import ConfigError, check_in
from navit_eqx.serialize import alternatives, decode, encode
from tests.support.fields import fields_of

INT = 2**31 - 1
COUNT = f"[1, {INT}]"
FROM_0 = f"[0, {INT}]"
SEED = f"[0, {2**32 - 1}]"
ANY, POSITIVE, NOT_NEGATIVE, SHARE, DECAY = "(-inf, inf)", "(0, inf)", "[0, inf)", "[0, 1]", "[0, 1)"

GENERATED = {"train_images": COUNT, "val_images": COUNT, "seed": SEED}

# The range of each number, whatever else is set.
RANGES = {
    "Config": {
        **dict.fromkeys(("rows", "steps", "log_every", "keep", "max_refused"), COUNT),
        **dict.fromkeys(("eval_every", "save_every", "trace"), FROM_0),
        "seed": SEED,
        "minutes": POSITIVE,
    },
    "Best": {"patience": COUNT},
    "DataConfig": {
        **dict.fromkeys(("val_resolution", "eval_resolutions"), POSITIVE),
        "max_unreadable": SHARE,
        "memory": NOT_NEGATIVE,
        "workers": "[0, 1024]",
    },
    **dict.fromkeys(("DigitCaptions", "MovingDigits", "DigitBoxes", "GlyphScenes"), GENERATED),
    "Digits": GENERATED | {"smallest": "[1, 20]"},
    "GlyphCaptions": GENERATED | {"texts": "[30, 120]"},
    "ClipFolder": {"fold": "[1, 99]"},
    "Masks": {"ignore": "[0, 65535]"},
    "SentencePiece": {"size": "[1, 1000000]", "max_length": "[1, 65536]"},
    "Sides": {"lo": POSITIVE, "hi": POSITIVE, "most": f"[4, {INT}]"},
    "Areas": {"lo": POSITIVE, "hi": POSITIVE, "most": f"[4, {INT}]"},
    "Native": {"lo": POSITIVE, "hi": POSITIVE},
    "TruncatedNormal": {"mean": "(-4, 4)"},
    "TokenBudget": {"tokens": COUNT},
    "Clips": {"frames": COUNT, "base": COUNT, "stride": POSITIVE, **dict.fromkeys(("shapes", "strides"), "[1, 65536]")},
    "OneSquare": {"side": POSITIVE},
    "WholeBlocks": {"merges": "[1, 2]"},
    "OneSize": {"size": COUNT},
    "PerImage": {"sizes": COUNT, "weights": POSITIVE},
    "PerStep": {"sizes": COUNT, "weights": POSITIVE},
    "CoarseToFine": {"images": POSITIVE, "mix": SHARE},
    "AtBudget": {"tokens": COUNT, "sizes": COUNT},
    "Constant": {"rate": DECAY},
    "Beta": {"mean": "(0, 1]", "highest": "(0, 1]"},
    "ByResolution": {
        **dict.fromkeys(("lo", "hi"), "[0.04, 0.96]"),
        "shortest": f"[1, {INT - 1}]",
        "longest": f"[2, {INT}]",
    },
    "ByContent": {"lo": DECAY, "hi": DECAY, "quantiles": NOT_NEGATIVE},
    "Schedule": {"lo": SHARE, "hi": SHARE, "images": POSITIVE, "middle": ANY, "width": ANY},
    "ByContrast": {"sharpness": NOT_NEGATIVE},
    "Mix": {"share": SHARE, "alpha": POSITIVE, "cutmix": SHARE},
    "Augment": {"crop": "(0, 1]", "stretch": NOT_NEGATIVE, "rotate": "[0, 3.1416]"}
    | dict.fromkeys(("jitter", "gray", "invert"), SHARE),
    "Shrunk": {"margin": POSITIVE},
    "Packing": {"row_tokens": COUNT, "row_images": COUNT},
    "ExactFit": {"window": COUNT},
    "FirstFit": {"window": COUNT, "misfits": FROM_0},
    "BestFit": {"window": COUNT, "misfits": FROM_0},
    "ModelConfig": {
        **dict.fromkeys(("patch", "depth", "unroll"), "[1, 4096]"),
        **dict.fromkeys(("channels", "heads", "head_size"), "[1, 65536]"),
        **dict.fromkeys(("width", "mlp_width"), "[1, 1048576]"),
        "registers": "[0, 4096]",
        "mean": "[-1000000, 1000000]",
        "std": "[0.000001, 1000000]",
        "layer_scale": "[0, 1000000]",
        "eps": "[0, 1000000]",
        "stochastic_depth": DECAY,
    },
    "Factorised": {"size": "[1, 65536]", "axes": "[1, 8]"},
    "Joint": {"size": "[1, 65536]", "axes": "[1, 8]"},
    "Sinusoidal": {"size": "[1, 65536]", "axes": "[1, 8]"},
    "Fourier": {"size": "[1, 65536]", "scale": "(0, 1000000]", "axes": "[1, 8]"},
    "Table": {"size": "[1, 65536]"},
    "Local": {"window": "[1, 1048576]", "whole": "[1, 4096]", "frame": "[1, 4096]"},
    "Rope": {"theta": "[1, 1000000000]", "axes": "[1, 8]"},
    "Fuzzy": {"jitter": "[0, 0.49]", "shift": SHARE, "rescale": "[1, 16]"},
    "Flexi": {"sizes": "[1, 4096]"},
    "Stages": {"depths": "[1, 4096]", "widths": "[1, 1048576]"},
    "Tubelets": dict.fromkeys(("shapes", "strides", "size"), "[1, 65536]"),
    "Merge": {"rate": SHARE, "lowest": SHARE, "scales": "[2, 8]"},
    "MergeByThreshold": {"thresholds": ANY},
    "MergeByContent": dict.fromkeys(("rate", "lowest", "spread"), SHARE)
    | {"scales": "[2, 8]", "quantiles": NOT_NEGATIVE},
    "Levels": {"scales": "[2, 8]"},
    "Detail": {"scales": "[2, 8]"},
    "Pallas": {"tile": "[16, 65536]"},
    "Splash": {"longest": FROM_0, "block": f"[128, {INT}]"},
    "Loop": {"windows": "[1, 64]"},
    "Windows": {"sizes": "[1, 2147483647]"},
    "Template": {"windows": "[1, 2147483647]", "count": "[1, 4096]"},
    "OptimConfig": {
        **dict.fromkeys(("lr", "weight_decay", "head_decay"), NOT_NEGATIVE),
        "warmup": FROM_0,
        "clip": POSITIVE,
        "accumulate": COUNT,
        "ema": DECAY,
    },
    "Rsqrt": {"timescale": COUNT, "cooldown": FROM_0},
    "AdamW": {"b1": DECAY, "b2": DECAY},
    "Adafactor": {"b1": DECAY},
    "Muon": {"beta": DECAY, "b1": DECAY, "b2": DECAY},
    "Backbone": {"last_n": FROM_0},
    "Parts": {"last_n": FROM_0},
    "LayerDecay": {"decay": "(0, 1]"},
    "Spikes": {"factor": "(1, inf)", "window": COUNT},
    "FSDP": {"min_size": COUNT},
    "Softmax": {"smoothing": DECAY},
    "Classify": {"classes": COUNT},
    "InverseFrequency": {"power": SHARE, "weights": NOT_NEGATIVE},
    "ByClass": {"power": SHARE},
    "MultiLabel": {"classes": COUNT},
    "Detect": dict.fromkeys(("boxes", "detections", "classes"), COUNT),
    "ByText": {"embedding": COUNT, "owners": FROM_0},
    "Weights": dict.fromkeys(("classes", "distance", "overlap"), NOT_NEGATIVE),
    "Embed": {"size": COUNT},
    "Merger": {
        **dict.fromkeys(("size", "hidden"), COUNT),
        **dict.fromkeys(("block", "taps"), "[1, 4096]"),
        "eps": "[0, 1000000]",
    },
    "Distill": {"row_tokens": COUNT, "classes": COUNT},
    "Contrast": dict.fromkeys(("embedding", "shards", "parts"), COUNT),
    "TextTower": dict.fromkeys(("width", "depth", "heads", "mlp_width"), COUNT),
    "TextRows": dict.fromkeys(("rows", "row_tokens", "row_texts"), COUNT),
    "Bytes": {"max_length": "[1, 65536]"},
    "SigLip": {"temperature": POSITIVE, "bias": ANY},
    "Clip": {"temperature": POSITIVE},
    "ZeroShot": {"embedding": COUNT, "classes": COUNT},
    "Segment": {"patch": "[1, 4096]", "classes": "[1, 255]"},
}

OPTIONS = {
    evaluate.Options: {"resolutions": POSITIVE, "patch_size": COUNT, "patch_sizes": COUNT, "within": "[0, 100]"}
    | {"merge_rates": SHARE},
    predict.Options: {"top": COUNT, "least": SHARE, "merge_rate": SHARE, "resolution": POSITIVE, "patch_size": COUNT},
}


# every field ------------------------------------------------------------------------------------------


def parts(annotation: Any) -> list[Any]:
    """The types that an annotation names, those inside tuples and unions too."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is tuple:
        return [part for inner in typing.get_args(annotation) for part in parts(inner)]
    return [*alternatives(annotation)]


def classes_in(kind: type, found: dict[str, type]) -> dict[str, type]:
    """All dataclasses that a value of a class may hold, by name."""
    found[kind.__name__] = kind
    for annotation in typing.get_type_hints(kind).values():
        for part in parts(annotation):
            if dataclasses.is_dataclass(part) and part.__name__ not in found:
                classes_in(part, found)
    return found


CLASSES = classes_in(Config, {})


def is_number(annotation: Any) -> bool:
    return bool({int, float} & {*parts(annotation)})


NUMBERS = [(k, f) for k, kind in CLASSES.items() for f, a in fields_of(kind).items() if is_number(a)]
FIELDS = [(k, f) for k, kind in CLASSES.items() for f in fields_of(kind)]


def test_every_number_has_a_range():
    assert {*NUMBERS} == {(k, f) for k, ranges in RANGES.items() for f in ranges}
    assert len(CLASSES) > 50 and len(NUMBERS) > 90
    for kind, ranges in OPTIONS.items():
        numbers = {f for f, a in typing.get_type_hints(kind).items() if is_number(a)}
        assert numbers == ranges.keys()


def ends(interval: str) -> tuple[float, float]:
    lo, hi = map(float, interval[1:-1].split(", "))
    return lo, hi


def outside(interval: str, whole: bool) -> list[float]:
    """Numbers just below and just above an interval; its ends where they are no part of it."""
    lo, hi = ends(interval)
    below = lo if interval[0] == "(" else lo - 1 if whole else math.nextafter(lo, -math.inf)
    above = hi if interval[-1] == ")" else hi + 1 if whole else math.nextafter(hi, math.inf)
    return [int(x) if whole and math.isfinite(x) else x for x in (below, above, lo - 1e6, hi + 1e6, math.nan)]


def encoded(kind: type, field: str, value: Any) -> dict:
    """A class as JSON with one number, and nothing else, out of order."""
    annotation = fields_of(kind)[field]
    inner, *_ = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else (None,)
    several = inner is not None or field == "size" and kind.__name__ == "OneSize"
    in_threes = typing.get_origin(inner) is tuple
    return {"kind": kind.__name__, field: [[value] * 3] if in_threes else [value, value] if several else value}


def as_tuple(value: Any) -> Any:
    """Lists, and lists in lists, as tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def is_refused(kind: type, field: str, value: Any) -> str:
    with pytest.raises(ConfigError) as error:
        decode(kind, encoded(kind, field, value), "config.key")
    assert code_of(error.value) == 78
    assert re.search(rf"\b{field}\b", str(error.value)), f"{error.value} does not name {field}"
    return str(error.value)


@pytest.mark.parametrize("name, field", NUMBERS, ids=str)
def test_numbers_out_of_range_are_refused_by_name_and_range(name, field):
    kind, interval = CLASSES[name], RANGES[name][field]
    whole = float not in parts(fields_of(kind)[field])
    for value in outside(interval, whole):
        message = is_refused(kind, field, value)
        if math.isfinite(value):  # JSON has no others
            assert interval in message, f"{message} does not name {interval}"
        if not whole or math.isfinite(value):
            made = encoded(kind, field, value)[field]
            with pytest.raises(ValueError, match=rf"\b{field}=.* must be in {re.escape(interval)}"):
                kind(**{field: as_tuple(made)})


@pytest.mark.parametrize("name, field", FIELDS, ids=str)
def test_values_of_another_type_are_refused_by_name(name, field):
    kind = CLASSES[name]
    known = {*parts(fields_of(kind)[field])}
    wrong = (
        [{"kind": "Nothing"}, [[]], {}] + ([] if str in known else ["no such word"]) + ([] if bool in known else [True])
    )
    wrong += [] if float in known else [0.5]
    wrong += [] if type(None) in known else [None]
    for value in wrong:
        if value == {} and any(map(dataclasses.is_dataclass, known)):
            continue  # a class with its defaults
        with pytest.raises(ConfigError, match=rf"config\.key\.{field}\b"):
            decode(kind, {"kind": name, field: value}, "config.key")


@pytest.mark.parametrize("name, field", NUMBERS, ids=str)
def test_numbers_in_range_are_taken(name, field):
    """The closed ends, and numbers beside the open ones; some of them ask for more of other fields."""
    kind, interval = CLASSES[name], RANGES[name][field]
    lo, hi = (max(-1e6, min(x, 1e6)) for x in ends(interval))
    taken = [lo] * (interval[0] == "[") + [hi] * (interval[-1] == "]") + [lo + (hi - lo) * q for q in (1e-6, 0.5)]
    for value in taken:
        value = math.ceil(value) if float not in parts(fields_of(kind)[field]) else value
        try:
            decode(kind, encoded(kind, field, value))
        except ConfigError as error:
            assert "must be in" not in str(error) or f"{field}=" not in str(error) or "highest=" in str(error), error


def test_a_range_that_is_not_checked_is_found():
    """A class without a check takes everything, and the test above fails on it."""

    @dataclasses.dataclass(frozen=True)
    class Unchecked:
        rate: float = 0.5

    for value in outside(SHARE, False)[:2]:
        assert decode(Unchecked, {"kind": "Unchecked", "rate": value}).rate == value


@pytest.mark.parametrize("kind, field", [(k, f) for k, ranges in OPTIONS.items() for f in ranges])
def test_options_out_of_range_are_refused(kind, field):
    need = {"data": PRESETS["digits"]().data} if kind is evaluate.Options else {"run": "", "images": ()}
    annotation, interval = fields_of(kind)[field], OPTIONS[kind][field]
    for value in outside(interval, float not in parts(annotation)):
        if isinstance(value, float) and float not in parts(annotation):
            continue  # the command line takes none
        value = (value,) if typing.get_origin(annotation) is tuple else value
        with pytest.raises(ConfigError, match=rf"^{field}=.* must be in {re.escape(interval)}"):
            kind(**need, **{field: value})


@given(
    ends=st.lists(st.floats(-2, 2) | st.sampled_from([-math.inf, math.inf]), min_size=2, max_size=2, unique=True),
    x=st.floats() | st.floats(-2, 2) | st.integers(-2, 2),
    place=st.sampled_from(["anywhere", "lo", "hi"]),
    left=st.sampled_from("(["),
    right=st.sampled_from(")]"),
)
def test_an_interval_holds_what_it_says(ends, x, place, left, right):
    lo, hi = sorted(ends)
    x = {"lo": lo, "hi": hi}.get(place, x)
    interval = f"{left}{lo}, {hi}{right}"
    if lo < x < hi or (x == lo and left == "[") or (x == hi and right == "]"):
        check_in("optim", interval, lr=x)
    else:
        with pytest.raises(ConfigError, match=re.escape(f"optim.lr={x!r} must be in {interval}")):
            check_in("optim", interval, lr=x)


def test_what_is_no_number_is_in_no_interval():
    for wrong in (True, "1", [None, "x"], {}):
        with pytest.raises(ConfigError, match="must be in"):
            check_in("", "[0, 2]", rows=wrong)
    check_in("", "[0, 2]", rows=None)


# fields that belong together --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("resolution", {"kind": "Sides", "lo": 9, "hi": 3}, "lo=9 must not be above hi=3"),
        ("resolution", {"kind": "Areas", "lo": 9, "hi": 3}, "lo=9 must not be above hi=3"),
        ("resolution", {"kind": "Native", "lo": 1.5}, "lo=1.5 must not be above hi=1"),
        ("dropping", {"kind": "ByResolution", "lo": 0.9, "hi": 0.1}, "lo=0.9 must not be above hi=0.1"),
        ("dropping", {"kind": "ByResolution", "shortest": 9, "longest": 9}, r"longest=9 must be in \[10,"),
        ("dropping", {"kind": "Schedule", "lo": 0.9}, "lo=0.9 must not be above hi=0.8"),
        ("dropping", {"kind": "Schedule", "width": 0}, "width must not be 0"),
        ("dropping", {"kind": "Beta", "mean": 0.9}, "mean=0.9 must be in .0, highest=0.9"),
        ("patch_sizes", {"kind": "OneSize", "size": [8]}, "size=.* must be a height and a width"),
        ("patch_sizes", {"kind": "OneSize", "size": []}, "size=.* must be a height and a width"),
        ("patch_sizes", {"kind": "PerImage", "sizes": [8, 8]}, "sizes=.* must be different"),
        ("patch_sizes", {"kind": "AtBudget", "sizes": [8, 8]}, "sizes=.* must be different"),
        ("patch_sizes", {"kind": "PerStep", "sizes": [8, 4], "weights": [1.0]}, "weights=.* must be one number"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(key, value, words):
    config = encode(PRESETS["digits"]())
    with pytest.raises(ConfigError, match=rf"config\.data\.{key}: {words}"):
        decode(Config, config | {"data": config["data"] | {key: value}})
