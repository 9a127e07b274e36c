"""The tables of results, by name: what `vgtool score --table list` shows, and what --table takes."""

from collections.abc import Mapping

TABLES: Mapping[str, str] = {
    "accuracy": "accuracy of every method, and its gain over the baseline; split with --by",
    "random-tokens": "vgrefine beside as many random tokens",
    "open": "graded metrics of open answers",
    "counts": "right, wrong, undecided and failed rows by method, question type and group",
    "failures": "why samples failed, and how many",
    "grounding": "attention ratio, KL and JS by layer",
    "heads": "the heads of lowest KL",
    "groups": "grounding at the best layer by group or question type, with --by",
    "probes": "every probe run at its best layer",
    "witnesses": "attention, reliance and the model's own words on the same samples",
    "thirds": "accuracy by where the model looked",
    "runs": "models and methods down, benchmarks across",
    "against": "what was asked for with --against",
}
"""Names of `--table`, in the order they are printed."""
