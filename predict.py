"""Print the top classes of images of any size and format: files, folders, patterns.

python predict.py runs/caltech101 photo.jpg drawing.png
python predict.py runs/caltech101 photos/ 'more/**/*.jpg' --top 3 --resolution 160
python predict.py runs/caltech101 photos/ --json > predictions.jsonl
python predict.py runs/caltech101-flexi photo.jpg --patch-size 24
python predict.py runs/video-digits clip.mp4 animation.gif folder_of_frames/
python predict.py runs/contrast photo.jpg --texts "a red apple" "two dogs"
python predict.py dinov2-small photos/ --features features.parquet
python predict.py runs/contrast photos/ --search "red apple left of a bicycle" --top 12
python predict.py runs/segment photo.jpg --out found    # masks: pictures and one COCO file
python predict.py runs/detect photo.jpg --least 0.3 --out found    # boxes: pictures and one COCO file
python predict.py runs/detect-texts photo.jpg --texts "a three" "a seven" --out found    # boxes of what texts name
"""

from harness.cli import check_used, parse
from harness.exit_codes import run
from harness.process import find_temporary_folder, tune_allocator

if __name__ == "__main__":
    tune_allocator()
    find_temporary_folder()

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Float

import navit_eqx as navit
from data.errors import DataError, DataMissing
from data.feature_file import write_features
from data.manifest import printable
from data.sources.layout import files_below, matching
from data.tasks.detect import SURE
from harness.evaluation import found_boxes, found_masks
from harness.evaluation.budget import Choice, Reading, stored
from harness.evaluation.clip_predictions import clip_paths, outputs_of
from harness.evaluation.predictions import model_for_patch
from harness.evaluation.search import contact_sheet, similarities
from harness.run.trained import trained_model
from harness.terminal import check_written, is_read, print_whole
from navit_eqx import inference
from navit_eqx.clips import rule_of
from navit_eqx.errors import ConfigError, check, check_in
from navit_eqx.files import check_overwrites_none, make_folder, replacing
from navit_eqx.front import info_of
from navit_eqx.pixels import read_header
from navit_eqx.preprocessing import Frames, at_resolution
from navit_eqx.tasks.config import Contrast, Segment
from navit_eqx.tasks.config_detect import Detect

EVERY = 5.0  # seconds between lines of progress
USED = {  # options that count in some ways of reading images alone, and what they are for
    "top": (("classify", "search"), "it is the number of classes, or of images found"),
    "texts": (("classify", "detect"), "they name classes, which --search and --features do not read, nor masks"),
    "features": (("features",), "--search writes no features: leave out one of them"),
    "sheet": (("search",), "it is the picture of --search"),
    "least": (("detect",), "it is a score of boxes"),
    "out": (("detect", "segment"), "boxes and masks are drawn; what is printed is kept by > FILE"),
}
TOGETHER = 1024  # images whose first predictions are made before the second ones


@dataclass(frozen=True)
class Options:
    """Options of prediction."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run or of a saved model."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Image files, folders (all files below them but hidden ones) and patterns (* ? [] and ** for folders)."""
    top: int = 5
    """Number of classes to print per image, or of images found."""
    texts: tuple[str, ...] = ()
    """Classes named by texts, for a model that was trained on images and texts, or a detector made of one."""
    features: str = ""
    """A parquet file to write: the pooled vector of each image, before the head."""
    search: str = ""
    """A text: print the images that are most similar to it, and draw them in `sheet`."""
    sheet: str = "search.png"
    """File of the picture of the images found."""
    resolution: float | None = None
    """Resolution, in the unit of data.resolution; auto: the validation resolution of the run."""
    patch_size: int | None = None
    """Side of the patches in pixels; auto: the patch of the model. Larger patches give fewer tokens."""
    merge_rate: float | None = None
    """Share of the possible merges of flat patches into larger ones; auto: as in training. More give fewer tokens."""
    choice: Literal["stored", "none"] = "stored"
    """Reading of images for classes, boxes and masks, without --resolution, --patch-size and --merge-rate: stored, as
    `evaluate.py --budget` chose; none, as in training."""
    least: float = SURE
    """Least score of the boxes that are shown, for a model that finds boxes."""
    out: str = "found"
    """Folder of the pictures and of the COCO file, for a model that finds boxes or masks."""
    json: bool = False
    """One JSON object per file and line: image, and classes by name or error."""

    def __post_init__(self):
        check_in("", "[1, 2147483647]", top=self.top, patch_size=self.patch_size)
        check_in("", "(0, inf)", resolution=self.resolution)
        check_in("", "[0, 1]", least=self.least, merge_rate=self.merge_rate)


def main() -> None:
    options = parse(Options, prog="predict.py", config=(tyro.conf.FlagCreatePairsOff,))
    model = trained_model(options.run)
    paths = [*files(options.images)]
    if not paths:
        raise DataMissing("no image: name one or more image files, folders or patterns")
    way = way_of(model, options)
    idle = ((name, why) for name, (ways, why) in USED.items() if way not in ways)
    check_used(options, Options(options.run, options.images), idle)
    if options.texts:
        model = navit.zero_shot(model, options.texts)
    reasons: dict[int, str] = {}
    if model.config.tubelets:
        check(not options.patch_size, "--patch-size: clips have the tubelets of the model")
        check(not options.merge_rate, "--merge-rate: patches of images are merged, not of clips")
        paths = [*clip_paths(options.images)]
    if way == "search":
        search(model, paths, options, reasons)
    elif way == "features":
        features(model, paths, options, reasons)
    else:
        choice = obeyed(model, options)
        of_pixels = with_reading(options, choice.first) if choice else options
        if way == "detect":
            detect(model, paths, of_pixels, reasons)
        elif way == "segment":
            segment(model, paths, of_pixels, reasons)
        else:
            classify(model, paths, options, reasons, choice)
    check_written()
    if reasons and is_read():
        print(f"{len(paths) - len(reasons)} of {len(paths)} files, {len(reasons)} set aside", file=sys.stderr)
    if len(reasons) == len(paths):
        raise DataError(f"none of {len(paths)} files is an image that can be read")


def way_of(model: navit.Model, options: Options) -> str:
    """What is made of the images: what was asked for, or else what the model was trained for."""
    kinds = {Detect: "detect", Segment: "segment"}
    asked = [name for name in ("search", "features") if getattr(options, name)]
    return asked[0] if asked else kinds.get(type(model.task.config), "classify")


def obeyed(model: navit.Model, options: Options) -> Choice | None:
    """The choice stored with the model, where nothing else was said; a line says so."""
    if options.choice == "none" or reading_of(options) != Reading():
        return None
    choice = stored(Path(options.run), info_of(model).digest)
    if choice:
        print(
            f"{choice.words()}: the choice within {choice.budget} an image that is stored with the model "
            "(--choice none: as in training)",
            file=sys.stderr,
        )
    return choice


def classify(
    model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str], choice: Choice | None
) -> None:
    """Print the top classes of each image.   Raises ConfigError where the model has none."""
    if isinstance(model.task.config, Contrast):
        raise ConfigError('this model has no classes: name some, --texts "a dog" "a cat", or search, --search "a dog"')
    check(
        hasattr(model.task.config, "link"),
        f"this model has no classes, its task is {type(model.task).__name__}: --features FILE writes its vectors, and "
        "`python train.py folder --data.root DIR --start MODEL` trains a head",
    )
    check(
        len(options.texts) != 1,
        "--texts: of one text alone the probability is 1: name another, or rank images by it, --search TEXT",
    )
    show = in_json if options.json else in_words
    read = partial(predict_clips if model.config.tubelets else predict_images, model)
    predictions = in_turn(read, paths, choice, reasons) if choice else read(paths, reading_of(options), reasons)
    for index, p in enumerate(progress(predictions, len(paths))):
        show(paths[index], p, reasons.get(index), info_of(model).classes, options.top)
        if not is_read():
            return


def features(model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str]) -> None:
    """Write the pooled vector of each image, in memory that does not grow with their number."""
    make_folder(Path(options.features).parent)
    check_overwrites_none([options.features], paths)
    vectors = pooled(model, paths, options, reasons)

    def found() -> Iterator[tuple[str, np.ndarray]]:
        for index, vector in enumerate(progress(vectors, len(paths))):
            why = reasons.get(index)
            if options.json:
                print_whole(json.dumps({"image": paths[index]} | ({"error": why} if why is not None else {})))
            elif why is not None:
                print(f"set aside {printable(why)}", file=sys.stderr)
            if why is None:
                yield paths[index], vector

    with replacing(Path(options.features)) as draft:
        count = write_features(found(), model.config.out_width, draft)
    print(f"features of {count} images, {model.config.out_width} numbers each: {options.features}", file=sys.stderr)


def pooled(
    model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str]
) -> Iterator[Float[np.ndarray, " D"]]:
    """The pooled vector of each image or clip, in order."""
    if model.config.tubelets:
        rule = frames_rule(model, reading_of(options))
        return outputs_of(model, paths, rule, reasons.__setitem__, inference.pooled)
    how = chosen(model, options)
    model = model_for_patch(model, how.get("patch"))
    return navit.stream(model, paths, inference.pooled, report=reasons.__setitem__, **how)


def search(model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str]) -> None:
    """Print the images that are most similar to a text, best first, and draw them."""
    navit.embed_texts(model, [options.search])  # refuse a model without texts before images are read
    make_folder(Path(options.sheet).parent)
    check_overwrites_none([options.sheet], paths)
    check(
        isinstance(model.task.config, Contrast),
        '--search compares one vector of each image with a text, and this model finds boxes: --texts "a dog"',
    )
    how = chosen(model, options)
    model = model_for_patch(model, how.get("patch"))
    vectors = [*progress(navit.stream(model, paths, report=reasons.__setitem__, **how), len(paths))]
    scores = similarities(model, np.stack(vectors), options.search)
    found = [i for i in np.argsort(-scores, kind="stable")[: options.top].tolist() if i not in reasons]
    for why in reasons.values():
        print(f"set aside {printable(why)}", file=sys.stderr)
    for i in found:
        score = {"image": paths[i], "similarity": float(scores[i])}
        print_whole(json.dumps(score)) if options.json else print(f"{printable(paths[i])}: {scores[i]:.3f}")
    if found:
        contact_sheet([paths[i] for i in found], scores[found].tolist(), options.search, Path(options.sheet))
        print(f"picture: {printable(options.sheet)}", file=sys.stderr)


def detect(model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str]) -> None:
    """Print the boxes of each image, draw them, and write them as a COCO file."""
    how, classes = chosen(model, options), info_of(model).classes
    model = model_for_patch(model, how.get("patch"))

    def found() -> Iterator[found_boxes.Found]:
        outputs = navit.stream(model, paths, report=reasons.__setitem__, **how)
        for index, output in enumerate(progress(outputs, len(paths))):
            if index in reasons:
                print(f"set aside {printable(reasons[index])}", file=sys.stderr)
                continue
            size = read_header(paths[index], model.config.channels).size
            yield found_boxes.found_in(paths[index], output, size, options.least)

    for each in found_boxes.publish(found(), classes, model.config, Path(options.out), paths):
        print_whole(found_boxes.in_json(each, classes)) if options.json else print(found_boxes.in_words(each, classes))
    print(f"pictures and {found_boxes.FILE}: {printable(options.out)}/", file=sys.stderr)


def segment(model: navit.Model, paths: list[str], options: Options, reasons: dict[int, str]) -> None:
    """Print the share of each class in each image, draw the masks, and write them as a COCO file."""
    how, classes = chosen(model, options), info_of(model).classes
    model = model_for_patch(model, how.get("patch"))

    def found() -> Iterator[found_masks.FoundMask]:
        masks = navit.segment(model, paths, report=reasons.__setitem__, **how)
        for index, mask in enumerate(progress(masks, len(paths))):
            if mask is None:
                print(f"set aside {printable(reasons[index])}", file=sys.stderr)
            else:
                yield found_masks.FoundMask(paths[index], mask)

    for each in found_masks.publish(found(), classes, model.config, Path(options.out), paths):
        print_whole(found_masks.in_json(each, classes)) if options.json else print(found_masks.in_words(each, classes))
    print(f"pictures and {found_masks.FILE}: {printable(options.out)}/", file=sys.stderr)


def files(names: Iterable[str]) -> Iterator[str]:
    """Files of the arguments, in order; the files below a folder and those that match a pattern are sorted.

    A name without a match stays, and is set aside by name.
    """
    for name in names:
        if Path(name).is_dir():
            yield from (str(Path(name) / file) for file in files_below(Path(name)))
        else:
            found = matching(name)
            yield from found if found == [name] else filter(os.path.isfile, found)


def reading_of(options: Options) -> Reading:
    """How the options say that images are read."""
    return Reading(options.resolution, options.patch_size, options.merge_rate)


def with_reading(options: Options, how: Reading) -> Options:
    """The options that say it."""
    return replace(options, resolution=how.resolution, patch_size=how.patch_size, merge_rate=how.merge)


def chosen(model: navit.Model, options: Options) -> dict[str, Any]:
    """Resolution and patch size as options of `navit.pack`."""
    return reading_of(options).options(info_of(model).preprocessing)


def predict(
    model: navit.Model, images: Iterable[str], how: dict[str, Any], reasons: dict[int, str]
) -> Iterator[np.ndarray]:
    """Class probabilities of each image, in order; an image that cannot be used gets its reason in `reasons`."""
    model = model_for_patch(model, how.get("patch"))
    for logits in navit.stream(model, images, report=reasons.__setitem__, **how):
        yield navit.probabilities(model, logits)


def predict_images(
    model: navit.Model, images: Iterable[str], reading: Reading, reasons: dict[int, str]
) -> Iterator[np.ndarray]:
    """`predict` by a reading."""
    return predict(model, images, reading.options(info_of(model).preprocessing), reasons)


def predict_clips(
    model: navit.Model, clips: Iterable[str], reading: Reading, reasons: dict[int, str]
) -> Iterator[np.ndarray]:
    """Class probabilities of each clip, as `predict` gives them of images."""
    for logits in outputs_of(model, clips, frames_rule(model, reading), reasons.__setitem__):
        yield navit.probabilities(model, logits)


def frames_rule(model: navit.Model, reading: Reading) -> Frames:
    """The rule for frames of a model of clips, at the resolution of a reading."""
    rule = rule_of(model)
    return replace(rule, rule=at_resolution(rule.rule, reading.resolution)) if reading.resolution else rule


def in_turn(
    read: Callable[[list[str], Reading, dict[int, str]], Iterator[np.ndarray]],
    images: list[str],
    choice: Choice,
    reasons: dict[int, str],
) -> Iterator[np.ndarray]:
    """Class probabilities of each image, in order: by the first reading, and by the second where the confidence is
    below the threshold. An image that the second cannot read keeps its first prediction."""
    if choice.then is None:
        yield from read(images, choice.first, reasons)
        return
    for start in range(0, len(images), TOGETHER):
        some, wrong, failed = images[start : start + TOGETHER], {}, {}
        found = [*read(some, choice.first, wrong)]
        unsure = [i for i, p in enumerate(found) if i not in wrong and p.max() < choice.threshold]
        for k, p in enumerate(read([some[i] for i in unsure], choice.then, failed)):
            found[unsure[k]] = found[unsure[k]] if k in failed else p
        reasons.update({start + i: why for i, why in wrong.items()})
        yield from found


def progress(items: Iterable[Any], total: int) -> Iterator[Any]:
    """The items; every few seconds a line says how many there were."""
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - last > EVERY:
            last = now
            print(f"{count} of {total} files, {count / (now - start):.0f} per second", file=sys.stderr)


def best(p: np.ndarray, top: int) -> list[int]:
    """The most probable classes, best first."""
    return np.argsort(-p, kind="stable")[:top].tolist()


def in_words(path: str, p: np.ndarray, why: str | None, classes: tuple[str, ...], top: int) -> None:
    """A line on one image; on standard error where it was set aside."""
    if why is not None:
        print(f"set aside {printable(why)}", file=sys.stderr)
    else:
        print(f"{printable(path)}: " + ", ".join(f"{printable(classes[c])} {p[c]:.1%}" for c in best(p, top)))


def in_json(path: str, p: np.ndarray, why: str | None, classes: tuple[str, ...], top: int) -> None:
    """The same as a JSON object, whether it was set aside or not."""
    found = {"error": why} if why is not None else {"classes": {classes[c]: float(p[c]) for c in best(p, top)}}
    print_whole(json.dumps({"image": path} | found))


if __name__ == "__main__":
    run(main, "smaller --resolution or --patch-size, or smaller images")
