"""Any two methods, runs or models on the same rows: VGRefine beside random tokens, and what --against asks for.

    --against METHOD        every other method of each run that has it
    --against RUN|MODEL     the same method of every other run on the same rows; where they look, for probe runs
    --against RUN::METHOD   every method of every run on the same rows
Rows are the same when their sample ids are, and question, reference and image do not contradict it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from vgtool.errors import VgError, did_you_mean
from vgtool.scoring import paired
from vgtool.scoring.frame import Estimates, Row, framed
from vgtool.scoring.grounding import NAMES, best_layer, measured, over_layers, stacked
from vgtool.scoring.runs import METRICS, Scored

OF = "::"
"""Between a run and its method."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a run, and of answers a method."""

    one: Scored
    method: str | None = None


def random_tokens(one: Scored, seed: int = 0) -> list[Estimates]:
    """VGRefine beside a random choice of as many tokens at the same settings, paired: only what is left of a gain there
    is owed to where it looked. None when the run has no such pair."""
    out: list[Row] = []
    for method in one.methods:
        name, colon, settings = method.partition(":")
        control = f"random-keep{colon}{settings}"
        if name == "vgrefine" and control in one.methods:
            out += _answers(Side(one, method), Side(one, control), "random-tokens", seed)
    notes = (f"Difference on the same rows. {paired.PAIRED_NOTE}", *one.judging(), *one.run.notes)
    return [Estimates(f"Against random tokens, {one.title}", framed(out), notes)] if out else []


def against(
    names: Sequence[str], answers: Sequence[Scored], probes: Sequence[Scored], any_rule: bool, seed: int = 0
) -> list[Estimates]:
    """Every comparison that `names` ask for, in two tables: answers, and where models look. Holm corrects over both.

    VgError for a name that no method, run or model has, and for runs whose rows or rules differ (`any_rule`: one rule
    was given for all).
    """
    told: list[Row] = []
    looked: list[Row] = []
    layers: list[str] = []
    for name in names:
        pairs = list(dict.fromkeys(_pairs(name, answers, probes)))
        if not pairs:
            raise VgError(
                f"--against '{name}' leaves nothing to compare.", "Name another run of the same benchmark beside it."
            )
        for mine, reference in pairs:
            if mine.method is None:
                looked += _looks(mine, reference, seed)
                layers.append(_layers(mine, reference))
            else:
                _same_rule(mine, reference, any_rule)
                told += _answers(mine, reference, "against", seed)
    rows = paired.corrected([*told, *looked], ("claim", "look"))
    told, looked = rows[: len(told)], [row | {"kind": None} for row in rows[len(told) :]]
    title, shown = ", ".join(names), [*answers, *probes]
    notes = [f"{one.names.name}: {note}" for one in shown for note in one.run.notes]
    holm = "Holm corrects the larger p over all that was asked for; controls and the oracle are no claims and stay out."
    found = []
    if told:
        said = [f"Difference on the same rows. {paired.PAIRED_NOTE} {holm}", *_judging(answers)]
        found.append(Estimates(f"Answers against {title}", framed(told), (*said, *notes)))
    if looked:
        best = "; ".join(layers)
        said = [f"Difference on the same samples, each run at its own best layer ({best}). {LOOK_NOTE} {holm}"]
        found.append(Estimates(f"Where models look, against {title}", framed(looked), (*said, *notes)))
    return found


LOOK_NOTE = (
    "Attention ratio: higher is better; KL and JS: lower. Interval: bootstrap over images. p paired t: samples "
    f"independent; p by image: {paired.FLIPS:,} random signs of whole images' "
    "differences, or all of them where there are fewer."
)


def _judging(answers: Iterable[Scored]) -> list[str]:
    return list(dict.fromkeys(line for one in answers for line in one.judging()))


# ---- what is compared --------------------------------------------------------------------------------------------


def _pairs(name: str, answers: Sequence[Scored], probes: Sequence[Scored]) -> Iterator[tuple[Side, Side]]:
    """(one side, the reference) of every comparison a name asks for."""
    runs = [*answers, *probes]
    if not _called(name, runs) and any(name in one.methods for one in answers):
        for one in answers:
            if name in one.methods:
                yield from ((Side(one, method), Side(one, name)) for method in one.methods if method != name)
        return
    whole, of, method = name.partition(OF)
    references = _called(whole, runs)
    if not references or (of and not any(method in one.methods for one in references)):
        known = [one.names.name for one in runs] + [one.names.model for one in runs]
        known += [method for one in answers for method in one.methods]
        raise VgError(f"--against '{name}' is no method, run or model here.", did_you_mean(name, dict.fromkeys(known)))
    for reference, one in product(references, runs):
        if one.run.kind != reference.run.kind or not _comparable(one, reference):
            continue
        if of and method in reference.methods:
            sides = [Side(one, m) for m in one.methods if (one, m) != (reference, method)]
            yield from ((side, Side(reference, method)) for side in sides)
        elif not of and one not in references:
            if one.run.kind == "probe":
                yield Side(one), Side(reference)
            else:
                yield from _alike(one, reference)


def _called(name: str, runs: Sequence[Scored]) -> list[Scored]:
    """The runs of this path, name or folder, else those of a model of this name."""
    ways = (
        lambda one: str(one.run.path).rstrip("/") == name.rstrip("/"),
        lambda one: one.names.name == name,
        lambda one: name in (one.run.path.name, one.run.path.stem),
        lambda one: one.names.model == name,
        lambda one: one.run.identity["model"] == name,
    )
    return next((found for way in ways if (found := [one for one in runs if way(one)])), [])


def _comparable(one: Scored, reference: Scored) -> bool:
    """Runs of one benchmark; a file of predictions may be of any."""
    same = one.run.identity["benchmark"] == reference.run.identity["benchmark"]
    return same or one.run.path.is_file() or reference.run.path.is_file()


def _alike(one: Scored, reference: Scored) -> list[tuple[Side, Side]]:
    """Each method beside the same of the other run; where they share none, beside its only one or its baseline."""
    both = [m for m in one.methods if m in reference.methods]
    if both:
        return [(Side(one, m), Side(reference, m)) for m in both]
    theirs = reference.methods if len(reference.methods) == 1 else [m for m in reference.methods if m == "baseline"]
    if not theirs:
        raise VgError(
            f"'{one.names.name}' and '{reference.names.name}' share no method.",
            f"Name one: --against '{reference.names.name}{OF}{reference.methods[0]}'.",
        )
    return [(Side(one, m), Side(reference, theirs[0])) for m in one.methods]


def _label(side: Side, other: Side) -> str:
    """What the other side is held against, as the column `against` says it."""
    if side.one is other.one:
        return str(other.method)
    return other.one.names.name if side.method == other.method else f"{other.one.names.name}{OF}{other.method}"


# ---- answers -----------------------------------------------------------------------------------------------------


def _same_rule(mine: Side, reference: Side, any_rule: bool) -> None:
    if mine.one.rule != reference.one.rule and not any_rule:
        raise VgError(
            f"'{mine.one.run.path}' is judged by the rule {mine.one.rule}, '{reference.one.run.path}' by "
            f"{reference.one.rule}.",
            "Give one for both: --rule strict.",
        )


def _answers(mine: Side, reference: Side, table: str, seed: int) -> list[Row]:
    """The difference in accuracy of two methods on the rows that both answered."""
    after, before = (
        side.one.rows.filter((pl.col("method") == side.method) & (pl.col("outcome") != "failed"))
        for side in (mine, reference)
    )
    pairs = before.join(after, on="sample_id", suffix="_b", maintain_order="left")
    if not pairs.height:
        raise VgError(
            f"'{mine.one.run.path}' ({mine.method}) and '{reference.one.run.path}' ({reference.method}) share no "
            "answered sample.",
            "Give both files the sample_id of the same rows.",
        )
    _not_contradicted(pairs, mine, reference, ("reference", "question"))
    kind = mine.one.role(str(mine.method))
    if kind == "baseline" and mine.one is not reference.one:
        kind = "claim"  # that one model answers better than another
    own = mine.one.columns(table) | {"method": mine.method, "kind": kind}
    return [own | row for row in paired.answers(pairs, _label(mine, reference), seed)]


def _not_contradicted(pairs: pl.DataFrame, mine: Side, reference: Side, columns: Sequence[str]) -> None:
    """VgError when rows of one sample id are not of one sample."""
    if mine.one is reference.one:
        return
    for name in columns:
        before, after = (pl.col(c).fill_null("").str.strip_chars() for c in (name, f"{name}_b"))
        other = pairs.filter((before != "") & (after != "") & (before.str.to_lowercase() != after.str.to_lowercase()))
        if other.height:
            row = other.row(0, named=True)
            raise VgError(
                f"'{mine.one.run.path}' and '{reference.one.run.path}' differ in the {name} of sample "
                f"'{row['sample_id']}': '{row[f'{name}_b']}' and '{row[name]}'.",
                "Compare runs of the same rows.",
            )


# ---- where models look -------------------------------------------------------------------------------------------


def _looks(mine: Side, reference: Side, seed: int) -> list[Row]:
    """Differences in attention ratio, KL and JS of two probe runs, each at its best layer, and over all layers."""
    keys = ["sample_id", "image_id"]
    sides = [_by_sample(side, suffix) for side, suffix in ((reference, ""), (mine, "_b"))]
    pairs = sides[0].join(sides[1], on="sample_id", suffix="_b", maintain_order="left")
    if not pairs.height:
        raise VgError(
            f"'{mine.one.run.path}' and '{reference.one.run.path}' share no measured sample.",
            "Compare runs of the same rows.",
        )
    _not_contradicted(pairs, mine, reference, keys[1:])
    out: list[Row] = []
    for name, over in product(NAMES, ("best", "mean")):
        before, after = (pairs[f"{name} {over}{suffix}"].to_numpy() for suffix in ("", "_b"))
        change = after - before
        known = np.isfinite(change)
        if not known.any():
            continue
        images = pairs.filter(known)["image_id"].to_list()
        layer = best_layer(measured(mine.one)) if over == "best" else None
        own = mine.one.columns("against") | {"against": _label(mine, reference), "layer": layer, "kind": "look"}
        out.append(own | {"metric": name} | paired.values(change[known], images, seed))
    return out


def _by_sample(side: Side, suffix: str) -> pl.DataFrame:
    """sample_id, image_id and each metric at the best layer and over all layers, a row a sample."""
    good = measured(side.one)
    layer = best_layer(good)
    columns = {}
    for metric, name in zip(METRICS, NAMES, strict=True):
        values = stacked(good, metric)
        columns[f"{name} best{suffix}"] = values[:, layer]
        columns[f"{name} mean{suffix}"] = over_layers(values)
    return good.select("sample_id", "image_id").with_columns(pl.Series(name, v) for name, v in columns.items())


def _layers(mine: Side, reference: Side) -> str:
    return " beside ".join(f"{s.one.names.name} layer {best_layer(measured(s.one))}" for s in (mine, reference))
