"""The frame of results: every number against an independent computation, every format against its readers, every table
against the frame it is a view of, and names that tell runs apart."""

import io
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from tests.made_runs import HEADS, METHODS, answered, looked, raw, refine_run
from vgtool.commands import app
from vgtool.errors import VgError
from vgtool.grounding.heads import HeadFile, foreign
from vgtool.grounding.heads import write as write_heads
from vgtool.scoring import render
from vgtool.scoring.export import exported
from vgtool.scoring.frame import SCHEMA, Estimates
from vgtool.scoring.names import told_apart
from vgtool.scoring.runs import read
from vgtool.scoring.score import Results, score
from vgtool.scoring.views import Number, view


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Answers and a probe of one model, and of another one."""
    root = tmp_path_factory.mktemp("runs")
    other = {"model": "n", "revision": "s"}
    return [
        *(answered(root / "a", 1), looked(root / "p", 2)),
        *(answered(root / "b", 3, **other), looked(root / "q", 4, 5, **other)),
    ]


@pytest.fixture(scope="module")
def results(runs: list[Path]) -> Results:
    return score(runs, by=["group"], against=[str(runs[0]), str(runs[1])], every=True)


def rows_of(results: Results, **wanted: Any) -> Iterator[dict[str, Any]]:
    for row in results.frame.iter_rows(named=True):
        if all(row[name] == value for name, value in wanted.items()):
            yield row


# ---- numbers -----------------------------------------------------------------------------------------------------


def outcome(rows: pd.DataFrame) -> pd.Series:
    return (rows["answer"] == "yes").astype(float)


@cache
def signs(count: int) -> np.ndarray:
    """Patterns of signs [100,000, count]."""
    return np.random.default_rng(5).choice([-1.0, 1.0], (100_000, count))


def flips(change: pd.DataFrame) -> float:
    """The sign-flip test over whole images by drawing patterns."""
    sums = change.groupby("image")["change"].sum().to_numpy()
    return float((np.abs(signs(len(sums)) @ sums) >= abs(sums.sum()) - 1e-9).mean())


def test_accuracies_counts_and_intervals_equal_pandas_and_statsmodels(runs: list[Path], results: Results) -> None:
    table = raw(runs[0])
    checked = 0
    for row in rows_of(results, table="accuracy", run="m, b", metric="accuracy"):
        mine = table[(table.method == row["method"]) & ((row["field"] is None) | (table.group == row["level"]))]
        good = mine[mine.error.isna()]
        low, high = proportion_confint(outcome(good).sum(), len(good), method="wilson")
        assert (row["n"], row["images"]) == (len(good), good.image_id.nunique())
        assert (row["value"], row["low"], row["high"]) == pytest.approx((outcome(good).mean(), low, high), abs=1e-9)
        checked += 1
    assert checked == len(METHODS) * 3  # whole, CT, MRI
    for row in rows_of(results, table="counts", run="m, b"):
        kind, group = row["level"].split(", ")
        some = table[(table.method == row["method"]) & (table.group.fillna("") == group)]
        some = some[some.question_type.fillna("") == kind]
        right = some.error.isna() & (some.answer == "yes")
        real = {"right": right.sum(), "failed": some.error.notna().sum(), "undecided": 0}
        real["wrong"] = len(some) - sum(real.values())
        assert (row["n"], row["value"]) == (len(some), real[row["metric"]])


def paired(before: pd.DataFrame, after: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Changes of the rows that both have, and exact McNemar."""
    both = before[before.error.isna()].merge(after[after.error.isna()], on="sample_id", suffixes=("", "_b"))
    was, now = both.answer == "yes", both.answer_b == "yes"
    table = [[(was & now).sum(), (was & ~now).sum()], [(~was & now).sum(), (~was & ~now).sum()]]
    frame = pd.DataFrame({"image": both.image_id, "change": now.astype(int) - was.astype(int)})
    return frame, float(mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize("table,against", [("accuracy", "baseline"), ("random-tokens", "random-keep")])
def test_gains_and_both_p_values_equal_independent_ones(
    table: str, against: str, runs: list[Path], results: Results
) -> None:
    data = raw(runs[0])
    found = list(rows_of(results, table=table, run="m, b", metric="gain", field=None))
    assert {row["against"] for row in found} == {against}
    worst = {}
    for row in found:
        change, exact = paired(data[data.method == against], data[data.method == row["method"]])
        assert (row["n"], row["images"]) == (len(change), change.image.nunique())
        assert (row["value"], row["p"]) == pytest.approx((change.change.mean(), exact))
        assert row["p_image"] == pytest.approx(flips(change), abs=0.006)
        assert row["low"] <= row["value"] <= row["high"]
        worst[row["method"]] = max(row["p"], row["p_image"])
        mine = rows_of(results, table=table, run="m, b", method=row["method"], field=None)
        twin = {other["metric"]: other["value"] for other in mine}
        assert (twin["fixed"], twin["broken"]) == ((change.change == 1).sum(), (change.change == -1).sum())
    if table == "accuracy":
        claims = ["vgrefine", "pai"]
        expected = dict(zip(claims, multipletests([worst[m] for m in claims], method="holm")[1], strict=True))
        assert {row["method"]: row["p_holm"] for row in found} == pytest.approx(
            {"random-keep": None, "oracle": None, **expected}, nan_ok=True
        )


def test_the_interval_of_a_gain_is_a_bootstrap_of_whole_images(runs: list[Path], results: Results) -> None:
    data = raw(runs[0])
    (row,) = rows_of(results, table="accuracy", run="m, b", method="oracle", metric="gain", field=None)
    change, _ = paired(data[data.method == "baseline"], data[data.method == "oracle"])
    each = [group.change.to_numpy() for _, group in change.groupby("image")]
    rng = np.random.default_rng(9)
    drawn = [np.concatenate([each[i] for i in rng.integers(0, len(each), len(each))]).mean() for _ in range(4000)]
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_grounding_by_layer_head_group_and_run_equals_pandas(runs: list[Path], results: Results) -> None:
    data = raw(runs[1])
    columns = {"attention_ratio": "ratio", "kl": "kl", "js": "js"}
    arrays = {m: np.array(data[f"layer_{c}"].map(list).tolist(), float) for m, c in columns.items()}
    best = int(np.nanmean(arrays["kl"], 0).argmin())
    seen = set()
    for row in rows_of(results, model="m", rule=None):
        if row["table"] not in ("grounding", "heads", "groups", "probes"):
            continue
        values = arrays[row["metric"]]
        if row["table"] == "grounding":
            column = np.nanmean(values, 1) if row["layer"] is None else values[:, row["layer"]]
        elif row["table"] == "heads":
            flat = np.array(data[f"head_{columns[row['metric']]}"].map(list).tolist(), float)
            column = flat[:, row["layer"] * HEADS + row["head"]]
        elif row["table"] == "groups":
            assert row["layer"] == best
            column = values[(data.group == row["level"]).to_numpy(), best]
        else:
            assert row["layer"] in (best, None) and row["level"] == "medical"
            column = np.nanmean(values, 1) if row["layer"] is None else values[:, best]
        seen.add(row["table"])
        assert row["n"] == np.isfinite(column).sum()
        assert row["value"] == pytest.approx(np.nanmean(column), rel=1e-6)
        assert row["low"] < row["value"] < row["high"]
    assert seen == {"grounding", "heads", "groups", "probes"}
    heads = [(row["layer"], row["head"]) for row in rows_of(results, table="heads", model="m", metric="kl")]
    means = np.array(data["head_kl"].map(list).tolist(), float).mean(0)
    assert heads == [(int(i) // HEADS, int(i) % HEADS) for i in np.argsort(means, kind="stable")]


def test_accuracy_by_where_the_model_looked_equals_pandas(runs: list[Path], results: Results) -> None:
    data, probe = raw(runs[0]), raw(runs[1])
    layer = int(np.nanmean(np.array(probe.layer_kl.map(list).tolist(), float), 0).argmin())
    ratio = probe.assign(ratio=[float(v[layer]) for v in probe.layer_ratio])[["sample_id", "ratio"]]
    cuts = np.quantile(ratio.ratio, [1 / 3, 2 / 3])
    table = data[data.error.isna()].merge(ratio, on="sample_id")
    table = table.assign(third=np.digitize(table.ratio, cuts, right=True))
    rows = list(rows_of(results, table="thirds", model="m"))
    assert len(rows) == len(METHODS) * 4
    for row in rows:
        mine = table[table.method == row["method"]]
        share = {name: outcome(mine[mine.third == at]) for at, name in enumerate(("lowest", "middle", "highest"))}
        gap = share["highest"].mean() - share["lowest"].mean()
        expected = share[row["level"]].mean() if row["against"] is None else gap
        assert row["value"] == pytest.approx(expected)
    assert {row["layer"] for row in rows} == {layer}


def test_two_models_are_compared_on_the_rows_both_have(runs: list[Path], results: Results) -> None:
    one, two = raw(runs[0]), raw(runs[2])
    found = list(rows_of(results, table="against", metric="gain"))
    assert [(row["model"], row["against"], row["method"]) for row in found] == [("n", "m, b", m) for m in METHODS]
    tested = []
    for row in found:
        change, exact = paired(one[one.method == row["method"]], two[two.method == row["method"]])
        assert (row["n"], row["value"], row["p"]) == pytest.approx((len(change), change.change.mean(), exact))
        assert row["p_image"] == pytest.approx(flips(change), abs=0.006)
        tested += [max(row["p"], row["p_image"])] if row["method"] in ("baseline", "vgrefine", "pai") else []
    looks = list(rows_of(results, table="against", method=None))
    holm = multipletests([*tested, *(max(row["p"], row["p_image"]) for row in looks)], method="holm")[1]
    adjusted = [row["p_holm"] for row in found if row["p_holm"] is not None] + [row["p_holm"] for row in looks]
    assert adjusted == pytest.approx(list(holm))


def test_where_two_models_look_is_compared_each_at_its_own_best_layer(runs: list[Path], results: Results) -> None:
    sides = []
    for path in (runs[1], runs[3]):
        data = raw(path).sort_values("sample_id")
        metrics = {n: np.array(data[f"layer_{n}"].map(list).tolist(), float) for n in ("ratio", "kl", "js")}
        sides.append((data, metrics, int(np.nanmean(metrics["kl"], 0).argmin())))
    (data, before, a), (_, after, b) = sides
    names = {"attention_ratio": "ratio", "kl": "kl", "js": "js"}
    looks = list(rows_of(results, table="against", method=None))
    assert len(looks) == 6
    for row in looks:
        name = names[row["metric"]]
        if row["layer"] is None:
            change = np.nanmean(after[name], 1) - np.nanmean(before[name], 1)
        else:
            assert row["layer"] == b
            change = after[name][:, b] - before[name][:, a]
        known = np.isfinite(change)
        assert row["n"] == known.sum() and row["value"] == pytest.approx(change[known].mean(), rel=1e-5)
        assert row["p"] == pytest.approx(stats.ttest_1samp(change[known], 0).pvalue, rel=1e-4)
        pairs = pd.DataFrame({"image": data.image_id.to_numpy()[known], "change": change[known]})
        assert row["p_image"] == pytest.approx(flips(pairs), abs=0.02)


def test_means_over_benchmarks_and_published_figures_are_in_the_frame(tmp_path: Path) -> None:
    huatuo = {"model": "huatuogpt-vision-7b"}
    one = refine_run(tmp_path / "a", {"baseline": ["yes", "no", "no"]}, benchmark="vqa-rad", **huatuo)
    two = refine_run(tmp_path / "b", {"baseline": ["yes"] * 6}, benchmark="slake", **huatuo)
    found = {(r["benchmark"], r["kind"], r["metric"]): r["value"] for r in rows_of(score([one, two]), table="runs")}
    assert found[None, "baseline", "mean accuracy"] == pytest.approx((1 / 3 + 1) / 2)
    assert found[None, "baseline", "weighted mean accuracy"] == pytest.approx(7 / 9)
    assert found["vqa-rad", "published", "accuracy"] == pytest.approx(0.674)


# ---- formats -----------------------------------------------------------------------------------------------------


def test_pandas_polars_and_duckdb_read_every_format_as_the_same_numbers(results: Results, tmp_path: Path) -> None:
    paths = {}
    for form in render.DATA:
        paths[form] = tmp_path / f"results.{form}"
        paths[form].write_bytes(exported(results.frame, form))
    numbers = [name for name, kind in SCHEMA.items() if kind.is_numeric()]
    readers = [
        pd.read_csv(paths["csv"]),
        pd.read_json(paths["json"], precise_float=True),
        pd.read_parquet(paths["parquet"]),
        pl.read_csv(paths["csv"], infer_schema_length=None).to_pandas(),
        pl.read_json(paths["json"], infer_schema_length=None).to_pandas(),
        pl.read_parquet(paths["parquet"]).to_pandas(),
        *(duckdb.sql(f"select * from '{path}'").df() for path in paths.values()),
    ]
    for read_back in readers:
        assert list(read_back.columns) == list(SCHEMA) and len(read_back) == results.frame.height
        for name in numbers:
            assert pd.api.types.is_numeric_dtype(read_back[name]), name
            expected = results.frame[name].cast(pl.Float64).to_numpy()
            np.testing.assert_allclose(read_back[name].astype(float).to_numpy(), expected, rtol=1e-15)
        assert read_back["method"].fillna("").tolist() == results.frame["method"].fill_null("").to_list()


def test_every_number_of_a_table_is_the_frames_rounded(results: Results) -> None:
    seen = 0
    for part in results.tables:
        values = np.array(part.frame["value"].drop_nulls().to_list() + part.frame["p"].drop_nulls().to_list())
        values = np.append(values, part.frame.select("p_image", "p_holm").unpivot()["value"].drop_nulls().to_numpy())
        for cell in (cell for row in view(part).rows for cell in row if isinstance(cell, Number)):
            assert np.isclose(values, cell.value, rtol=0, atol=0).any(), "a cell keeps the frame's own number"
            (shown,) = re.findall(r"^[+-]?[\d.]+(?:e[+-]?\d+)?", cell.text)
            scale = 1 if f"{cell.value:.3g}" == shown or abs(float(shown) - cell.value) < 6e-4 else 100
            assert float(shown) == pytest.approx(scale * cell.value, abs=0.0501 if scale == 100 else 6e-4, rel=6e-3)
            seen += 1
    assert seen > 200


def test_a_table_of_latex_fits_the_page_in_computer_modern(results: Results) -> None:
    """Widths by the font's own metrics (cmr10 at 9 pt), not by the estimate that chose the columns."""
    font = FontProperties(fname=str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"))

    @cache
    def points(text: str) -> float:
        plain = re.sub(r"\$|\\times|\^|[{}\\]", "", text)
        return float(TextPath((0, 0), plain, size=9, prop=font).get_extents().width) if plain.strip() else 0.0

    fitted = 0
    for part in results.tables:
        text = render.render([view(part)], "latex")
        lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
        width = sum(max(map(points, column)) for column in zip(*lines, strict=True)) + 12 * (len(lines[0]) - 1)
        assert width <= 397 or "inches wide" in text, part.title
        fitted += width <= 397
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert fitted >= len(results.tables) - 3


def test_columns_are_chosen_by_name(results: Results) -> None:
    tables = render.chosen([view(part) for part in results.tables], ["method", "gain", "accuracy"])
    assert list(tables[0].columns) == ["method", "gain [95 %, by image]", "accuracy %"]
    assert all("layer" not in table.columns for table in tables), "a table without any of them is left out"
    gains = render.chosen([view(part) for part in results.tables], ["gain"])
    assert [table.columns[0] for table in gains[:2]] == ["method", "group"], "what a row is about stays"
    assert not [table for table in tables if len(table.columns) == 1], "and is no table by itself"


# ---- the command -------------------------------------------------------------------------------------------------


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, words)])


def test_one_table_is_made_where_one_is_named_and_the_list_names_them_all(runs: list[Path], tmp_path: Path) -> None:
    done = command(*runs[:2], "--table", "thirds", "--table", "heads", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(io.StringIO(done.stdout))["table"]) == {"thirds", "heads"}
    listed = command("--table", "list")
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"accuracy", "against", "grounding", "counts"}
    done = command(runs[0], "--out", tmp_path / "a.parquet")
    assert done.exit_code == 0 and pl.read_parquet(tmp_path / "a.parquet").schema == pl.Schema(SCHEMA)
    done = command(runs[0], "--out", tmp_path / "a.tex")
    assert done.exit_code == 0 and r"\toprule" in (tmp_path / "a.tex").read_text()


@pytest.mark.parametrize(
    "name,pairs",
    [
        ("random-keep", 4),
        ("oracle", 4),
    ],
)
def test_a_method_is_compared_with_every_other_of_its_run(name: str, pairs: int, runs: list[Path]) -> None:
    found = [row for row in rows_of(score(runs[:1], tables=["against"], against=[name]), metric="gain")]
    assert [row["method"] for row in found] == [m for m in METHODS if m != name] and len(found) == pairs
    assert {row["against"] for row in found} == {name}


def test_one_method_of_one_run_is_compared_with_all_others(runs: list[Path]) -> None:
    answers = [runs[0], runs[2]]
    found = list(rows_of(score(answers, tables=["against"], against=["n::vgrefine"]), metric="gain"))
    assert len(found) == 2 * len(METHODS) - 1
    data, other = raw(runs[0]), raw(runs[2])
    (row,) = [row for row in found if row["model"] == "m" and row["method"] == "baseline"]
    change, exact = paired(other[other.method == "vgrefine"], data[data.method == "baseline"])
    assert row["against"] == "n, b::vgrefine"
    assert (row["value"], row["p"]) == pytest.approx((change.change.mean(), exact))


def test_files_of_predictions_are_compared_by_sample(tmp_path: Path) -> None:
    names = ("theirs", "ours")
    for name, right in zip(names, (8, 4), strict=True):
        rows = [
            {"sample_id": str(i), "question_type": "closed", "reference": "yes", "answer": "yes" if i < right else "no"}
            for i in range(10)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    paths = [tmp_path / f"{name}.jsonl" for name in names]
    (row,) = rows_of(score(paths, tables=["against"], against=["theirs"]), metric="gain")
    assert (row["model"], row["n"], row["value"], row["kind"]) == ("ours", 10, pytest.approx(-0.4), "claim")
    assert row["p"] == pytest.approx(2 * 0.5**4) and row["p_holm"] == pytest.approx(max(row["p"], row["p_image"]))
    text = paths[1].read_text().replace('"reference": "yes"', '"reference": "no"')
    paths[1].write_text(text)
    with pytest.raises(VgError, match=r"differ in the reference of sample '0': 'no' and 'yes'"):
        score(paths, against=["theirs"])


def test_rows_judged_by_other_rules_are_not_compared_unless_one_rule_is_given(tmp_path: Path) -> None:
    paths = [answered(tmp_path / "a", 1), answered(tmp_path / "b", 2, model="n", rule="paper")]
    with pytest.raises(VgError, match="by the rule paper"):
        score(paths, tables=["against"], against=["m"])
    assert list(rows_of(score(paths, tables=["against"], against=["m"], rule="strict"), metric="gain"))


def test_all_rows_failed_is_exit_3_with_the_bad_values_quoted_and_no_interval(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rows = [{"question_type": "riddle", "reference": "yes", "answer": "yes"} for _ in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    done = command(path)
    assert done.exit_code == 3
    assert "All 3 samples" in done.stderr and "'riddle'" in done.stderr
    assert "100.0" not in done.stdout


# ---- names -------------------------------------------------------------------------------------------------------


def named(paths: list[Path]) -> list[str]:
    return [one.names.name for one in read(paths, None, False)]


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    rows = [looked(tmp_path / row, 1, row=row) for row in ("last", "question")]
    assert named(rows) == ["m, b, row last", "m, b, row question"]
    rows.append(looked(tmp_path / "other", 1, row="last", benchmark="c"))
    assert named(rows) == ["m, b, row last", "m, b, row question", "m, c"]
    same = [looked(tmp_path / place / "run", 1) for place in ("x", "y")]
    assert named(same) == ["m, b, x/run", "m, b, y/run"]
    assert named([*same, answered(tmp_path / "r", 1)])[2] == "m, b", "a probe is not told from answers"


def test_two_checkpoints_of_one_name_are_two_models(tmp_path: Path) -> None:
    paths = []
    for place in ("tuned", "plain"):
        path = answered(tmp_path / place, 1, model="checkpoint-500", revision=f"r-{place}")
        record = json.loads((path / "run.json").read_text())
        record["recorded"] = {"checkpoint": f"/models/{place}/checkpoint-500"}
        (path / "run.json").write_text(json.dumps(record))
        paths.append(path)
    results = score(paths, tables=["runs", "accuracy"])
    assert set(results.frame["model"]) == {"tuned/checkpoint-500", "plain/checkpoint-500"}
    assert set(view(results.tables[-1]).columns) >= {"model", "b"}
    for path in paths:
        record = json.loads((path / "run.json").read_text()) | {"recorded": {}}
        (path / "run.json").write_text(json.dumps(record))
    assert named(paths) == ["checkpoint-500 (tuned), b", "checkpoint-500 (plain), b"]
    assert told_apart([one.run for one in read(paths[:1], None, False)])[0].name == "checkpoint-500, b"


def test_heads_of_another_model_of_equal_shape_are_told() -> None:
    file = HeadFile("m", "r" * 40, 2, 2, {}, [(0, 0, 1.0)], [0])
    assert foreign(file, "m", "r" * 40) == ()
    assert "'m'" in foreign(file, "n", "r" * 40)[0] and "'n'" in foreign(file, "n", "r" * 40)[0]
    assert "revision rrrrrrrrrrrr" in foreign(file, "m", "s" * 40)[0]


def test_a_run_with_another_models_heads_says_so_for_good(tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    spec = HeadFile("phantom-large", "r" * 40, 6, 6, {}, [(2, 0, 1.0), (1, 1, 2.0)], [2])
    write_heads(heads, spec)
    words = ["refine", "--model", "phantom-vlm", "--benchmark", "phantom", "--limit", 2, "--heads", heads, "--offline"]
    done = CliRunner().invoke(app, [*map(str, words), "--method", "vgrefine", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    said = "The heads are those of 'phantom-large', whose shape is equal; 'phantom-vlm' was not ranked."
    assert said in " ".join(done.stderr.split())
    assert said in json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert said in command(tmp_path / "run").stdout


def test_a_part_of_the_results_is_of_one_table(results: Results) -> None:
    assert all(isinstance(part, Estimates) and part.frame["table"].n_unique() == 1 for part in results.tables)
    assert results.frame.schema == pl.Schema(SCHEMA)
