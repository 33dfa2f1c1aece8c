"""One packed row as a program for others says what the model says, for images of any size, and is what it promises."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.export import deserialize
from PIL import Image

import export as program
import navit_eqx as navit
from examples import onnx_row
from harness.exit_codes import code_of
from harness.run.folder import write_sealed
from navit_eqx import export
from navit_eqx.config import Factorised, ModelConfig, Rope
from navit_eqx.errors import ConfigError
from navit_eqx.export import FIELDS, RowShape
from navit_eqx.plain import as_matrices, plain
from navit_eqx.preprocessing import Area, Fixed, Merge, Native, NeverEnlarged, Preprocessing, TokenBudget
from navit_eqx.tasks.config import Classify
from navit_eqx.tasks.model import abstract_model, is_shape
from tests.support import golden
from tests.support.golden import FOLDER
from tests.support.laws import caught
from tests.support.tolerances import FLOAT32, assert_close

ROWS = 7  # of a batch, so that one program computes what is compared with
SHAPE = RowShape(row_tokens=80, row_images=4)
INFO = navit.ModelInfo(("a", "b", "c"), Preprocessing(Area(12), row_tokens=40, row_images=4))
POSITIONS = Factorised(6, "fractional")
CONFIG = ModelConfig((2, 2), width=16, depth=2, heads=2, mlp_width=24, posembed=POSITIONS, rope=Rope(), registers=1)


def numbered(config: ModelConfig = CONFIG, info: navit.ModelInfo = INFO) -> navit.Model:
    """A model of small random numbers."""
    rng = np.random.default_rng(0)
    number = lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32) if is_shape(leaf) else leaf
    return jax.tree.map(number, abstract_model(config, Classify(classes=3), info))


MODEL = numbered()
sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=7)


def images_of(drawn: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in drawn]


def says_what_the_model_says(run, drawn: list[tuple[int, int]], rows: int = ROWS) -> None:
    """The output of each image, by a program that reads packed rows, is that of the model."""
    batch = navit.pack(images_of(drawn), MODEL, row_tokens=80, row_images=4, rows=ROWS)
    said = np.asarray(run(*(np.asarray(getattr(batch, name))[:rows] for name in FIELDS)))
    want, used = navit.forward(MODEL, batch), np.asarray(batch.image_ids) >= 0
    assert_close(said[used[:rows]], want[:rows][used[:rows]], FLOAT32)


@pytest.fixture(scope="module")
def exported():
    return deserialize(bytearray(export.to_stablehlo(MODEL, SHAPE)))


@pytest.fixture(scope="module")
def stablehlo(exported):
    """Compiled once for a number of rows."""
    return jax.jit(exported.call)


@settings(max_examples=6)
@given(drawn=sizes)
def test_stablehlo_says_what_the_model_says(stablehlo, drawn):
    """Images of any size, by one program."""
    says_what_the_model_says(stablehlo, drawn)


def test_any_number_of_rows(stablehlo):
    says_what_the_model_says(stablehlo, [(10, 20), (14, 6), (1, 30)], 1)


def test_another_program_is_caught(stablehlo):
    """The law can fail: places exchanged, an image that another one sees."""
    turned = lambda patches, coords, *rest: stablehlo(patches, coords[..., ::-1].copy(), *rest)
    mixed = lambda p, c, ids, grids: stablehlo(p, c, np.minimum(ids, 1), grids)
    for wrong in (turned, mixed):
        caught(says_what_the_model_says, wrong, [(10, 20), (14, 6)])


def promises_hold(text: str) -> None:
    """No axis but rows has no number; nothing is called back."""
    assert "tensor<?x80x12xui8>" in text and not re.search(r"tensor<[^>]*\?[^>]*\?", text)
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion"}


def test_rows_are_the_one_dynamic_axis(exported):
    promises_hold(exported.mlir_module())
    assert [str(shape.shape[0]) for shape in exported.in_avals] == ["rows"] * 4
    one = deserialize(bytearray(export.to_stablehlo(MODEL, RowShape(80, 4, rows=2), "tokens")))
    assert [shape.shape for shape in one.out_avals] == [(2, 80, 16)]
    caught(promises_hold, one.mlir_module())


# plain operations -------------------------------------------------------------------------------------------------


def operations(jaxpr) -> list:
    """All operations of a program, those of programs within it too."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            found += (
                operations(getattr(value, "jaxpr", value)) if hasattr(getattr(value, "jaxpr", value), "eqns") else []
            )
    return found


CALLS = {"jit", "scan", "custom_vjp_call", "custom_jvp_call", "remat2", "checkpoint", "while", "cond", "split", "pad"}


def is_plain(jaxpr) -> None:
    """No call, no loop; every product is one of matrices."""
    for equation in operations(jaxpr):
        assert equation.primitive.name not in CALLS
        if equation.primitive.name == "dot_general":
            ((left, right), (one, other)), n = equation.params["dimension_numbers"], equation.outvars[0].aval.ndim
            assert (*left, *right) == (n - 1, n - 2) and one == other == tuple(range(n - 2))


def test_a_plain_program_is_plain_and_says_the_same():
    with jax.enable_x64(False):
        run, shapes = export.row_program(MODEL), SHAPE.of(MODEL).shapes(MODEL, ROWS)
        made = plain(run, *shapes)
        is_plain(jax.make_jaxpr(made)(*shapes).jaxpr)
        caught(is_plain, jax.make_jaxpr(run)(*shapes).jaxpr)
        says_what_the_model_says(jax.jit(made), [(10, 20), (14, 6), (1, 30)])


@given(st.data())
@settings(max_examples=5)
def test_every_sum_of_products_is_one_of_matrices(data):
    """Batch, free and contracted axes in any order."""
    kinds = data.draw(st.lists(st.sampled_from("bck"), min_size=1, max_size=3))
    length = lambda n: n + 2
    left = data.draw(st.permutations([(kind, n) for n, kind in enumerate(kinds)] + [("f", 7)]))
    right = data.draw(st.permutations([(kind, n) for n, kind in enumerate(kinds)] + [("g", 8)]))
    place = lambda axes, wanted: tuple(axes.index((kind, n)) for n, kind in enumerate(kinds) if (kind == "b") == wanted)
    numbers = tuple(tuple(place(axes, wanted) for axes in (left, right)) for wanted in (False, True))
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=[length(n) for _, n in axes]) for axes in (left, right))
    product = lambda a, b: jax.lax.dot_general(a, b, numbers)
    (equation,) = jax.make_jaxpr(product)(a, b).jaxpr.eqns
    np.testing.assert_allclose(as_matrices(equation, [jnp.asarray(a), jnp.asarray(b)])[0], product(a, b), atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_is_its_steps(reverse):
    """Both ways, with what it carries and what it gives out."""
    step = lambda x, y: (2 * x + y, x - y)

    def looped(x, ys):
        last, outputs = jax.lax.scan(step, x, ys, reverse=reverse)
        return last + 10 * outputs

    x, ys = jnp.float64(1.5), jnp.arange(4.0)
    np.testing.assert_array_equal(plain(looped, x, ys)(x, ys), looped(x, ys))


def test_padding_and_pieces():
    run = lambda x: jnp.concatenate(
        jnp.split(jnp.pad(x, ((1, 0), (0, 2)), constant_values=3.0), [1, 3], axis=1)[::-1], 1
    )
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(plain(run, x)(x), run(x))


# by ONNX Runtime --------------------------------------------------------------------------------------------------


def session_of(model: navit.Model, shape: RowShape = SHAPE):
    """A function that runs the exported model; and its graph."""
    pytest.importorskip("jax2onnx", reason="docs/export.md says how it is installed")
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    data = export.to_onnx(model, shape)
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    one = lambda *row: session.run(None, {name: x[None] for name, x in zip(FIELDS, row)})[0]
    return lambda *rows: np.concatenate([*map(one, *rows)]), onnx.load_from_string(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of jax2onnx
def test_onnx_says_what_the_model_says():
    run, model = session_of(MODEL)
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    kinds = {node.op_type for node in model.graph.node}
    assert all(dim.dim_value for dim in dims) and not kinds & {"Resize", "Loop", "Scan", "If"}

    @settings(max_examples=20)
    @given(drawn=sizes, rows=st.integers(1, ROWS))
    def law(drawn, rows):
        says_what_the_model_says(run, drawn, rows)

    law()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", golden.FAMILIES)
def test_onnx_says_what_a_tower_says(name):
    model = navit.load(FOLDER / name)
    grids = golden.grids_of(model.task.config)
    run, _ = session_of(model, RowShape(golden.T[grids], golden.I, pixels="float32"))
    row = golden.packed(grids)
    said = run(*(np.asarray(getattr(row, n))[None].astype(np.float32 if n == "patches" else np.int32) for n in FIELDS))
    assert_close(said[0, : len(grids)], np.stack(golden.theirs(name).outputs), 10 * FLOAT32)


# the program and the example --------------------------------------------------------------------------------------


def written(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["export.py", *arguments])
    program.main()


def test_the_program_writes_what_a_caller_must_know(tmp_path, monkeypatch, capsys):
    written(monkeypatch, str(FOLDER / "vit"), str(tmp_path / "out"), "--to", "stablehlo", "--row.rows", "1")
    said = json.loads((tmp_path / "out" / "row.json").read_text())
    assert said["inputs"] == {
        "patches": [1, 256, 12],
        "coords": [1, 256, 2],
        "segment_ids": [1, 256],
        "grids": [1, 16, 2],
    }
    assert said["size"] == {"kind": "Fixed", "height": 8, "width": 8} and said["link"] == "softmax"
    shapes = [shape.shape for shape in deserialize((tmp_path / "out" / "row.stablehlo").read_bytes()).in_avals]
    assert shapes == [tuple(shape) for shape in said["inputs"].values()]


def test_pixels_are_described_as_the_model_reads_them():
    config = replace(CONFIG, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    said = export.description(numbered(config), SHAPE.of(MODEL), "output")
    assert (said["mean"], said["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert (said["patch"], said["channels"], said["filter"]) == ([2, 2], 3, INFO.preprocessing.filter)
    assert said["classes"] == ["a", "b", "c"] and said["pixels"] == "uint8"


def test_the_program_writes_folders_of_others(tmp_path, monkeypatch):
    written(monkeypatch, str(FOLDER / "vit"), str(tmp_path / "hf"), "--to", "hf", "--licence", "mit")
    assert "license: mit" in (tmp_path / "hf" / "README.md").read_text() and navit.load(tmp_path / "hf").info.classes


def test_the_card_of_a_run_has_its_command_and_results(tmp_path):
    write_sealed(tmp_path / "config.json", {"config": {}, "command": ["train.py", "folder", "--data.root", "a b"]})
    write_sealed(tmp_path / "summary.json", {"val_accuracy": 0.5, "images_seen": 9, "set_aside": {}})
    card = program.card_of(tmp_path, program.Options("", "", "navit", licence="mit"))
    assert card.command == "python train.py folder --data.root 'a b'" and card.licence == "mit"
    assert card.metrics == {"val_accuracy": 0.5, "images_seen": 9}


def test_what_a_program_does_not_merge_is_said():
    said = []
    for merge in (None, Merge(0.0), Merge(0.5)):
        info = replace(INFO, preprocessing=replace(INFO.preprocessing, merge=merge))
        said.append(program.not_in_program(numbered(info=info)))
    assert said[:2] == ["", ""] and "equal patches: Merge is left to its caller" in said[2]


def test_without_jax2onnx_the_way_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    with pytest.raises(ConfigError, match="docs/export.md") as raised:
        export.to_onnx(MODEL, SHAPE)
    assert code_of(raised.value) == 78


@pytest.mark.parametrize("rule", [Area(12), Native(0.4), NeverEnlarged(Area(12)), Fixed(8, 10), TokenBudget(31)])
def test_the_example_packs_as_the_library_does(rule):
    """Grids, places and pixels, these to a level: Pillow resizes rows first for some sizes."""
    info = navit.ModelInfo(INFO.classes, Preprocessing(rule, row_tokens=40, row_images=4))
    model = numbered(info=info)
    images = images_of([(10, 20), (14, 6), (9, 9), (30, 12)])
    said = json.loads(json.dumps(export.description(model, RowShape(240, 4).of(model), "output")))
    inputs, places = onnx_row.pack(images, said)
    batch = navit.pack(images, model)
    for n, (r, slot) in enumerate(places):
        row, at = np.argwhere(np.asarray(batch.image_ids) == n)[0]
        here, there = inputs["segment_ids"][r] == slot + 1, np.asarray(batch.segment_ids)[row] == at + 1
        np.testing.assert_array_equal(inputs["grids"][r, slot], batch.grids[row, at])
        np.testing.assert_array_equal(inputs["coords"][r, here], np.asarray(batch.coords)[row, there])
        pixels = inputs["patches"][r, here].astype(int), np.asarray(batch.patches)[row, there].astype(int)
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_the_example_resizes_as_pillow_does():
    """To the byte in one direction, halves included; in both, with columns first."""
    for size, wanted in (((5, 144), (5, 72)), ((79, 6), (40, 6)), ((7, 33), (7, 50)), ((79, 144), (40, 72))):
        (image,) = images_of([size])
        want = Image.fromarray(image).resize((wanted[1], size[0]), Image.Resampling.BILINEAR)
        want = np.asarray(want.resize(wanted[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(onnx_row.resized(image, *wanted, "bilinear"), want)


def test_the_example_names_what_it_cannot_do():
    with pytest.raises(SystemExit, match="CeilBudget"):
        onnx_row.grid_of((3, 3), {"kind": "CeilBudget"}, (2, 2))
    with pytest.raises(SystemExit, match="lanczos"):
        onnx_row.resized(np.zeros((4, 4, 3), np.uint8), 2, 2, "lanczos")
    model = numbered(replace(CONFIG, posembed=Factorised(4)))
    said = export.description(model, RowShape(240, 4).of(model), "output")
    assert said["longest_side"] == 4 and export.description(MODEL, SHAPE, "output")["longest_side"] is None
    for size, why in (((4, 40, 3), "1 x 18 patches, and the model no place beyond 4"), ((4, 4, 1), "has 1 channels")):
        with pytest.raises(SystemExit, match=why):
            onnx_row.pack([np.zeros(size, np.uint8)], said)


def test_the_example_reads_photographs_upright(tmp_path):
    """By Pillow as the library does: turned by EXIF, and in the channels of the model."""
    image, exif = Image.fromarray(images_of([(4, 6)])[0]), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(onnx_row.read(str(tmp_path / "a.png"), 3), np.rot90(np.asarray(image), -1))
    assert onnx_row.read(str(tmp_path / "a.png"), 1).shape == (6, 4, 1)
