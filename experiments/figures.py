"""Every figure and table of both papers: what it shows, where it is done here, and what came of it.

    python -m experiments                      this table
    python -m experiments NAME [options]       one experiment; its options: python -m experiments NAME --help
    python -m experiments all                  all of them, one after the other; what is finished is not done again
    python -m experiments all --tiny           does everything run? two arms, two steps, nothing is written
    python -m experiments --page               docs/figures.md from the results

A row is *reproduced* where all claims of its experiment hold, *contradicted* where none holds and one fails, *in part*
where some hold and others do not, *open* where the seeds do not decide or nothing was run, *out of scale* where no
machine at hand could show it; such rows say why.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.results import load

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "figures.md"
NAVIT, FLEXIVIT = "NaViT", "FlexiViT"


class Figure(NamedTuple):
    """A figure, a table or a claim of a paper."""

    paper: str
    place: str
    shows: str
    experiment: str = ""
    """Folders whose claims decide, separated by |."""
    says: str = ""
    """Of its claims, those that hold one of these words, separated by |; empty takes all."""
    why: str = ""
    """Without an experiment: the command that shows it here, or why it is open or out of scale."""
    out_of_scale: bool = False

    @property
    def experiments(self) -> list[str]:
        return self.experiment.split("|") if self.experiment else []


FIGURES: tuple[Figure, ...] = (
    Figure(NAVIT, "fig. 1, left", "NaViT reaches the accuracy of ViT for a quarter of the compute", "fig01_compute|fig01_photographs", "NaViT is better|1/2 of|1/4 of"),
    Figure(NAVIT, "fig. 1, middle", "the order stays after fine-tuning", "fig01_finetuned", "fine-tuning"),
    Figure(NAVIT, "fig. 1, right", "one model: accuracy rises smoothly with the cost of inference", why="not run: `experiments/fig01_inference`; `train.py digits` rises from .876 at 18 tokens to .949 at 111, one seed"),
    Figure(NAVIT, "fig. 2", "a packed row and its masks", "fig02_masks"),
    Figure(NAVIT, "fig. 3", "most images are not square", "fig03_aspect_ratios"),
    Figure(NAVIT, "fig. 4", "attention of longer rows costs less, the wider the model", "fig04_attention_overhead"),
    Figure(NAVIT, "fig. 5", "variable resolution is as good as each fixed one, and better elsewhere", why="not run: `experiments/fig05_fixed_resolutions`"),
    Figure(NAVIT, "fig. 6", "one fine-tuning at all resolutions replaces one for each", "fig06_finetuning", "One fine-tuning|Over the|better than|gains"),
    Figure(NAVIT, "fig. 7", "draw the side, not the area; small images often", "fig07_resolutions"),
    Figure(NAVIT, "fig. 8, 15", "a drop rate that falls beats a fixed one, and a rising one is worse", "fig08_schedules"),
    Figure(NAVIT, "fig. 9 a", "Beta drop rates beat constant ones; dropping beats not dropping", "fig09_drop_rates", "Beta is|highest mean|Dropping half"),
    Figure(NAVIT, "fig. 9 b", "drop rates by resolution are better still", "fig09_drop_rates", "By resolution"),
    Figure(NAVIT, "fig. 10, table 3", "factorised positions keep beyond the trained range", "fig10_positions"),
    Figure(NAVIT, "fig. 11, table 5", "native aspect helps on ImageNet-A and ObjectNet", why="not run: `experiments/fig11_crops`, on strips with the object at an end; ImageNet-A and ObjectNet cannot be had here"),
    Figure(NAVIT, "fig. 12", "probes of attributes are better with native aspect", "fig12_attributes", "Native|ViT"),
    Figure(NAVIT, "fig. 13", "segmentation: aspect kept beats squares", "fig13_segmentation"),
    Figure(NAVIT, "table 1", "detection: better than ViT with the same head", "table1_detection"),
    Figure(NAVIT, "§3.6", "video with tubelets of several shapes", "video_tubelets"),
    Figure(NAVIT, "app. A", "ahead by compute, not by images seen", "fig01_finetuned", "images seen"),
    Figure(NAVIT, "fig. 14", "distributions of drop rates", "fig14_sampling_laws", "Beta law"),
    Figure(NAVIT, "fig. 16", "absolute and fractional coordinates", "fig14_sampling_laws", "Coordinates"),
    Figure(NAVIT, "fig. 17", "resizing beats dropping at inference; enlarging helps little", "fig17_inference", "smaller image|Enlarging"),
    Figure(NAVIT, "fig. 18", "at equal time a larger model with fewer tokens wins", why="not run: `experiments/fig18_width_and_tokens`"),
    Figure(NAVIT, "fig. 19", "cascades lie on the front", "fig17_inference", "Two predictions"),
    Figure(NAVIT, "fig. 20, 21", "crop or resize changes the gain out of distribution", why="not run: `experiments/fig11_crops`, on strips with the object at an end or in the middle"),
    Figure(NAVIT, "fig. 22", "corruptions: one fine-tuning for all resolutions is as robust", "fig06_finetuning", "corrupted"),
    Figure(NAVIT, "table 2", "images in a row, padding", "table2_packing"),
    Figure(NAVIT, "table 4", "calibration stays over tokens", "fig17_inference", "calibration"),
    Figure(NAVIT, "§2.3", "the contrastive loss in chunks: same value, memory of a chunk", "contrast_chunks"),
    Figure(NAVIT, "§3.1", "contrastive: better than ViT at equal compute", "contrast_glyphs", "NaViT names 36|NaViT finds"),
    Figure(NAVIT, "§3.3", "which tokens to drop: the paper drops at random", "choosing_tokens"),
    Figure(FLEXIVIT, "fig. 2", "one model is nearly as good as each fixed one at its size", "flexi_sizes", "at most two points"),
    Figure(FLEXIVIT, "fig. 2", "longer training helps coarse patches most", why="not run: `experiments/flexi_longer`"),
    Figure(FLEXIVIT, "fig. 3", "fixed models collapse at other sizes", "flexi_sizes", "ten points above"),
    Figure(FLEXIVIT, "fig. 4", "PI-resize keeps the tokens when patches grow", "flexi_kernels"),
    Figure(FLEXIVIT, "fig. 5", "start and learn from a teacher with fine patches", "flexi_distillation"),
    Figure(FLEXIVIT, "fig. 6", "layers are alike between grids, least in the middle", "flexi_tokens", "cka"),
    Figure(FLEXIVIT, "fig. 7", "transfer at two sizes is as good as that of fixed models: classification", why="not run: `experiments/flexi_transfer`"),
    Figure(FLEXIVIT, "fig. 7", "the same for panoptic and semantic segmentation, detection, retrieval", out_of_scale=True, why="UViM, Cityscapes, LVIS and LiT at B/16 need an accelerator and their data"),
    Figure(FLEXIVIT, "fig. 8", "fine-tune on coarse patches, deploy on fine ones", "flexi_coarse_to_fine"),
    Figure(FLEXIVIT, "fig. 13", "similar tokens at different scales", "flexi_tokens", "same place"),
    Figure(FLEXIVIT, "fig. 17", "sizes of the stored kernel and table do not matter", why="not run: `experiments/flexi_buffers`"),
    Figure(FLEXIVIT, "fig. 30", "patches outside the trained set: graceful decay", "flexi_tokens", "between|finer"),
    Figure(FLEXIVIT, "curriculum", "coarse to fine beats fine from the start", "flexi_curriculum"),
    Figure(FLEXIVIT, "depth, stride", "the size of patches is the best knob", "flexi_knobs"),
    Figure(FLEXIVIT, "ensemble", "an ensemble of sizes is no better than one size at equal cost", "flexi_tokens", "ensemble"),
    Figure(FLEXIVIT, "both papers", "both knobs in one model", "flexi_sizes", "both knobs"),
)  # fmt: skip


BEYOND = ("adaptive_tokens", "adaptive_photographs", "hierarchy", "template_rows")
"""Experiments on what neither paper has."""


def experiments() -> list[str]:
    """Names of all experiments."""
    return sorted(path.parent.name for path in HERE.glob("*/run.py"))


def verdicts(figure: Figure) -> list[str]:
    """Verdicts of the claims of a figure."""
    return [verdict for name in figure.experiments for verdict in verdicts_of(name, figure.says)]


def verdicts_of(name: str, says: str = "") -> list[str]:
    """Those of the claims of one experiment that hold one of the words; none where it has no result."""
    if not (HERE / name / "result.json").exists():
        return []
    claims = load(HERE / name)["claims"]
    return [
        claim["verdict"] for claim in claims if any(word in claim["says"].lower() for word in says.lower().split("|"))
    ]


def status(found: Sequence[str], out_of_scale: bool = False) -> str:
    """The word of a row, from the verdicts of its claims."""
    if out_of_scale:
        return "out of scale"
    held, failed = found.count("holds"), found.count("fails")
    if not held and not failed:
        return "open"
    return "reproduced" if held == len(found) else "in part" if held else "contradicted"


def link(name: str, found: Sequence[str]) -> str:
    """The page of an experiment, and what became of its claims."""
    counts = ", ".join(f"{found.count(v)} {v}" for v in ("holds", "fails", "open") if v in found)
    return f"[{name}](../experiments/{name}/README.md): {counts or 'not run'}"


def row(figure: Figure) -> str:
    """A line of the table."""
    found = verdicts(figure)
    where = [link(name, of) for name in figure.experiments if (of := verdicts_of(name, figure.says))]
    return f"| {figure.paper} {figure.place} | {figure.shows} | **{status(found, figure.out_of_scale)}** | {', '.join(where) or figure.why} |"


def page() -> str:
    """docs/figures.md, from the results alone."""
    words = [status(verdicts(figure), figure.out_of_scale) for figure in FIGURES]
    order = ("reproduced", "in part", "contradicted", "open", "out of scale")
    counts = ", ".join(f"{words.count(word)} {word}" for word in order)
    return "\n".join([
        "# Every figure and table of both papers",
        "",
        f"{len(FIGURES)} rows: {counts}. Made by `python -m experiments --page` from `experiments/*/result.json`.",
        "*Reproduced*: all claims hold by 95 % t intervals; *in part*: some do; *contradicted*: none does, and one fails;",
        "*open*: the seeds do not decide, or nothing was run. `python -m experiments NAME` does one again, `all --tiny` tries all.",
        "",
        "| place | what it shows | here | where |",
        "| --- | --- | --- | --- |",
        *map(row, FIGURES),
        "",
        f"Beyond both papers: {', '.join(link(name, verdicts_of(name)) for name in BEYOND)}.",
        "",
    ])  # fmt: skip
