"""All experiments by name; see experiments/figures.py."""

import runpy
import sys

from experiments import figures


def main(words: list[str]) -> None:
    """Print the table, write its page, or run experiments with their own options.

    Raises SystemExit on a name that is none.
    """
    names = figures.experiments()
    if not words:
        print(figures.page())
        print("experiments:", " ".join(names))
    elif words == ["--page"]:
        figures.PAGE.write_text(figures.page())
    elif words[0] in ("-h", "--help"):
        print(figures.__doc__)
    elif words[0] not in ("all", *names):
        raise SystemExit(f"no experiment {words[0]!r}; there are: all {' '.join(names)}")
    else:
        for name in names if words[0] == "all" else words[:1]:
            print(f"== {name}", flush=True)
            sys.argv = [f"experiments/{name}/run.py", *words[1:]]
            runpy.run_path(str(figures.HERE / name / "run.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
