"""`report.html`: a run in one file, gathered from what training and studies wrote. See docs/run_folder.md."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data.tasks import TASKS
from navit_eqx.errors import ConfigError
from navit_eqx.files import replacing
from navit_eqx.serialize import decode

from ..config import Config
from ..run.folder import SUMMARY, read_results, read_saved
from ..settings import REQUIRED, changed, words
from ..terminal import clock
from .html import Markup, data_uri, joined, page, tag
from .learning_curve import read_log
from .loaded import is_run
from .studies import STUDIES, suited
from .studies.findings import Published, published, table_in
from .tables import cell, flat

REPORT = "report.html"
STYLE = Path(__file__).with_name("report.css")
OPEN, MOST = 25, 1000  # rows of a table that stand open; rows of a table in all, files have the rest


SetAside = Mapping[str, Mapping[str, str]]  # names of images with the reasons, by the images to which they belong


class Section(NamedTuple):
    """A part of the report; without content it is left out."""

    title: str
    content: Markup


@dataclass(frozen=True)
class Written:
    """What there is to report: files of an evaluation, and of the run whose model it evaluates."""

    folder: Path
    run: Path
    saved: dict[str, Any]
    """config.json of the run; empty where the model is not that of a run."""
    config: Config | None
    summary: dict[str, Any]
    findings: dict[str, Published]
    set_aside: SetAside


def write_report(folder: Path, run: Path | None = None, set_aside: SetAside | None = None) -> Path:
    """Write the report of a run, or of an evaluation of its model in another folder.   Raises NotWritten."""
    run = run or folder
    saved = read_saved(run) if is_run(run) else {}
    summary = summary_of(run)
    config = decode(Config, saved["config"], f"{run}/config.json") if saved else None
    aside = summary.get("set_aside", {}) if set_aside is None else set_aside
    text = report(Written(folder, run, saved, config, summary, published(folder), aside))
    with replacing(folder / REPORT) as draft:
        draft.write_text(text, encoding="utf-8")
    return folder / REPORT


def summary_of(run: Path) -> dict[str, Any]:
    """What a run came to; empty where it is not finished, and with a line where the file is damaged."""
    if not (run / SUMMARY).is_file():
        return {}
    try:
        return read_results(run / SUMMARY)
    except ConfigError as error:
        print(f"results of the run are left out of the report: {error}", flush=True)
        return {}


def report(written: Written) -> Markup:
    """The page: its sections in order, with links to them."""
    before, after = ([(make.__name__, make(written)) for make in part] for part in (SECTIONS, LAST))
    studies = [(name, study_section(written, name)) for name in STUDIES if name in written.findings]
    made = [*before, *studies, *after]
    there = [(name.replace("_", "-"), section) for name, section in made if section.content]
    links = [tag("li", tag("a", section.title, href=f"#{name}")) for name, section in there]
    parts = [
        tag("section", tag("h2", section.title), section.content, id=name, aria_label=section.title)
        for name, section in there
    ]
    title = written.folder.resolve().name
    return page(
        f"{title} · report",
        STYLE.read_text(),
        tag("header", tag("h1", title), lead(written)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *parts),
    )


def lead(written: Written) -> Markup | None:
    """The main result in one sentence."""
    summary = written.summary
    name = next((key for key in summary if key.startswith("val_")), None)
    if name is None or written.folder != written.run:
        return None
    score = "unknown" if summary[name] is None else f"{summary[name]:.3f}"
    return tag(
        "p",
        f"Validation {name.removeprefix('val_').replace('_', ' ')} {score} on {summary['val_images']} images at "
        f"resolution {summary['val_resolution']:g}, after {clock(summary['train_seconds'])} of training.",
        class_="lead",
    )


# training -------------------------------------------------------------------------------------------------


def about(written: Written) -> Section:
    """What was trained, on what, and with what."""
    saved, config, summary = written.saved, written.config, written.summary
    if config is None:
        return Section("About", tag("p", f"The model is {written.run}; it was not trained here."))
    shape, info = config.model, saved.get("info", {})
    classes = info.get("classes", ())
    facts = {
        "Trained on": info.get("trained_on"),
        "Classes": f"{len(classes)}: {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}" if classes else None,
        "Task": type(config.task).__name__,
        "Model": f"{shape.depth} blocks of width {shape.width}, {shape.heads} heads, patches of "
        f"{' x '.join(map(str, shape.patch))} pixels",
        "Preset": saved["preset"],
        "Training": f"{config.total_steps} steps, {summary['images_seen']} images, {summary['tokens_seen']} tokens, "
        f"{summary['images_per_second']:.3g} images/s, padding {summary['padding']:.2%}"
        if summary
        else f"{config.steps} steps; not finished, or without its summary",
        "Continued": "; ".join(f"at step {each['step']}" for each in saved["continued"]) or None,
        "Device": f"{saved['device']}, attention by {saved['attention']['kind']}" if saved["attention"] else None,
        "Software": ", ".join(f"{name} {version}" for name, version in saved["versions"].items()),
        "Commit": saved["commit"],
    }
    return Section("About", described(facts))


def learning(written: Written) -> Section:
    """Loss and score against steps."""
    lines = read_log(written.run / "metrics.jsonl")
    if not lines or written.folder != written.run:
        return Section("Learning curves", Markup())
    picture = written.run / "learning_curve.png"
    loss = " to ".join(cell(line["loss"]) for line in (lines[0], lines[-1]))
    alt = f"Training loss from {loss} at step {lines[-1]['step']}; score in training and validation"
    return Section("Learning curves", joined([figure(picture, alt), table_of("Logged windows of steps", lines)]))


def rows(written: Written) -> Section:
    """Pictures of packed rows."""
    pictures = {
        "packed_rows.png": "The first packed rows: the images of each row side by side, and its tokens in the order in "
        "which the model reads them",
        "tubelets.png": "Tubelets of each shape on the frames of one clip, and the row in which it is packed",
        "attention_mask.png": "Attention mask of the first row: one block per image, nothing between images",
    }
    found = [figure(written.folder / name, alt, narrow="mask" in name) for name, alt in pictures.items()]
    return Section("Packed rows", joined(found))


# studies ------------------------------------------------------------------------------------------------


def study_section(written: Written, name: str) -> Section:
    """Question, answer, picture and table of a study, and the command that made it."""
    found = written.findings[name]
    if found.impossible:
        return Section(name.capitalize(), tag("p", f"Not possible: {found.impossible}"))
    try:
        lines = table_in(written.folder, name, found)
    except ConfigError as error:
        return Section(name.capitalize(), tag("p", str(error)))
    return Section(
        name.capitalize(),
        joined(
            [
                tag("p", question(name)),
                tag("p", tag("strong", upper(found.summary))),
                figure(written.folder / found.picture, f"{found.title}. {found.summary}", caption=upper(found.title)),
                table_of(upper(found.title), lines, f"{name}.csv"),
                tag("p", "Made by ", tag("code", command_of(found.command)), class_="source"),
            ]
        ),
    )


def further_studies(written: Written) -> Section:
    """Studies that were not asked for, with their questions and the command for all of them."""
    config = written.config
    if config is None:
        return Section("Further studies", Markup())
    always = TASKS[type(config.task).__name__].studies
    left = [name for name in suited(always) if name not in written.findings]
    command = command_of(["evaluate.py", str(written.run), "--studies", *left])
    return Section(
        "Further studies",
        joined([described({name: question(name) for name in left}), code(command)]) if left else Markup(),
    )


def question(name: str) -> str:
    """The question of a study."""
    return (STUDIES[name].__doc__ or name).partition("?")[0] + "?"


# what was left out, and how to repeat it -------------------------------------------------------------------


def set_aside(written: Written) -> Section:
    """Images that were not used, with the reasons."""
    lines = [
        {"file": name, "images": where, "reason": why}
        for where, names in written.set_aside.items()
        for name, why in names.items()
    ]
    refused = [
        {"step": line["step"], "loss": line["loss"], "images": ", ".join(line["images"][:5])}
        for line in read_log(written.run / "refused.jsonl")
    ]
    tables = {
        f"{len(lines)} files that were not used": (lines, SUMMARY),
        f"{len(refused)} training steps that were refused": (refused, "refused.jsonl"),
    }
    content = joined(table_of(caption, *table) for caption, table in tables.items() if table[0])
    return Section("Set aside", content or tag("p", "Nothing: every file was used, and no step was refused."))


def settings(written: Written) -> Section:
    """Every setting that differs from its default."""
    if written.config is None:
        return Section("Settings", Markup())
    lines = [
        {
            "option": "--" + each.option.replace("_", "-"),
            "value": words(each.value),
            "default": "required" if each.default is REQUIRED else words(each.default),
        }
        for each in changed(written.config, Config())
    ]
    return Section("Settings", table_of(f"{len(lines)} settings that are not defaults", lines, "config.json"))


def repeat(written: Written) -> Section:
    """The command to train once more."""
    saved, config = written.saved, written.config
    if config is None:
        return Section("To repeat it", Markup())
    again = saved["command"]
    timed = config.minutes is not None and "--steps" not in " ".join(again)
    note = f"As many steps, however fast the machine, with --steps {config.steps}. " if timed else ""
    words = f"{note}Code, data and versions are those above."
    return Section("To repeat it", joined([code(command_of(again)), tag("p", words)]))


SECTIONS: tuple[Callable[[Written], Section], ...] = (about, learning, rows)
LAST: tuple[Callable[[Written], Section], ...] = (further_studies, set_aside, settings, repeat)


# parts ----------------------------------------------------------------------------------------------------


def figure(picture: Path, alt: str, caption: str = "", narrow: bool = False) -> Markup | None:
    """A picture, if it is there; on a narrow screen it is scrolled, not shrunk until it cannot be read."""
    if not picture.is_file():
        return None
    image = tag("img", src=data_uri(picture), alt=alt, class_="narrow" if narrow else None)
    return tag(
        "figure",
        tag("div", image, class_="scroll", tabindex=0, role="region", aria_label=f"Picture: {picture.name}"),
        tag("figcaption", caption or alt),
    )


def table_of(caption: str, lines: Sequence[dict], file: str = "") -> Markup:
    """A table with a column per key; a long one is folded, and a very long one goes on in `file`."""
    shown = [flat(line) for line in lines[:MOST]]
    first, *others = dict.fromkeys(key for line in shown for key in line)
    head = tag("tr", *(tag("th", name.replace("_", " "), scope="col") for name in (first, *others)))
    body = [
        tag("tr", tag("th", cell(line.get(first)), scope="row"), *(tag("td", cell(line.get(n))) for n in others))
        for line in shown
    ]
    made = tag("table", tag("thead", head), tag("tbody", *body), aria_label=caption)
    rest = tag("p", f"{len(lines) - MOST} more are in {file}.") if len(lines) > MOST else None
    framed = joined([tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption), rest])
    return framed if len(lines) <= OPEN else tag("details", tag("summary", f"Table of {len(lines)} rows"), framed)


def described(facts: Mapping[str, Any]) -> Markup:
    """Names and facts; None is left out."""
    pairs = ((tag("dt", name), tag("dd", fact)) for name, fact in facts.items() if fact is not None)
    return tag("dl", *(part for pair in pairs for part in pair))


def code(text: str) -> Markup:
    """A command as it is typed."""
    return tag("pre", tag("code", text), tabindex=0)


def command_of(arguments: Iterable[str]) -> str:
    """Arguments of a Python program as a command line."""
    return shlex.join(["python", *arguments])


def upper(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]
