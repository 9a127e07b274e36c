"""The three witnesses in a table: rank correlations against scipy, thirds by hand, what is missing counted."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from vgtool.scoring.inputs import Run
from vgtool.scoring.runs import scored
from vgtool.scoring.statistics import clustered_spearman
from vgtool.scoring.views import view
from vgtool.scoring.witnesses import witnesses


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_correlation_is_scipys_in_the_sample_and_in_every_draw(ties: bool) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=60), rng.normal(size=60)
    if ties:
        x, y = np.round(x), np.round(y)
    clusters = [f"i{at // 3}" for at in range(60)]
    rho, low, high = clustered_spearman(x, y, clusters, seed=5, draws=200)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    index = np.unique(clusters, return_inverse=True)[1]
    drawing = np.random.default_rng(5)
    drawn = []
    for _ in range(200):  # the rows of the drawn images, as often as they were drawn
        picked = drawing.integers(0, 20, 20)
        rows = np.concatenate([np.flatnonzero(index == image) for image in picked])
        drawn.append(stats.spearmanr(x[rows], y[rows]).statistic)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_a_constant_has_no_rank_correlation_and_one_image_no_interval() -> None:
    x = np.arange(12.0)
    assert np.isnan(clustered_spearman(np.ones(12), x, [str(at) for at in range(12)], draws=20)[0])
    rho, low, high = clustered_spearman(x, x, ["one"] * 12)
    assert rho == pytest.approx(1) and np.isnan(low) and np.isnan(high)


def probe(rows: list[dict[str, Any]], **identity: Any) -> Any:
    blank = dict.fromkeys(("group", "error", "warning", "layer_js", "head_ratio", "head_kl", "head_js", "unmeasured"))
    text = {"unmeasured": pl.String}
    frame = pl.DataFrame([blank | row for row in rows], infer_schema_length=None, schema_overrides=text)
    known = {"model": "m", "revision": "r", "benchmark": "b", "rows": len(rows), "rule": "strict", "reliance": None}
    return scored([Run(Path("run"), "probe", known | {"ask": None} | identity, frame)], None)[0]


def relied(count: int = 30) -> list[dict[str, Any]]:
    """Reliance grows with the sample's number, and so does attention ratio in layer 1; layer 0 is against it. The upper
    half is answered right."""
    return [
        {
            "sample_id": f"s{at:02}",
            "image_id": f"i{at // 2}",
            "question_type": "open",
            "question": "?",
            "domain": "medical",
            "layer_ratio": [float(count - at), 1.0 + at],
            "layer_kl": [2.0, 1.0],
            "answer": "liver" if at >= count // 2 else "heart",
            "reference": "liver",
            "choices": None,
            "reliance": at / 10,
            "reliance_random": 0.5,
            "sufficiency": -1.0,
            "reliance_curve": [float(-at), float(at)],
            "reliance_random_curve": [0.0, 0.0],
        }
        for at in range(count)
    ]


SETTINGS = {"window": 1, "starts": [0, 1], "draws": 1, "seed": 0}


def estimate(frame: pl.DataFrame, **where: Any) -> dict[str, Any]:
    for name, value in where.items():
        frame = frame.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    return frame.row(0, named=True)


def test_attention_is_ranked_against_reliance_by_layer_and_window() -> None:
    (part,) = witnesses(probe(relied(), reliance=SETTINGS))
    frame = part.frame
    assert estimate(frame, metric="spearman", against="reliance", layer=0, field=None)["value"] == pytest.approx(-1)
    assert estimate(frame, metric="spearman", against="reliance", layer=1, field=None)["value"] == pytest.approx(1)
    assert estimate(frame, metric="spearman", layer=0, field="layers")["value"] == pytest.approx(1), "both fall there"
    assert estimate(frame, metric="reliance", layer=None, against=None)["value"] == pytest.approx(1.45)
    assert estimate(frame, metric="reliance", against="reliance_random")["value"] == pytest.approx(0.95)
    assert estimate(frame, metric="reliance", field="layers", layer=1)["value"] == pytest.approx(14.5)
    assert any("Attention ratio predicts reliance here" in note and "layer 1" in note for note in part.notes)


def test_thirds_by_reliance_are_judged_by_the_runs_rule() -> None:
    (part,) = witnesses(probe(relied(), reliance=SETTINGS))
    thirds = part.frame.filter((pl.col("field") == "reliance third") & (pl.col("metric") == "accuracy"))
    assert dict(zip(thirds["level"], thirds["value"], strict=True)) == {"lowest": 0, "middle": 0.5, "highest": 1}
    gap = estimate(part.frame, metric="difference")
    assert (gap["value"], gap["against"], gap["rule"]) == (1, "lowest", "strict")


def test_noise_predicts_nothing_and_is_said_to() -> None:
    rng = np.random.default_rng(0)
    rows = [row | {"layer_ratio": [1.0, float(rng.random())]} for row in relied()]
    (part,) = witnesses(probe(rows, reliance=SETTINGS))
    assert any("Attention ratio does not predict reliance here" in note for note in part.notes)


def test_words_are_counted_with_every_miss() -> None:
    said = [("box", 0.8, True), ("box", 0.2, False), ("none", None, None), ("unreadable", None, None)] * 3
    rows = [
        {
            "sample_id": f"s{at}",
            "image_id": f"i{at}",
            "question_type": "open",
            "domain": "medical",
            "layer_ratio": [1.0, 2.0],
            "layer_kl": [2.0, 1.0],
            "boxes": [[0.0, 0.0, 5.0, 5.0]],
            "box_outcome": outcome,
            "box_iou": iou,
            "box_centre_inside": inside,
            "box_attention_ratio": [1.0, 3.0] if outcome == "box" else None,
        }
        for at, (outcome, iou, inside) in enumerate(said)
    ]
    (part,) = witnesses(probe(rows, ask={"box": {}}))
    found = {row["metric"]: row for row in part.frame.filter(pl.col("layer").is_null()).iter_rows(named=True)}
    assert (found["said_box"]["value"], found["said_none"]["value"], found["unreadable"]["value"]) == (0.5, 0.25, 0.25)
    assert (found["box_iou"]["value"], found["box_iou"]["n"]) == (pytest.approx(0.5), 6)
    assert found["box_iou_all"]["value"] == pytest.approx(0.25)
    assert (found["box_iou_50"]["value"], found["box_centre_inside"]["value"]) == (0.25, 0.25)
    assert found["box_attention_ratio"]["value"] == 2
    shown = view(part)
    assert any(line[0] == "IoU >= 0.5, %" and str(line[3]).startswith("25.0") for line in shown.rows)


def test_what_is_missing_is_counted_and_one_is_named() -> None:
    rows = relied()
    rows[4] |= {"reliance": None, "unmeasured": "no_answer: the model ended its answer before its first word"}
    rows[7] |= {"reliance": None, "unmeasured": "no_region: the sample has neither box nor mask"}
    rows[8] |= {"reliance": None, "unmeasured": "no_region: the sample has neither box nor mask"}
    (part,) = witnesses(probe(rows, reliance=SETTINGS))
    assert "1 samples without: no_answer ('s04')." in part.notes
    assert "2 samples without: no_region ('s07')." in part.notes
    assert estimate(part.frame, metric="reliance", layer=None, against=None)["n"] == 27


def test_a_probe_that_asked_for_nothing_more_has_no_such_table() -> None:
    assert not list(witnesses(probe(relied())))
