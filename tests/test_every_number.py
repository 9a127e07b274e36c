"""No number of a frame of results is left out: every value, interval and p of every row is computed again with pandas,
scipy and statsmodels from the rows of the parts, whatever its table."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tests.made_runs import HEADS, IDENTITY, LAYERS, METHODS, SAMPLES, answered, looked, raw
from tests.reports import WITNESSES, witnessed
from vgtool.methods.refine import Refine
from vgtool.runs.store import Shard, Store
from vgtool.scoring.score import Results, score
from vgtool.scoring.witness_view import WITNESSES as WITNESS_NAMES

COLUMNS = {"attention_ratio": "ratio", "kl": "kl", "js": "js"}
DRAWS = 3000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Rows by (kind, model), of answers with `ok`."""
    root = tmp_path_factory.mktemp("runs")
    other = {"model": "n", "revision": "s"}
    asked = {"more": lambda i: witnessed(i) | {"question": "Is it?"}, **WITNESSES}
    paths = [answered(root / "a", 11), looked(root / "p", 12, **asked)]
    paths += [answered(root / "b", 13, **other), looked(root / "q", 14, **asked, **other)]
    frames = dict(zip(("answers m", "probe m", "answers n", "probe n"), map(raw, paths), strict=True))
    for name in ("answers m", "answers n"):
        frames[name]["ok"] = (frames[name].answer == "yes").astype(float)
    return {**frames, "paths": paths}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def results(runs: dict[str, Any]) -> Results:
    paths: list[Path] = runs["paths"]
    return score(paths, by=["group"], against=[str(paths[0]), str(paths[1])], every=True)


def drawn(values: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """A percentile bootstrap of a mean over whole images, how often each is drawn from a multinomial."""
    each = pd.Series(values).groupby(images).agg(["sum", "size"]).to_numpy(float)
    sums = np.random.default_rng(99).multinomial(len(each), np.full(len(each), 1 / len(each)), DRAWS) @ each
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


@cache
def signs(count: int) -> np.ndarray:
    """Patterns of signs [20,000, count]."""
    return np.random.default_rng(5).choice([-1.0, 1.0], (20_000, count))


def flipped(values: np.ndarray, images: np.ndarray) -> float:
    """The sign-flip test over whole images, by drawing patterns."""
    sums = pd.Series(values).groupby(images).sum().to_numpy()
    return float((np.abs(signs(len(sums)) @ sums) >= abs(sums.sum()) - 1e-9).mean())


def near(row: dict[str, Any], low: float, high: float) -> None:
    """Two bootstraps of thousands of draws agree within a sixth of the interval."""
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=(high - low) / 6 + 1e-9), row


def pairs(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    return before[before.error.isna()].merge(after[after.error.isna()], on="sample_id", suffixes=("", "_b"))


def check_answers(row: dict[str, Any], data: pd.DataFrame, other: pd.DataFrame) -> None:
    """A row that is about answers of one method: a share with Wilson's interval, a count, or a paired gain."""
    if row["field"] == "group":
        data, other = (one[one.group == row["level"]] for one in (data, other))
    mine = data[data.method == row["method"]]
    good = mine[mine.error.isna()]
    metric = row["metric"]
    if metric == "accuracy":
        low, high = proportion_confint(good.ok.sum(), len(good), method="wilson")
        assert (row["value"], row["low"], row["high"]) == pytest.approx((good.ok.mean(), low, high), abs=1e-9)
        assert (row["n"], row["images"]) == (len(good), good.image_id.nunique())
    elif metric in ("mean accuracy", "weighted mean accuracy"):
        assert (row["n"], row["value"]) == (len(good), pytest.approx(good.ok.mean())), "of the one benchmark there is"
    elif metric in ("right", "undecided", "failed"):
        assert row["value"] == {"right": good.ok.sum(), "undecided": 0, "failed": mine.error.notna().sum()}[metric]
    else:
        both = pairs(other, mine)
        was, now = both.ok == 1, both.ok_b == 1
        change, images = (now.astype(float) - was).to_numpy(), both.image_id.to_numpy()
        assert (row["n"], row["images"]) == (len(both), both.image_id.nunique())
        fixed, broken = int((change > 0).sum()), int((change < 0).sum())
        if metric == "gain":
            table = [[(was & now).sum(), broken], [fixed, (~was & ~now).sum()]]
            exact = float(mcnemar(table, exact=True).pvalue)
            assert (row["value"], row["p"]) == pytest.approx((change.mean(), exact))
            assert row["p_image"] == pytest.approx(flipped(change, images), abs=0.01)
            near(row, *drawn(change, images))
        elif metric == "smallest_gain":
            changed = max(fixed + broken, 6)
            chance = {k: 2 * stats.binom.sf(k - 1, changed, 0.5) for k in range(changed // 2 + 1, changed + 1)}
            least = min(k for k, p in chance.items() if p <= 0.05)
            assert row["value"] == pytest.approx((2 * least - changed) / len(both))
        else:
            assert row["value"] == {"fixed": fixed, "broken": broken}[metric]


def check_looks(row: dict[str, Any], data: pd.DataFrame, values: np.ndarray) -> None:
    """A row that is a mean of one number a sample."""
    known = np.isfinite(values)
    assert row["n"] == known.sum() and row["images"] == data.image_id[known].nunique()
    assert row["value"] == pytest.approx(values[known].mean(), rel=1e-6)
    near(row, *drawn(values[known], data.image_id.to_numpy()[known]))


def layers_of(data: pd.DataFrame, metric: str) -> np.ndarray:
    return np.array(data[f"layer_{COLUMNS[metric]}"].map(list).tolist(), float)


def best(data: pd.DataFrame) -> int:
    return int(np.nanmean(layers_of(data, "kl"), 0).argmin())


def looks(row: dict[str, Any], data: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The samples a row of a probe is about, and its number of each."""
    if row["table"] == "heads":
        flat = np.array(data[f"head_{COLUMNS[row['metric']]}"].map(list).tolist(), float)
        return data, flat[:, row["layer"] * HEADS + row["head"]]
    values = layers_of(data, row["metric"])
    column = np.nanmean(values, 1) if row["layer"] is None else values[:, row["layer"]]
    if row["table"] != "grounding":
        assert row["layer"] in (None, best(data))
    some = (data.group == row["level"]).to_numpy() if row["table"] == "groups" else np.ones(len(data), bool)
    return data[some], column[some]


def check_thirds(row: dict[str, Any], answers: pd.DataFrame, probe: pd.DataFrame) -> None:
    ratio = probe.assign(ratio=layers_of(probe, "attention_ratio")[:, best(probe)])[["sample_id", "ratio"]].dropna()
    cuts = np.quantile(ratio.ratio, [1 / 3, 2 / 3])
    good = answers[answers.error.isna() & (answers.method == row["method"])].merge(ratio, on="sample_id")
    third = np.digitize(good.ratio, cuts, right=True)
    if row["against"] is None:
        own = good[third == ("lowest", "middle", "highest").index(row["level"])]
        low, high = proportion_confint(own.ok.sum(), len(own), method="wilson")
        assert (row["value"], row["low"], row["high"]) == pytest.approx((own.ok.mean(), low, high), abs=1e-9)
        return
    check_gap(row, good, third)


def check_gap(row: dict[str, Any], good: pd.DataFrame, third: np.ndarray) -> None:
    """Accuracy in the highest third minus that in the lowest, images drawn for both sides at once."""
    outer = good[third != 1].assign(high=(third[third != 1] == 2).astype(float))
    assert (row["n"], row["images"]) == (len(outer), outer.image_id.nunique())
    top, bottom = outer.high, 1 - outer.high
    parts = pd.DataFrame({"a": outer.ok * top, "b": top, "c": outer.ok * bottom, "d": bottom})
    each = parts.groupby(outer.image_id).sum().to_numpy()
    sums = np.random.default_rng(7).multinomial(len(each), np.full(len(each), 1 / len(each)), DRAWS) @ each
    gaps = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
    assert row["value"] == pytest.approx(outer.ok[outer.high == 1].mean() - outer.ok[outer.high == 0].mean())
    near(row, *np.nanquantile(gaps, [0.025, 0.975]))


def check_counts(row: dict[str, Any], data: pd.DataFrame) -> None:
    kind, group = row["level"].split(", ")
    some = data[(data.method == row["method"]) & (data.group.fillna("") == group)]
    some = some[some.question_type.fillna("") == kind]
    failed, right = some.error.notna().sum(), (some.error.isna() & (some.ok == 1)).sum()
    told = {"right": right, "failed": failed, "undecided": 0, "wrong": len(some) - failed - right}
    assert (row["n"], row["value"]) == (len(some), told[row["metric"]])


def check_compared_looks(row: dict[str, Any], before: pd.DataFrame, after: pd.DataFrame) -> None:
    before, after = (one.sort_values("sample_id") for one in (before, after))
    old, new = (layers_of(one, row["metric"]) for one in (before, after))
    change = np.nanmean(new, 1) - np.nanmean(old, 1)
    if row["layer"] is not None:
        assert row["layer"] == best(after)
        change = new[:, best(after)] - old[:, best(before)]
    known = np.isfinite(change)
    images = before.image_id.to_numpy()[known]
    check_looks(row, before, change)
    assert row["p"] == pytest.approx(stats.ttest_1samp(change[known], 0).pvalue, rel=1e-4)
    assert row["p_image"] == pytest.approx(flipped(change[known], images), abs=0.02)


def check_ranks(row: dict[str, Any], data: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    """A row that is a rank correlation: scipy's, and scipy's again of the rows of whole images that were drawn."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y, images = x[known], y[known], data.image_id.to_numpy()[known]
    assert (row["n"], row["images"]) == (known.sum(), len(set(images)))
    assert row["value"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    of = [np.flatnonzero(images == image) for image in sorted(set(images))]
    rng, drawn = np.random.default_rng(17), []
    for _ in range(250):
        some = np.concatenate([of[at] for at in rng.integers(0, len(of), len(of))])
        drawn.append(np.corrcoef(stats.rankdata(x[some]), stats.rankdata(y[some]))[0, 1])
    near(row, *np.quantile(drawn, [0.025, 0.975]))


def check_witnesses(row: dict[str, Any], data: pd.DataFrame) -> None:
    """A row of the three witnesses of one probe."""
    ratio, metric, layer = layers_of(data, "attention_ratio"), row["metric"], row["layer"]
    reliance = data.reliance.to_numpy(float)
    if metric in ("reliance", "reliance_random", "sufficiency"):
        values = data[metric].to_numpy(float)
        if row["field"] == "layers":  # windows of one layer
            assert row["level"] == f"{layer} to {layer}"
            values = listed(data[f"{metric}_curve"])[:, layer]
        check_looks(row, data, values - data.reliance_random.to_numpy(float) if row["against"] else values)
    elif metric == "spearman" and row["against"] == "box_iou":
        assert layer == best(data[data.box_iou.notna()])
        check_ranks(row, data, ratio[:, layer], data.box_iou.to_numpy(float))
    elif metric == "spearman":
        looks = np.nanmean(ratio, 1) if layer is None else ratio[:, layer]
        check_ranks(row, data, looks, listed(data.reliance_curve)[:, layer] if row["field"] else reliance)
    elif metric in ("accuracy", "difference"):
        good = data[data.reliance.notna()].assign(ok=lambda some: (some.answer == some.reference).astype(float))
        third = np.digitize(good.reliance, np.quantile(good.reliance, [1 / 3, 2 / 3]), right=True)
        if metric == "difference":
            return check_gap(row, good, third)
        own = good[third == ("lowest", "middle", "highest").index(row["level"])]
        low, high = proportion_confint(own.ok.sum(), len(own), method="wilson")
        assert (row["n"], row["images"]) == (len(own), own.image_id.nunique())
        assert (row["value"], row["low"], row["high"]) == pytest.approx((own.ok.mean(), low, high), abs=1e-9)
    elif metric == "box_attention_ratio":
        values = listed(data.box_attention_ratio)
        check_looks(row, data, values.mean(1) if layer is None else values[:, layer])
    else:
        true = data.boxes.map(len).to_numpy() > 0
        missed = np.where(true, data.box_iou.fillna(0), np.nan)
        shares = {"said_box": data.box_outcome == "box", "said_none": data.box_outcome == "none"}
        shares |= {"unreadable": data.box_outcome == "unreadable", "box_iou": data.box_iou, "box_iou_all": missed}
        shares |= {"box_iou_50": np.where(true, missed >= 0.5, np.nan)}
        shares |= {"box_centre_inside": np.where(true, data.box_centre_inside.eq(True), np.nan)}
        check_looks(row, data, np.asarray(shares[metric], float))


def listed(column: pd.Series) -> np.ndarray:
    """[samples, LAYERS] of lists, NaN where a sample has none."""
    return np.array([[np.nan] * LAYERS if one is None else one for one in column], float)


def test_every_number_of_every_row_is_computed_again(runs: dict[str, Any], results: Results) -> None:
    seen: dict[str, int] = {}
    for row in results.frame.iter_rows(named=True):
        answers, probe = runs.get(f"answers {row['model']}"), runs.get(f"probe {row['model']}")
        table = row["table"]
        if table in ("accuracy", "runs"):
            check_answers(row, answers, answers[answers.method == "baseline"])
        elif table == "random-tokens":
            check_answers(row, answers, answers[answers.method == "random-keep"])
        elif table == "failures":
            failed = answers[answers.error.fillna("").str.startswith(f"{row['level']}:")]
            assert (row["n"], row["value"]) == (SAMPLES, failed.sample_id.nunique())
        elif table == "counts":
            check_counts(row, answers)
        elif table == "thirds":
            check_thirds(row, answers, probe)
        elif table == "witnesses":
            check_witnesses(row, probe)
        elif table == "against" and row["method"] is None:
            check_compared_looks(row, runs["probe m"], runs["probe n"])
        elif table == "against":
            old = runs["answers m"]
            check_answers(row, answers, old[old.method == row["method"]])
        else:
            check_looks(row, *looks(row, probe))
        seen[table] = seen.get(table, 0) + 1
    assert sum(seen.values()) == results.frame.height
    assert seen.keys() == {"accuracy", "random-tokens", "counts", "grounding", "heads", "groups", "probes", "thirds",
                           "runs", "against", "failures", "witnesses"}  # fmt: skip
    witnesses = results.frame.filter(pl.col("table") == "witnesses")
    assert set(witnesses["metric"]) == set(WITNESS_NAMES), "every kind of number is among them"
    assert seen["accuracy"] == 2 * 3 * (len(METHODS) * 4 + (len(METHODS) - 1) * 4), "both models, whole and two groups"


def test_every_p_of_holm_is_statsmodels_over_the_claims_of_its_table(results: Results) -> None:
    frame = results.frame.to_pandas()
    frame = frame[frame.p.notna()]
    for (table, _), some in frame.groupby(["table", frame.model.where(frame.table == "accuracy", "")]):
        for _, part in some.groupby(some.field.fillna("")):
            tested = part[part.kind.isin(["claim"]) | ((table == "against") & part.method.isna())]
            if table == "random-tokens":
                assert part.p_holm.isna().all()
                continue
            expected = multipletests(np.maximum(tested.p, tested.p_image), method="holm")[1]
            assert tested.p_holm.to_numpy() == pytest.approx(expected)
            assert part.p_holm.notna().sum() == len(tested), "and no other row has one"


def test_graded_metrics_of_one_word_answers_are_their_share_and_its_bootstrap(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"sample_id": f"s{at}", "image_id": f"i{at // 2}", "question_type": "open", "question": "Which organ?",
         "reference": "liver", "method": method, "answer": "liver" if rng.random() < share else "spleen"}
        for method, share in (("baseline", 0.4), ("pai", 0.7)) for at in range(40)
    ]  # fmt: skip
    store = Store(tmp_path / "open")
    store.open("refine", IDENTITY | {"methods": ["baseline", "pai"], "rows": 40}, [])
    store.write(Shard(), 0, rows, Refine.schema)
    table = pd.DataFrame(rows)
    found = list(score([tmp_path / "open"], tables=["open"]).frame.iter_rows(named=True))
    assert {row["method"] for row in found} == {"baseline", "pai"} and len(found) >= 10
    for row in found:
        mine = table[table.method == row["method"]]
        right = (mine.answer == mine.reference).to_numpy().astype(float)
        assert (row["n"], row["images"]) == (40, 20) and row["value"] == pytest.approx(right.mean())
        near(row, *drawn(right, mine.image_id.to_numpy()))
