"""Tables: accuracy by method with paired tests, open answers, grounding, the two joined, and several runs in one.

Every number carries its rows and an interval; two methods are compared on the same rows only.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vgtool.errors import VgError, did_you_mean
from vgtool.grounding.heads import rank, sensitive_layer
from vgtool.methods.names import CONTROLS
from vgtool.scoring import open_ended, thinking
from vgtool.scoring.answers import check_rule
from vgtool.scoring.inputs import ANSWERS, Run, judged, kind_of, read_run, unanswered
from vgtool.scoring.statistics import (
    clustered_mean,
    clustered_means,
    holm,
    mcnemar,
    numbered,
    sign_flip,
    smallest_gain,
    wilson,
)

METRICS = ("layer_ratio", "layer_kl", "layer_js")
HEAD_METRICS = ("head_ratio", "head_kl", "head_js")
GROUNDING = ["image_id", "group", "domain", "error", *METRICS, *HEAD_METRICS]
NAMES = ("attention ratio", "KL", "JS")
SPLITS = ("group", "question_type")
TOP_HEADS = 20
Cell = str | int | float | None

__all__ = ["ANSWERS", "GROUNDING", "METRICS", "Cell", "Run", "Table", "judged", "kind_of", "read_run", "score"]


@dataclass(frozen=True)
class Table:
    """One table: a title, named columns, rows, and what a reader must know."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)


def score(
    inputs: Sequence[Path],
    *,
    rule: str | None,
    by: str | None,
    partial: bool,
    seed: int,
    allow_mixed: bool = False,
    bertscore: tuple[str, int | None] | None = None,
    every_count: bool = False,
) -> list[Table]:
    """Tables of run folders and prediction files, in the order given; joined ones follow."""
    if rule is not None:
        check_rule(rule)
    if by is not None and by not in SPLITS:
        raise VgError(f"No field '{by}' to split by.", did_you_mean(by, SPLITS))
    answers, probes = [], []
    for path in inputs:
        if kind_of(path) == "refine":
            answers.append(read_run(path, ANSWERS, partial))
        else:
            probes.append(read_run(path, GROUNDING, partial))
    tables: list[Table] = []
    for run in answers:
        tables.append(accuracy(run, rule, None, seed))
        tables += [accuracy(run, rule, by, seed)] if by else []
        tables += against_control(run, rule, seed)
        tables += open_answers(run, seed, bertscore)
        tables += [counts(run, rule)] if every_count else []
    for run in probes:
        tables += [grounding(run, seed), best_heads(run, seed)]
        tables += [grounding_by_group(run, seed)] if by == "group" else []
    if len(probes) > 1:
        tables.append(grounding_summary(probes, seed))
    for probe in probes:
        mine = [run for run in answers if _same_rows(run, probe)]
        tables += [accuracy_by_attention(probe, run, rule, seed) for run in mine]
    if len(answers) > 1:
        tables.append(together(answers, rule, allow_mixed))
    return tables


# ---- accuracy ----------------------------------------------------------------------------------------------------


def accuracy(run: Run, rule: str | None = None, by: str | None = None, seed: int = 0) -> Table:
    """Accuracy per method (and value of `by`) with a Wilson interval, and against the baseline on the same rows."""
    rows, marks = judged(run, rule), _marks(run)
    out: list[list[Cell]] = []
    claims: list[tuple[int, float]] = []
    smallest: dict[str, float] = {}
    for value in [None] if by is None else sorted(rows[by].drop_nulls().unique().to_list()):
        some = rows if by is None else rows.filter(pl.col(by) == value)
        base = some.filter((pl.col("method") == "baseline") & (pl.col("outcome") != "failed"))
        for method in run.identity["methods"]:
            mine = some.filter(pl.col("method") == method)
            counted = mine.filter(pl.col("outcome") != "failed")
            line: list[Cell] = [] if value is None else [value]
            line += [method, *_counted(mine["outcome"], marks)]
            pairs = base.join(counted, on="sample_id", suffix="_b") if method != "baseline" else base.clear()
            if not pairs.height:
                out.append([*line, *[None] * 7])
                continue
            cells, worst = _paired(pairs, seed)
            name = method if value is None else f"{method}, {value}"
            smallest[name] = smallest_gain(pairs.height, int(cells[2] or 0) + int(cells[3] or 0))  # type: ignore[arg-type]
            if method.partition(":")[0] not in CONTROLS:
                claims.append((len(out), worst))
            out.append([*line, *cells, None])
    for (at, _), adjusted in zip(claims, holm([p for _, p in claims]), strict=True):
        out[at][-1] = f"{adjusted:.3g}"
    columns = ["method", "rows", "right", *marks, "failed", "accuracy %", "95 % Wilson", *PAIRED, "p Holm"]
    notes = [*_judging(run, rule), *run.notes, *_failures(run)]
    if without := unanswered(run):
        notes.append(f"{without} samples have no reference and are not scored.")
    if smallest:
        least = min(smallest, key=smallest.__getitem__)
        notes.append(
            f"Gain: against the baseline on the same rows. {PAIRED_NOTE} Holm corrects the larger p of each method "
            "over this table; controls and the oracle are no claims and stay out. Smallest gain that could be told "
            f"from chance, uncorrected: {_pc(smallest[least])} points ({least})."
        )
    return Table(f"Accuracy, {run.title}", [*([] if by is None else [by]), *columns], out, notes)


PAIRED = ["gain [95 %, by image]", "pairs", "fixed", "broken", "p McNemar", "p by image"]
PAIRED_NOTE = (
    "Its interval draws whole images. p McNemar: exact, rows independent; p by image: exact too, over the signs of "
    "whole images' changes."
)


def _paired(pairs: pl.DataFrame, seed: int) -> tuple[list[Cell], float]:
    """The cells of PAIRED for rows with `outcome` before and `outcome_b` after, and the larger of the two p values: the
    first takes an image's rows for independent."""
    was, now = (pairs[c].to_numpy() == "right" for c in ("outcome", "outcome_b"))
    change, images = now.astype(float) - was, pairs["image_id"].to_list()
    fixed, broken = int((now & ~was).sum()), int((was & ~now).sum())
    mean, low, high = clustered_mean(change, images, seed=seed)
    exact, by_image = mcnemar(fixed, broken), sign_flip(change, images)
    return [_points(mean, low, high, signed=True), pairs.height, fixed, broken, f"{exact:.3g}", f"{by_image:.3g}"], max(
        exact, by_image
    )


def against_control(run: Run, rule: str | None = None, seed: int = 0) -> list[Table]:
    """VGRefine beside a random choice of as many tokens at the same settings, paired: only what is left of a gain there
    is owed to where it looked. None when the run has no such pair."""
    rows = judged(run, rule).filter(pl.col("outcome") != "failed")
    out: list[list[Cell]] = []
    for method in run.identity["methods"]:
        name, colon, settings = method.partition(":")
        control = f"random-keep{colon}{settings}"
        if name == "vgrefine" and control in run.identity["methods"]:
            before, after = (rows.filter(pl.col("method") == one) for one in (control, method))
            if (pairs := before.join(after, on="sample_id", suffix="_b")).height:
                out.append([f"{method} - {control}", *_paired(pairs, seed)[0]])
    notes = [f"Difference on the same rows. {PAIRED_NOTE}", *_judging(run, rule), *run.notes]
    return [Table(f"Against random tokens, {run.title}", ["methods", *PAIRED], out, notes)] if out else []


def _judging(run: Run, rule: str | None) -> list[str]:
    used = rule or run.identity.get("rule", "strict")
    return [f"Rule: {used}. Undecided counts as wrong; failed rows are left out.", *thinking.note(run.identity)]


def _marks(run: Run) -> list[str]:
    """Outcomes beside right, wrong and failed that the run can have."""
    return ["undecided", "unfinished"] if thinking.of(run.identity) else ["undecided"]


def _failures(run: Run) -> list[str]:
    """Why rows failed, the most frequent reason first."""
    codes = run.rows["error"].drop_nulls().str.split(":").list.first()
    if not codes.len():
        return []
    found = codes.value_counts(sort=True).rows()
    return ["Failed: " + ", ".join(f"{count} {code}" for code, count in found) + "."]


def _counted(outcomes: pl.Series, marks: Sequence[str]) -> list[Cell]:
    """rows, right, each of `marks`, failed, accuracy %, interval."""
    failed = int((outcomes == "failed").sum())
    rows, right = outcomes.len() - failed, int((outcomes == "right").sum())
    low, high = wilson(right, rows)
    share = _pc(right / rows) if rows else None
    counts = [int((outcomes == mark).sum()) for mark in marks]
    return [rows, right, *counts, failed, share, f"{_pc(low)} to {_pc(high)}"]


def counts(run: Run, rule: str | None) -> Table:
    """Every count: by method, question type and group."""
    fields = ["method", "question_type", "group"]
    rows = judged(run, rule).with_columns(pl.col(name).fill_null("") for name in fields)
    kinds = ["right", "wrong", *_marks(run), "failed"]
    found = rows.group_by(fields).agg(pl.len().alias("rows"), *((pl.col("outcome") == k).sum().alias(k) for k in kinds))
    return Table(f"Counts, {run.title}", [*fields, "rows", *kinds], [list(row) for row in found.sort(fields).rows()])


def open_answers(run: Run, seed: int, bertscore: tuple[str, int | None] | None) -> list[Table]:
    """Graded metrics of open answers, means with intervals over images; none when there are no open answers."""
    rows = run.rows.filter((pl.col("question_type") == "open") & pl.col("error").is_null())
    rows = rows.filter(pl.col("reference").fill_null("") != "")
    if not rows.height:
        return []
    names, notes = list(open_ended.METRICS), ["Mean over rows, 0 to 100, with 95 % bootstrap over images."]
    answers, references = (rows[name].fill_null("").to_list() for name in ("answer", "reference"))
    if form := thinking.of(run.identity):
        answers = [thinking.final(answer, **form) or "" for answer in answers]
    values = np.array(
        [[m(a, r) for m in open_ended.METRICS.values()] for a, r in zip(answers, references, strict=True)]
    )
    if bertscore is not None:
        scores, note = open_ended.bertscore(answers, references, *bertscore)
        values, names = np.column_stack([values, scores]), [*names, "BERTScore F1"]
        notes.append(note)
    out: list[list[Cell]] = []
    for method in run.identity["methods"]:
        mine = (rows["method"] == method).to_numpy()
        if mine.any():
            spans = clustered_means(values[mine], rows.filter(mine)["image_id"].to_list(), seed=seed)
            out.append([method, int(mine.sum()), *(_points(*span) for span in spans)])
    return [Table(f"Open answers, {run.title}", ["method", "rows", *names], out, notes)]


# ---- grounding ---------------------------------------------------------------------------------------------------


def _measured(run: Run) -> pl.DataFrame:
    good = run.rows.filter(pl.col("error").is_null() & pl.col("layer_ratio").is_not_null())
    if not good.height:
        raise VgError(f"'{run.path}' has no sample with a grounding metric.", "Probe a benchmark with boxes.")
    return good


def _stacked(rows: pl.DataFrame, names: Iterable[str]) -> list[np.ndarray]:
    return [np.array(rows[name].to_list(), dtype=np.float64) for name in names]


def best_layer(rows: pl.DataFrame) -> int:
    """The layer of lowest mean KL."""
    return sensitive_layer(np.array(rows["layer_kl"].to_list(), dtype=np.float64))


def _span(values: Sequence[float] | np.ndarray) -> str | None:
    mean, low, high = values
    if np.isnan(mean):
        return None
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite(low) else f"{mean:.3f}"


def _samples_note(run: Run, measured: int) -> str:
    errors = run.rows.filter(pl.col("error").is_not_null())["error"]
    outside = int(errors.str.starts_with("no_region").sum())
    without = run.rows.height - measured - errors.len()
    failed = errors.len() - outside
    return f"{measured} samples; {outside} whose boxes the model cannot see, {failed} failed, {without} without boxes."


CHOSEN = "Layers and heads are chosen on these very samples."
SCALE = "Attention ratio 1 is uniform, higher is better; KL and JS lower is better. 95 % bootstrap over images."


def grounding(run: Run, seed: int = 0) -> Table:
    """Mean AR, KL and JS per layer and over layers, with intervals over images."""
    good = _measured(run)
    images = good["image_id"].to_list()
    values = _stacked(good, METRICS)
    spans = [clustered_means(column, images, seed=seed) for column in values]
    known = np.isfinite(values[1]).sum(0).tolist()
    out: list[list[Cell]] = [[layer, known[layer], *(_span(s[layer]) for s in spans)] for layer in range(len(spans[0]))]
    with np.errstate(invalid="ignore"):
        over = [np.nanmean(column, 1) for column in values]
    out.append(["mean", good.height, *(_span(clustered_mean(column, images, seed=seed)) for column in over)])
    notes = [_samples_note(run, good.height), f"Lowest KL: layer {best_layer(good)}. {CHOSEN} {SCALE}", *run.notes]
    return Table(f"Grounding, {run.title}", ["layer", "samples", *NAMES], out, notes)


def best_heads(run: Run, seed: int = 0) -> Table:
    """The heads of lowest mean KL."""
    good = _measured(run)
    images = good["image_id"].to_list()
    values = _stacked(good, HEAD_METRICS)
    layers = len(good["layer_kl"][0])
    heads = values[0].shape[1] // layers
    order = [layer * heads + head for layer, head, _ in rank(values[1].reshape(-1, layers, heads))[:TOP_HEADS]]
    spans = [clustered_means(column[:, order], images, seed=seed) for column in values]
    out: list[list[Cell]] = [
        [
            place + 1,
            at // heads,
            at % heads,
            int(np.isfinite(values[1][:, at]).sum()),
            *(_span(s[place]) for s in spans),
        ]
        for place, at in enumerate(order)
    ]
    columns = ["rank", "layer", "head", "samples", *NAMES]
    notes = [f"Samples: those on which the head looks at the image at all. {CHOSEN} {SCALE}", *run.notes]
    return Table(f"Heads of lowest KL, {run.title}", columns, out, notes)


def grounding_by_group(run: Run, seed: int = 0) -> Table:
    """Each group (modality) at the run's best layer."""
    good = _measured(run)
    layer = best_layer(good)
    out: list[list[Cell]] = []
    for group in sorted(good["group"].fill_null("").unique().to_list()):
        rows = good.filter(pl.col("group").fill_null("") == group)
        columns = np.stack([v[:, layer] for v in _stacked(rows, METRICS)], 1)
        spans = clustered_means(columns, rows["image_id"].to_list(), seed=seed)
        out.append([group, rows.height, *(_span(s) for s in spans)])
    return Table(
        f"Grounding by group, layer {layer}, {run.title}",
        ["group", "samples", *NAMES],
        out,
        [f"{CHOSEN} {SCALE}", *run.notes],
    )


def grounding_summary(runs: Sequence[Run], seed: int = 0) -> Table:
    """Several probe runs, medical beside natural, each at its own best layer and over all layers."""
    out: list[list[Cell]] = []
    for run in runs:
        good = _measured(run)
        layer, images = best_layer(good), good["image_id"].to_list()
        values = _stacked(good, METRICS)
        best = clustered_means(np.stack([v[:, layer] for v in values], 1), images, seed=seed)
        with np.errstate(invalid="ignore"):
            mean = clustered_means(np.stack([np.nanmean(v, 1) for v in values], 1), images, seed=seed)
        i, domain = run.identity, "+".join(sorted(good["domain"].drop_nulls().unique().to_list()))
        name = f"{i['benchmark']} ({i.get('split')})"
        out.append([i["model"], name, domain, good.height, layer, *(_span(s) for s in best), _span(mean[0])])
    columns = ["model", "benchmark", "domain", "samples", "best layer", *NAMES, "attention ratio, all layers"]
    notes = [f"{CHOSEN} {SCALE}", *(f"{run.title}: {note}" for run in runs for note in run.notes)]
    return Table("Grounding of all probe runs", columns, out, notes)


def _same_rows(answers: Run, probe: Run) -> bool:
    """Whether two runs are of one model on one set of rows."""
    names = ("model", "revision", "benchmark", "split", "data_digest")
    return all(answers.identity.get(n) == probe.identity.get(n) for n in names)


def accuracy_by_attention(probe: Run, run: Run, rule: str | None, seed: int = 0) -> Table:
    """Accuracy in thirds of the samples by where the model looked: is it right more often where it looks right?"""
    good = _measured(probe)
    layer = best_layer(good)
    ratio = good.select("sample_id", pl.col("layer_ratio").list.get(layer).alias("ratio")).filter(
        pl.col("ratio").is_finite()
    )
    cuts = [ratio["ratio"].quantile(q, "linear") for q in (1 / 3, 2 / 3)]
    rows = judged(run, rule).filter(pl.col("outcome") != "failed").join(ratio, on="sample_id")
    rows = rows.with_columns(
        third=pl.when(pl.col("ratio") <= cuts[0]).then(0).when(pl.col("ratio") <= cuts[1]).then(1).otherwise(2)
    )
    out: list[list[Cell]] = []
    for method in run.identity["methods"]:
        mine = rows.filter(pl.col("method") == method)
        line: list[Cell] = [method, mine.height]
        for third in range(3):
            some = mine.filter(pl.col("third") == third)
            right = int((some["outcome"] == "right").sum())
            low, high = wilson(right, some.height)
            line.append(f"{_pc(right / some.height)} [{_pc(low)}, {_pc(high)}]" if some.height else None)
        outer = mine.filter(pl.col("third") != 1)
        if outer["third"].n_unique() == 2:
            now = (outer["outcome"] == "right").to_numpy().astype(float)
            high_third = (outer["third"] == 2).to_numpy()
            columns = np.stack([np.where(high_third, now, np.nan), np.where(~high_third, now, np.nan)], 1)
            line.append(_difference(columns, outer["image_id"].to_list(), seed))
        else:
            line.append(None)
        out.append(line)
    columns_ = ["method", "rows", "lowest third", "middle third", "highest third", "highest - lowest [95 %, by image]"]
    spots = " and ".join(f"{cut:.3f}" for cut in cuts if cut is not None)
    notes = [f"Thirds of the samples by attention ratio at layer {layer}, cut at {spots}; accuracy %, Wilson."]
    return Table(f"Accuracy by where the model looked, {run.title}", columns_, out, notes)


def _difference(columns: np.ndarray, images: Sequence[str], seed: int, draws: int = 2000) -> str:
    """Difference of two columns' means (NaN: not in that column), with a bootstrap over images."""
    index, known = numbered(images), np.isfinite(columns)
    count = int(index.max()) + 1
    both = np.zeros((count, 4))
    np.add.at(both, index, np.concatenate([np.where(known, columns, 0), known], 1))
    rng = np.random.default_rng(seed)

    def gap(sums: np.ndarray) -> float:
        return float(sums[0] / sums[2] - sums[1] / sums[3]) if sums[2] and sums[3] else float("nan")

    drawn = [gap(np.bincount(rng.integers(0, count, count), minlength=count) @ both) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{_pc(gap(both.sum(0)), True)} [{_pc(low, True)}, {_pc(high, True)}]"


# ---- several runs in one -----------------------------------------------------------------------------------------

ROWS = ("split", "protocol", "rows", "data_digest", "rule")
ENGINE = ("attention", "box_mapping", "dtype", "revision", "heads")


def together(runs: Sequence[Run], rule: str | None, allow_mixed: bool) -> Table:
    """Models and methods down, benchmarks across, the published figure beside ours (the paper's main, ablation and
    rival tables). VgError when runs of one benchmark or one model differ in what they measured."""
    differing: dict[int, list[str]] = {}
    for (a, one), (b, two) in combinations(enumerate(runs), 2):
        same_rows = one.identity["benchmark"] == two.identity["benchmark"]
        same_model = one.identity["model"] == two.identity["model"]
        names = [n for n in ROWS if same_rows and not (n == "rule" and rule)] + [n for n in ENGINE if same_model]
        for name in names:
            if one.identity.get(name) != two.identity.get(name):
                if not allow_mixed:
                    raise VgError(
                        f"'{one.path}' and '{two.path}' differ in {name}: {one.identity.get(name)} and "
                        f"{two.identity.get(name)}.",
                        "Score them apart, or give --allow-mixed to label them.",
                    )
                differing.setdefault(a, []).append(name)
                differing.setdefault(b, []).append(name)
    cells: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for at, run in enumerate(runs):
        labels = "".join(f", {n}={str(run.identity.get(n))[:12]}" for n in dict.fromkeys(differing.get(at, ())))
        rows = judged(run, rule).filter(pl.col("outcome") != "failed")
        for method in run.identity["methods"]:
            mine = rows.filter(pl.col("method") == method)["outcome"]
            result = (int((mine == "right").sum()), mine.len())
            before = cells.setdefault((run.identity["model"] + labels, method), {})
            if before.setdefault(run.identity["benchmark"], result) != result:
                raise VgError(
                    f"'{run.path}' and an earlier run both have {method} on {run.identity['benchmark']}, with other "
                    "results.",
                    "Name one of them only.",
                )
    marks = list(dict.fromkeys(run.identity["benchmark"] for run in runs))
    known = _published()
    shown = [m for m in marks if any((model.split(",")[0], method, m) in known for model, method in cells)]
    out: list[list[Cell]] = []
    for (model, method), found in cells.items():
        line: list[Cell] = [model, method]
        for mark in marks:
            right, rows_ = found.get(mark, (0, 0))
            low, high = wilson(right, rows_)
            line.append(f"{_pc(right / rows_)} [{_pc(low)}, {_pc(high)}] of {rows_}" if rows_ else None)
            if mark in shown:
                line.append(known.get((model.split(",")[0], method, mark)))
        whole = len(found) == len(marks) and all(n for _, n in found.values())
        line.append(_pc(sum(r / n for r, n in found.values()) / len(marks)) if whole else None)
        line.append(_pc(sum(r for r, _ in found.values()) / sum(n for _, n in found.values())) if whole else None)
        out.append(line)
    heads = [name for mark in marks for name in ([mark, f"{mark}, published"] if mark in shown else [mark])]
    notes = [
        "Accuracy %, 95 % Wilson, rows; failed rows are left out. Plain mean: of benchmarks; weighted: of all rows."
    ]
    notes += [f"{run.title}: {note}" for run in runs for note in (*_judging(run, rule)[:1], *run.notes)]
    if shown:
        notes.append("Published: the paper's figures, whose rows, prompts and rule may differ; not measured here.")
    columns = ["model", "method", *heads, "plain mean", "weighted mean"]
    return Table("Accuracy of all runs", columns, out, notes)


def _published() -> dict[tuple[str, str, str], str]:
    """(model, method, benchmark) -> accuracy % in the paper's tables."""
    text = (resources.files("vgtool.scoring") / "published.csv").read_text("utf-8")
    return {(r["model"], r["method"], r["benchmark"]): r["accuracy"] for r in csv.DictReader(text.splitlines())}


def _points(mean: float, low: float, high: float, signed: bool = False) -> str:
    """A mean in points with its interval; alone where one image gives none."""
    return f"{_pc(mean, signed)} [{_pc(low, signed)}, {_pc(high, signed)}]" if np.isfinite(low) else _pc(mean, signed)


def _pc(share: float | np.floating[Any], signed: bool = False) -> str:
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
