"""Rules, metrics, statistics and tables against scipy, statsmodels, nltk and cases worked by hand."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from rich.console import Console
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from tests.made_runs import accuracy, cells, one, probe_run, refine_run
from vgtool.errors import VgError
from vgtool.grounding.heads import sensitive_layer
from vgtool.methods.refine import Refine
from vgtool.runs.store import Shard, Store
from vgtool.scoring import accuracy as accuracies
from vgtool.scoring.compare import random_tokens
from vgtool.scoring.export import exported
from vgtool.scoring.frame import framed
from vgtool.scoring.inputs import ANSWERS, read_run
from vgtool.scoring.ranking import rank_run
from vgtool.scoring.render import SHOWN, for_terminal, render
from vgtool.scoring.runs import read
from vgtool.scoring.score import score
from vgtool.scoring.several import together
from vgtool.scoring.thirds import accuracy_by_attention
from vgtool.scoring.views import Table, view


@pytest.mark.parametrize("form", SHOWN)
def test_every_format_carries_every_cell(form: str) -> None:
    text = render([Table("T", ["a", "b"], [["x", 1], [None, 2.5]], ["note"])], form)
    for cell in ("x", "1", "2.5"):
        assert cell in text


@pytest.mark.parametrize("width", [40, 80, 300])
def test_a_terminal_of_any_width_shows_every_cell(width: int) -> None:
    table = Table("Accuracy", [f"column {i}" for i in range(9)], [[f"-{i}.5 [+0.1, +0.2]" for i in range(9)]])
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(
        for_terminal(table, width), soft_wrap=True
    )
    assert all(f"-{i}.5 [+0.1, +0.2]" in out.getvalue() for i in range(9))
    assert ("│" in out.getvalue()) == (width == 300)


def test_hostile_cells_are_text_in_every_format() -> None:
    hostile = "=1+1|![x](y)<b>\\input{x}"
    table = Table("T", ["a"], [[hostile], ["-3.5"], ["+HYPERLINK(1)"]])
    frame = framed({"method": row[0]} for row in table.rows)
    csv = exported(frame, "csv").decode().splitlines()[1:]
    assert [line.split(",")[8] for line in csv] == ["'" + hostile, "-3.5", "'+HYPERLINK(1)"]
    assert "\\!\\[x\\](y)\\<b\\>" in render([table], "markdown") and "\\|" in render([table], "markdown")
    assert r"\textbackslash{}input\{x\}" in render([table], "latex")
    assert json.loads(exported(frame, "json"))[0]["method"] == hostile


# ---- runs --------------------------------------------------------------------------------------------------------


def test_accuracy_pairs_methods_on_the_same_rows_and_leaves_failed_rows_out(tmp_path: Path) -> None:
    answers = {"baseline": ["yes", "no", "no", "failed", "maybe"], "vgrefine": ["yes", "yes", "failed", "yes", "no"]}
    table = accuracy(refine_run(tmp_path / "r", answers))
    assert cells(table, "rows") == [4, 4] and cells(table, "right") == [1, 3]
    assert cells(table, "undecided") == [1, 0] and cells(table, "failed") == [1, 1]
    assert cells(table, "accuracy %") == ["25.0", "75.0"]
    assert cells(table, "fixed") == [None, 1] and cells(table, "broken") == [None, 0]
    assert cells(table, "gain [95 %, by image]")[1].startswith("+33.3 ")  # s0, s1, s4


def changed(fixed_images: int, together: int) -> dict[str, list[str]]:
    """Twelve images of two rows: in some both rows are fixed (`together`), in others one."""
    base, better = ["no"] * 24, ["no"] * 24
    for image in range(fixed_images):
        better[2 * image] = "yes"
        better[2 * image + 1] = "yes" if image < together else "no"
    return {"baseline": base, "vgrefine": better, "pai": base, "oracle": better, "random-keep": base}


def test_holm_corrects_the_larger_p_of_claims_only(tmp_path: Path) -> None:
    table = accuracy(refine_run(tmp_path / "r", changed(5, 5)))
    exact = reference_mcnemar([[0, 0], [10, 0]], exact=True).pvalue  # ten rows, but five images: exact is too small
    by_image = 2 / 2**5  # all five images gain: two of the 32 sign patterns go as far
    assert by_image > exact
    claims = multipletests([by_image, 1.0], method="holm")[1]
    assert cells(table, "p Holm") == [None, f"{claims[0]:.3g}", f"{claims[1]:.3g}", None, None]
    assert cells(table, "pairs") == [None, 24, 24, 24, 24]
    few = accuracy(refine_run(tmp_path / "few", changed(4, 0)))
    assert cells(few, "p by image")[1] == cells(few, "p McNemar")[1] == "0.125", "four rows of four images"
    assert cells(few, "p Holm")[1] == "0.25"


def test_a_gain_is_held_against_random_tokens_of_the_same_settings(tmp_path: Path) -> None:
    answers = changed(6, 0) | {"vgrefine:percentile=80": ["yes"] * 24, "random-keep:percentile=80": ["no"] * 24}
    (table,) = map(view, random_tokens(one(refine_run(tmp_path / "r", answers))))
    assert cells(table, "methods") == [
        "vgrefine - random-keep",
        "vgrefine:percentile=80 - random-keep:percentile=80",
    ]
    assert cells(table, "fixed") == [6, 24] and cells(table, "broken") == [0, 0]
    assert float(cells(table, "p McNemar")[0]) == pytest.approx(2 * 0.5**6, rel=1e-2)
    alone = {name: given for name, given in answers.items() if name != "random-keep"}
    (table,) = map(view, random_tokens(one(refine_run(tmp_path / "alone", alone))))
    assert len(table.rows) == 1


def test_the_gains_interval_draws_images_not_rows(tmp_path: Path) -> None:
    def width(together: int, images: int) -> float:
        run = refine_run(tmp_path / f"r{images}{together}", changed(images, together))
        low, high = cells(accuracy(run), "gain [95 %, by image]")[1].split("[")[1].rstrip("]").split(", ")
        return float(high) - float(low)

    assert width(4, 4) > 1.2 * width(0, 8), "eight fixed rows in four images say less than in eight"


def test_one_image_has_no_interval_and_why_rows_failed_is_told(tmp_path: Path) -> None:
    answers = {"baseline": ["no", "yes", "failed"], "vgrefine": ["yes", "yes", "failed"]}
    table = accuracy(refine_run(tmp_path / "r", answers))
    assert cells(table, "gain [95 %, by image]")[1] == "+50.0"
    assert "Failed samples: 1 image_missing." in table.notes


def test_a_layer_known_on_half_of_the_samples_is_neither_best_nor_most_sensitive(tmp_path: Path) -> None:
    rare = np.array([[0.1, 5.0, 4.0], [np.nan, 3.0, 4.0]] * 5)
    assert sensitive_layer(rare) == 1, "mean 4.0 of all, the first of the two; the layer of 0.1 is known on half"
    assert sensitive_layer(np.array([[5.0, 1.0], [5.0, 2.0], [5.0, 30.0]])) == 0, "the mean counts, not the least"
    with pytest.raises(VgError, match="No layer has a grounding metric"):
        sensitive_layer(np.full((4, 2), np.nan))


def test_heads_are_ranked_by_the_metric_asked_for_best_first(tmp_path: Path) -> None:
    root = probe_run(tmp_path / "p", [float(i) for i in range(12)])  # layer 0: 5, layer 1: mean 5.5
    by_ratio = rank_run(root, 4, "ratio", False, lambda text: None)
    by_kl = rank_run(root, 4, "kl", False, lambda text: None)
    assert [pair[:2] for pair in by_ratio.ranked] == [(1, 0), (1, 1), (0, 0), (0, 1)], "higher is better"
    assert [pair[:2] for pair in by_kl.ranked] == [(0, 0), (0, 1), (1, 0), (1, 1)], "lower is better"
    with pytest.raises(VgError, match=r"is a refine run\. Heads are ranked on a probe run"):
        rank_run(refine_run(tmp_path / "r", {"baseline": ["yes"]}), 4, "kl", False, lambda text: None)


def test_rows_without_a_reference_are_not_scored_and_said(tmp_path: Path) -> None:
    root = refine_run(tmp_path / "r", {"baseline": ["yes", "no"]}, rows=3)
    row = {"sample_id": "hidden", "method": "baseline", "answer": "no", "reference": "", "question_type": "closed"}
    Store(root).write(Shard(), 1, [row], Refine.schema)
    table = accuracy(root)
    assert cells(table, "rows") == [2] and "1 samples have no reference and are not scored." in table.notes


def test_counts_hold_every_row_once(tmp_path: Path) -> None:
    table = view(accuracies.counts(one(refine_run(tmp_path / "r", {"baseline": ["yes", "no", "x", "failed"]}))))
    assert sum(cells(table, "rows")) == 4
    totals = {kind: sum(cells(table, kind)) for kind in ("right", "wrong", "undecided", "failed")}
    assert totals == {"right": 1, "wrong": 1, "undecided": 1, "failed": 1}


def test_accuracy_by_where_the_model_looked_splits_at_the_best_layer(tmp_path: Path) -> None:
    answers = {"baseline": ["no"] * 4 + ["yes"] * 8, "vgrefine": ["yes"] * 12}
    run, probe = refine_run(tmp_path / "r", answers), probe_run(tmp_path / "p", [float(i) for i in range(12)])
    table = view(accuracy_by_attention(one(probe), one(run)))
    assert [text.split()[0] for text in cells(table, "lowest third")] == ["0.0", "100.0"]
    assert [text.split()[0] for text in cells(table, "highest third")] == ["100.0", "100.0"]
    assert [text.split()[0] for text in cells(table, "highest - lowest [95 %, by image]")] == ["+100.0", "+0.0"]


def test_runs_in_one_table_carry_plain_and_weighted_means_and_published_figures(tmp_path: Path) -> None:
    huatuo = {"model": "huatuogpt-vision-7b"}
    first = refine_run(tmp_path / "a", {"baseline": ["yes", "no"]}, benchmark="vqa-rad", **huatuo)
    second = refine_run(tmp_path / "b", {"baseline": ["yes"] * 6}, benchmark="slake", **huatuo)
    table = view(together(read([first, second], None, False), False))
    assert cells(table, "plain mean") == ["75.0"] and cells(table, "weighted mean") == ["87.5"]
    assert cells(table, "vqa-rad, published") == ["67.4"]


@pytest.mark.parametrize("field,value", [("protocol", "paper"), ("attention", "whole"), ("data_digest", "other")])
def test_runs_that_differ_are_refused_by_name_and_labelled_when_allowed(tmp_path: Path, field: str, value: str) -> None:
    runs = [
        refine_run(tmp_path / "a", {"baseline": ["yes", "no"]}),
        refine_run(tmp_path / "b", {"baseline": ["yes", "yes"]}, **{field: value}),
    ]
    with pytest.raises(VgError, match=field):
        score(runs)
    last = view(score(runs, allow_mixed=True).tables[-1])
    assert any(f"{field}={value}" in model for model in cells(last, "model")) and len(last.rows) == 2


def test_a_damaged_part_a_missing_sample_and_disagreeing_parts_are_named(tmp_path: Path) -> None:
    root = refine_run(tmp_path / "r", {"baseline": ["yes", "no"]}, rows=3)
    with pytest.raises(VgError, match=r"lacks 1 of 3 samples \(no shard has finished\)"):
        read_run(root, ANSWERS)
    assert "Partial" in read_run(root, ANSWERS, partial=True).notes[-1]
    (root / "parts" / "1of1-00001-deadbeef.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(VgError, match="1of1-00001-deadbeef"):
        read_run(root, ANSWERS)
    assert any("damaged" in note for note in read_run(root, ANSWERS, partial=True).notes)
    (root / "parts" / "1of1-00001-deadbeef.parquet").unlink()
    row = {"sample_id": "s0", "method": "baseline", "answer": "no", "reference": "yes", "question_type": "closed"}
    Store(root).write(Shard(), 1, [row], Refine.schema)
    with pytest.raises(VgError, match="disagree on 1 rows, sample 's0'"):
        read_run(root, ANSWERS, partial=True)


def test_equal_rows_of_two_processes_count_once(tmp_path: Path) -> None:
    root = refine_run(tmp_path / "r", {"baseline": ["yes", "no"]})
    before = read_run(root, ANSWERS).rows
    (part,) = (root / "parts").iterdir()
    part.with_name("1of1-00001-0123456789abcdef.parquet").write_bytes(part.read_bytes())
    assert read_run(root, ANSWERS).rows.sort("sample_id").equals(before.sort("sample_id"))


def test_a_part_with_other_column_types_is_refused(tmp_path: Path) -> None:
    root = refine_run(tmp_path / "r", {"baseline": ["yes", "no"]})
    odd = pa.table(
        {"sample_id": [1], "method": ["baseline"], **{n: [1] for n in ANSWERS if n not in ("sample_id", "method")}}
    )
    pl.from_arrow(odd).write_parquet(root / "parts" / "1of1-00009-x.parquet")  # type: ignore[union-attr]
    with pytest.raises(VgError, match="types"):
        read_run(root, ANSWERS)
