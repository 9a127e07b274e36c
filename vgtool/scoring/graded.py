"""Graded metrics of open answers: means over rows with intervals over images."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vgtool.scoring import open_ended, thinking
from vgtool.scoring.frame import Estimates, Row, framed, span
from vgtool.scoring.runs import Scored
from vgtool.scoring.statistics import clustered_means


def open_answers(one: Scored, seed: int, bertscore: tuple[str, int | None] | None = None) -> list[Estimates]:
    """Each metric of `open_ended` and, when asked for, BERTScore; none when there are no open answers."""
    rows = one.rows.filter((pl.col("question_type") == "open") & pl.col("error").is_null())
    rows = rows.filter(pl.col("reference").fill_null("") != "")
    if not rows.height:
        return []
    names, notes = list(open_ended.METRICS), ["Mean over rows, 0 to 100, with 95 % bootstrap over images."]
    answers, references = (rows[name].fill_null("").to_list() for name in ("answer", "reference"))
    if form := thinking.of(one.run.identity):
        answers = [thinking.final(answer, **form) or "" for answer in answers]
    values = np.array(
        [[m(a, r) for m in open_ended.METRICS.values()] for a, r in zip(answers, references, strict=True)]
    )
    if bertscore is not None:
        scores, note = open_ended.bertscore(answers, references, *bertscore)
        values, names = np.column_stack([values, scores]), [*names, "BERTScore F1"]
        notes.append(note)
    out = [row for method in one.methods for row in _of(one, method, rows, values, names, seed)]
    return [Estimates(f"Open answers, {one.title}", framed(out), (*notes, *one.run.notes))]


def _of(
    one: Scored, method: str, rows: pl.DataFrame, values: np.ndarray, names: Sequence[str], seed: int
) -> list[Row]:
    mine = (rows["method"] == method).to_numpy()
    if not mine.any():
        return []
    images = rows.filter(mine)["image_id"].to_list()
    own = one.columns("open") | {"method": method, "kind": one.role(method)}
    own |= {"n": int(mine.sum()), "images": len(set(images))}
    spans = clustered_means(values[mine], images, seed=seed)
    return [own | {"metric": name} | span(each) for name, each in zip(names, spans, strict=True)]
