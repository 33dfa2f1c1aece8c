"""Results of the rounds: a line per contestant, ratios with their spread, goals met or missed, a picture."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

Line = dict[str, Any]

OURS = ("gemm", "ours", "unrolled", "unpacked")  # the first of ours to start writes the parameters of `flat`
ROOF, SHARE = 72.0, 0.7  # useful GFLOP/s on one thread, or this share of the GEMM peak, whichever is lower
AGAINST = {  # threads: peers, and how much faster ours shall be in training on mixed sizes
    1: {"timm-buckets": 1.25, "vit-pytorch": 1.5, "flat": 1.0},
    2: {"timm-buckets": 1.1, "vit-pytorch": 1.4, "flat": 1.0},
}
ELSEWHERE = {"equal": {"unpacked": 0.95}, "tiny": {"vit-pytorch": 5.0}}
INFERENCE = 1.2  # over every peer


def summary(rounds: Sequence[Line], about: Line, task: Line, metric: str) -> Line:
    """Medians over the rounds, by `metric`: cpu_seconds or wall_seconds."""
    seconds = [r[metric] for r in rounds]
    middle, flops = median(seconds), about.get("flops", task["flops"])
    line = {"metric": metric, "seconds": middle, "seconds_min": min(seconds), "seconds_max": max(seconds)}
    line |= {f"median_{k}": median(r[k] for r in rounds) for k in ("cpu_seconds", "wall_seconds")}
    line |= {"repeats": len(rounds), "useful_gflops_per_second": flops / middle / 1e9}
    if "flops" not in about:
        tokens, images = sum(task["lengths"]), len(task["lengths"])
        places = about["places"]
        line |= {"microseconds_per_token": 1e6 * middle / tokens, "milliseconds_per_image": 1e3 * middle / images}
        line |= {"tokens_per_second": tokens / middle, "images_per_second": images / middle}
        line |= {"padding": None if places is None else 1 - tokens / places}
    return line | about | {"peak_bytes": rounds[-1]["peak_bytes"], "rounds": seconds}


def ratio(ours: Line, other: Line) -> Line:
    """Speed-up of our model, round by round, since load on the machine is equal within a round."""
    each = [b / a for a, b in zip(ours["rounds"], other["rounds"])]
    return {"value": median(each), "value_min": min(each), "value_max": max(each)}


def bars(lines: Sequence[Line], threads: int) -> list[Line]:
    """Goals that these lines decide, with value and whether they are met."""
    found = []
    for preset, case in dict.fromkeys((line["preset"], line["case"]) for line in lines):
        here = {x["contestant"]: x for x in lines if (x["preset"], x["case"]) == (preset, case) and not x.get("absent")}
        ours = here.get("ours")
        if ours is None:
            continue
        judged = []
        if case == "mixed" and threads == 1 and "gemm" in here:
            peak = here["gemm"]["useful_gflops_per_second"]
            value = {"value": ours["useful_gflops_per_second"]}
            judged.append(({"bar": "useful GFLOP/s", "gemm": peak, "limit": min(ROOF, SHARE * peak)}, value))
        for name, limit in goals(case, threads, here).items():
            if name in here:
                judged.append(({"bar": f"times {name}", "limit": limit}, ratio(ours, here[name])))
        for goal, value in judged:
            found.append({"preset": preset, "case": case, **goal, **value, "met": value["value"] >= goal["limit"]})
    return found


def goals(case: str, threads: int, here: Line) -> dict[str, float]:
    """Goals of a case: contestants and the speed-up of our model over them."""
    if case == "mixed":
        return AGAINST[threads]
    if case == "inference":
        return {name: INFERENCE for name in here if name not in OURS}
    return ELSEWHERE.get(case, {})


def draw(lines: Sequence[Line], path: Path) -> None:
    """Time per real token over ours, a panel for each case; whiskers are the fastest and slowest round."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((line["preset"], line["case"]) for line in lines))
    figure = Figure(figsize=(3.2 * len(panels), 2.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, panel in zip(axes[0], panels):
        here = [x for x in lines if (x["preset"], x["case"]) == panel and "rounds" in x and "flops" not in x]
        ours = next((x for x in here if x["contestant"] == "ours"), None)
        if ours is None:
            continue
        ratios = [ratio(ours, x) for x in here]
        values = [r["value"] for r in ratios]
        spread = [[r["value"] - r["value_min"] for r in ratios], [r["value_max"] - r["value"] for r in ratios]]
        colors = ["C1" if x["contestant"] in OURS else "C0" for x in here]
        axis.barh([x["contestant"] for x in here], values, xerr=spread, color=colors)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.invert_yaxis()
        axis.set_title(f"{panel[0]}, {panel[1]}", fontsize=9)
        axis.set_xlabel("time, ours = 1", fontsize=8)
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)
