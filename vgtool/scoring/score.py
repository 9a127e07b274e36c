"""Every table of run folders and prediction files: what `vgtool score` prints and what a report shows."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from vgtool.errors import VgError, did_you_mean
from vgtool.scoring import compare, grounding
from vgtool.scoring.accuracy import accuracy, counts, failures, reasons
from vgtool.scoring.answers import check_rule
from vgtool.scoring.frame import Estimates, check_tables, joined
from vgtool.scoring.graded import open_answers
from vgtool.scoring.runs import FIELDS, Scored, read
from vgtool.scoring.several import together
from vgtool.scoring.tables import TABLES
from vgtool.scoring.thirds import accuracy_by_attention, same_rows
from vgtool.scoring.witnesses import witnesses

PRINTED = frozenset(TABLES) - {"counts", "failures"}
"""Tables that are made where none is named; why samples failed stands in the notes of others."""


@dataclass(frozen=True)
class Results:
    """Tables of runs, and the runs they are of."""

    tables: Sequence[Estimates]
    runs: Sequence[Scored]

    @property
    def frame(self) -> pl.DataFrame:
        """All estimates, a row each, in the columns of `frame.SCHEMA`."""
        return joined(self.tables)

    @property
    def notes(self) -> list[str]:
        """What a reader of any number of a run must know."""
        return [f"{one.names.name}: {note}" for one in self.runs for note in one.run.notes] + self.unmeasured

    @property
    def unmeasured(self) -> list[str]:
        """A sentence for each probe run beside others that has nothing to show."""
        bare = [one for one in self.runs if one.run.kind == "probe" and not one.measured.height]
        return [f"'{one.run.path}' has no grounding metric: {grounding.samples_note(one)}" for one in bare]

    @property
    def failed(self) -> list[str]:
        """A sentence for each run of answers none of whose samples could be scored, bad values quoted."""
        answers = [one for one in self.runs if one.run.kind == "refine" and (one.rows["outcome"] == "failed").all()]
        return [
            f"All {one.rows['sample_id'].n_unique()} samples of '{one.run.path}' failed, none is scored. "
            f"{' '.join(failures(one))}".strip()
            for one in answers
            if one.rows.height
        ]


def score(
    inputs: Sequence[Path],
    *,
    rule: str | None = None,
    by: Sequence[str] = (),
    partial: bool = False,
    seed: int = 0,
    allow_mixed: bool = False,
    bertscore: tuple[str, int | None] | None = None,
    tables: Sequence[str] = (),
    against: Sequence[str] = (),
    every: bool = False,
) -> Results:
    """Tables of run folders and prediction files, in the order given; joined ones follow. `tables`: only these of
    TABLES; without them all that are printed, or `every` one. VgError for what cannot be read, compared, or is not
    there."""
    if rule is not None:
        check_rule(rule)
    for field in by:
        if field not in FIELDS:
            raise VgError(f"No field '{field}' to split by.", did_you_mean(field, FIELDS))
    wanted = check_tables(tables) or (frozenset(TABLES) if every else PRINTED)
    if "against" in tables and not against:
        raise VgError("--table against needs something to compare with.", "Give --against METHOD, RUN or MODEL.")
    runs = read(inputs, rule, partial)
    for field in by:
        if all(one.rows[field].drop_nulls().is_empty() for one in runs):
            raise VgError(f"--by {field}: no row has a {field.replace('_', ' ')}.", "Leave it out.")
    made = list(estimates(runs, by, seed, wanted, allow_mixed or bool(against), bertscore, rule))
    if against:
        answers, probes = _split(runs)
        made += compare.against(against, answers, probes, rule is not None, seed)
    if lacking := sorted(set(tables) - {part.table for part in made}):
        raise VgError(f"These runs give no table '{lacking[0]}' ({TABLES[lacking[0]]}).", "Leave it out.")
    return Results(made, runs)


def _split(runs: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    return [one for one in runs if one.run.kind == "refine"], [one for one in runs if one.run.kind == "probe"]


def estimates(
    runs: Sequence[Scored],
    by: Sequence[str],
    seed: int,
    wanted: Collection[str] = PRINTED,
    allow_mixed: bool = False,
    bertscore: tuple[str, int | None] | None = None,
    rule: str | None = None,
) -> Iterator[Estimates]:
    """Every wanted table that these runs allow."""
    answers, probes = _split(runs)
    if answers or any(one.measured.height for one in probes):
        probes = [one for one in probes if one.measured.height]  # of the others Results.unmeasured tells
    for one in answers:
        yield from _of_answers(one, by, seed, wanted, bertscore)
    for one in probes:
        yield from _of_probe(one, by, seed, wanted)
    if "witnesses" in wanted:
        for one in probes:
            yield from witnesses(one, rule, seed)
    if "failures" in wanted:
        yield from filter(None, map(reasons, runs))
    if len(probes) > 1 and "probes" in wanted:
        yield grounding.summary(probes, seed)
    if "thirds" in wanted:
        for probe in probes:
            yield from (accuracy_by_attention(probe, one, seed) for one in answers if same_rows(one, probe))
    if len(answers) > 1 and "runs" in wanted:
        yield together(answers, allow_mixed)


def _of_answers(
    one: Scored, by: Sequence[str], seed: int, wanted: Collection[str], bertscore: tuple[str, int | None] | None
) -> Iterator[Estimates]:
    if "accuracy" in wanted:
        fields = [field for field in by if not one.rows[field].drop_nulls().is_empty()]
        yield from (accuracy(one, field, seed) for field in (None, *fields))
    if "random-tokens" in wanted:
        yield from compare.random_tokens(one, seed)
    if "open" in wanted:
        yield from open_answers(one, seed, bertscore)
    if "counts" in wanted:
        yield counts(one)


def _of_probe(one: Scored, by: Sequence[str], seed: int, wanted: Collection[str]) -> Iterator[Estimates]:
    if "grounding" in wanted:
        yield grounding.layers(one, seed)
    if "heads" in wanted:
        yield grounding.heads(one, seed)
    if "groups" in wanted:
        yield from (grounding.groups(one, field, seed) for field in by)
