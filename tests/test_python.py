"""The Python API: docs/python.md and the notebook are run as they stand, and what they give is held against eager
attention, against a run of the same sample, and against the parts themselves.

VGTOOL_WRITE_DOCS=1 python -m pytest tests/test_python.py        writes the notebook's outputs anew
"""

import base64
import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

import vgtool
from tests.made_runs import IDENTITY, looked, probe_run, refine_run
from tests.reference import Watch, watching
from vgtool.api import results
from vgtool.benchmarks.load import load as rows
from vgtool.commands import app
from vgtool.images import open_image
from vgtool.methods.refine import Refine
from vgtool.records import GENERAL_QUESTION, QUESTION_SUFFIX
from vgtool.runs.store import Shard, Store

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOK = DOCS / "look.ipynb"


def run(command: str) -> int:
    return int(app(command.split(), standalone_mode=False) or 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the picture, the head file and the runs that the pages name."""
    root = tmp_path_factory.mktemp("python")
    before = Path.cwd()
    os.chdir(root)
    try:
        open_image(rows("phantom", limit=1).samples[0].image).save("scan.png")
        model = "--model phantom-vlm --benchmark"
        assert run(f"probe {model} scenes --limit 30 --maps heads --out runs/scenes") == 0
        assert run("heads runs/scenes -k 4 -o heads.json") == 0
        assert run(f"refine {model} phantom --limit 20 --heads heads.json --out runs/refined") == 0
        assert run(f"probe {model} phantom --limit 1 --maps heads --out runs/probed") == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture(scope="module")
def model() -> vgtool.Model:
    return vgtool.load("phantom-vlm")


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def test_import_is_light_and_every_name_is_there() -> None:
    heavy = ("torch", "transformers", "polars", "numpy", "matplotlib", "typer")
    code = f"import sys, vgtool\nassert not set({heavy}) & set(sys.modules)\n"
    code += "assert all(hasattr(vgtool, name) for name in vgtool.__all__)\nassert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (Path(vgtool.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vgtool.lod  # type: ignore[attr-defined]


def test_the_page_does_what_it_says() -> None:
    text = (DOCS / "python.md").read_text()
    found = doctest.DocTestParser().get_doctest(text.replace("```", ""), {}, "python.md", str(DOCS / "python.md"), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(found, out=said.append)
    assert runner.failures == 0, "".join(said)
    assert runner.tries > 15 and Path("look.pdf").read_bytes().startswith(b"%PDF")


def test_the_notebook_gives_what_it_shows(model: vgtool.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    book = json.loads(NOTEBOOK.read_text())
    space: dict[str, Any] = {}
    for cell in book["cells"]:
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"])
        *body, last = lines.splitlines()
        exec("\n".join(body), space)
        value = eval(last, space)
        shown = {"text/plain": [repr(value)]}
        if hasattr(value, "_repr_png_"):
            shown["image/png"] = [base64.b64encode(value._repr_png_()).decode()]
        if os.environ.get("VGTOOL_WRITE_DOCS"):
            kind = {"execution_count": None, "metadata": {}, "output_type": "execute_result"}
            cell["outputs"] = [{"data": shown, **kind}]
        told = cell["outputs"][0]["data"]
        assert told["text/plain"] == shown["text/plain"], lines
        assert told.keys() == shown.keys(), lines
    if os.environ.get("VGTOOL_WRITE_DOCS"):
        NOTEBOOK.write_text(json.dumps(book, indent=1) + "\n")
    assert any("image/png" in cell["outputs"][0]["data"] for cell in book["cells"] if cell["cell_type"] == "code")


def eager(model: vgtool.Model, text: str) -> tuple[np.ndarray, float]:
    """Attention of a prompt's last token to the image in a plain eager forward [layers, heads, rows, cols], and the
    largest probability of its next token."""
    one = model.adapter
    vision, prompt = one.prepare(Image.open("scan.png").convert("RGB")), one.prompt(text)
    inputs = one.inputs([vision], prompt.head, prompt.tail)
    with torch.inference_mode(), watching(one.model, Watch()) as watch:
        logits = one.model(**inputs.kwargs, use_cache=False).logits
    first = len(prompt.head)
    rows = torch.stack([weights[0, :, -1, first : first + 64] for weights in watch.seen])
    return rows.numpy().reshape(6, 6, 8, 8), float(logits[0, -1].softmax(-1).max())


def test_maps_relative_attention_and_metrics_of_every_head_are_those_of_eager_forwards(model: vgtool.Model) -> None:
    sample = rows("phantom", limit=1).samples[0]
    look = model.look("scan.png", sample.question, boxes=sample.boxes)
    (asked, sure), (described, _) = (
        eager(model, f"{question} {QUESTION_SUFFIX}") for question in (sample.question, GENERAL_QUESTION)
    )
    assert np.allclose(look.attention, asked, atol=1e-6) and np.allclose(look.general, described, atol=1e-6)
    assert look.confidence == pytest.approx(sure, abs=1e-5)
    assert look.metrics is not None and look.relative.shape == (6, 6, 8, 8)
    means, compared, measured = [asked.mean(1), described.mean(1)], 0, 0
    inside = np.zeros(64)
    inside[list(look.region)] = 1 / len(look.region)
    for layer in range(6):
        for above, below, found, at in (
            (means[0], means[1], look.metrics.layers, (layer,)),
            *((asked, described, look.metrics.heads, (layer, head)) for head in range(6)),
        ):
            # a token that the general prompt ignores has no bounded quotient: rounding decides there
            sound = below[at] > 1e-5
            drawn = look.layer(layer) if len(at) == 1 else look.relative[at]
            assert np.allclose(drawn[sound], above[at][sound] / below[at][sound], rtol=1e-2)
            compared += sound.sum()
            if np.isfinite(drawn).all() and drawn.sum() > 0.1:  # the definition's 1e-8 counts where nearly nothing is
                share = drawn.ravel() / drawn.sum()
                assert found.ratio[at] == pytest.approx(share @ inside * 64, rel=1e-5)
                assert found.kl[at] == pytest.approx(rel_entr(inside, np.clip(share, 1e-12, 1)).sum(), abs=1e-5)
                assert found.js[at] == pytest.approx(jensenshannon(inside, share) ** 2, abs=1e-4)
                measured += 1
    assert compared > 300 and measured > 20, (compared, measured)
    assert look.prompt.replace(" ", "").endswith("phrase.ASSISTANT:")


def test_a_look_is_the_row_of_a_run(model: vgtool.Model) -> None:
    sample = rows("phantom", limit=1).samples[0]
    row = pl.read_parquet("runs/probed/parts/*.parquet").row(0, named=True)
    picture = Image.open("scan.png")
    for image in ("scan.png", Path("scan.png"), picture, np.asarray(picture.convert("RGB"))):
        look = model.look(image, sample.question, boxes=sample.boxes)
        assert look.metrics is not None
        for name in ("ratio", "kl", "js"):
            assert np.allclose(getattr(look.metrics.layers, name), row[f"layer_{name}"], rtol=1e-4)
            heads = np.array(row[f"head_{name}"], float)  # null becomes NaN
            assert np.allclose(getattr(look.metrics.heads, name).ravel(), heads, rtol=1e-4, equal_nan=True)
        assert list(look.region) == row["region"]
        assert look.metrics.best == int(np.argmin(row["layer_kl"]))
    answers = pl.read_parquet("runs/refined/parts/*.parquet").filter(pl.col("sample_id") == sample.id)
    baseline, refined = answers.sort("method").iter_rows(named=True)
    found = model.refine("scan.png", sample.question, "vgrefine", heads="heads.json", boxes=sample.boxes)
    assert (found.baseline, found.answer) == (baseline["answer"], refined["answer"])
    assert found.insertion == pytest.approx(refined["insertion"], abs=1e-5)
    assert found.kept is not None and np.flatnonzero(found.kept).tolist() == refined["kept"]
    assert look.answer == baseline["answer"] and look.confidence == pytest.approx(baseline["confidence"], abs=1e-5)


def test_the_protocols_prompt_is_what_makes_a_look_comparable(model: vgtool.Model) -> None:
    question = rows("phantom", limit=1).samples[0].question
    kinds = (None, "plain", "Well: {question}")
    sent = {kind: model.look("scan.png", question, protocol=kind).prompt for kind in kinds}
    assert "single word or phrase" in sent[None] and "single word" not in sent["plain"]
    assert "<image>" in sent["Well: {question}"] and "single" not in sent["Well: {question}"]
    lettered = model.look("scan.png", question, choices=["bright", "dark"], protocol="{question}\n{options}").prompt
    assert lettered != sent["plain"]


def test_a_read_run_holds_its_maps_with_their_axes() -> None:
    flat = pl.read_parquet("runs/scenes/parts/*.parquet").sort("sample_id")
    frame = vgtool.read("runs/scenes").sort("sample_id")
    heads = frame["head_attention"].to_numpy()
    assert heads.shape == (30, 6, 6, 8, 8)
    assert np.array_equal(heads[7, 2, 3, 4], np.array(flat["head_attention"][7].to_list()).reshape(6, 6, 8, 8)[2, 3, 4])
    assert np.array_equal(frame["layer_kl"].to_numpy(), np.array(flat["layer_kl"].to_list(), np.float32))
    refined = vgtool.read("runs/refined")
    baseline, method = (refined.filter(pl.col("method") == name) for name in ("baseline", "vgrefine"))
    assert baseline["triage"].null_count() == 20 and method["triage"].to_numpy().shape == (20, 8, 8)
    assert "triage" not in vgtool.read("runs/refined", maps=False).columns


def test_without_maps_the_numbers_of_heads_keep_their_axes() -> None:
    frame = vgtool.read("runs/scenes", maps=False)
    assert frame["head_kl"].to_numpy().shape == (30, 6, 6) and frame["layer_kl"].to_numpy().shape == (30, 6)
    assert not [name for name in frame.columns if name.endswith("attention")]


def test_every_column_by_layer_has_the_axes_that_the_page_of_columns_names() -> None:
    page = (DOCS / "files.md").read_text()
    named = re.findall(r"^\| `(\w+)` \| list of float32 \| \[(L[^]]*)\]", page, re.M)
    assert {name: len(axes.split(", ")) + ("T" in axes) for name, axes in named} == results.LEVELS


def test_the_scores_are_numbers_of_the_runs_own_rows() -> None:
    frame = vgtool.score("runs/refined", Path("runs/scenes"), seed=3)
    one = {m: frame.filter(metric=m, method="vgrefine", table="accuracy")["value"][0] for m in ("accuracy", "right")}
    assert one["accuracy"] == one["right"] / 20 and frame.schema["value"] == pl.Float64
    with pytest.raises(vgtool.VgError, match="no run folder"):
        vgtool.score("nowhere")


def test_grids_that_differ_come_as_nested_lists(tmp_path: Path) -> None:
    from vgtool.api.results import _arrays

    frame = pl.DataFrame({"grid_rows": [1, 2, 1], "grid_cols": [2, 2, 2], "attention": [[1.0] * 4, [2.0] * 8, None]})
    found = _arrays(frame, "attention", 2).to_list()
    assert found == [[[[1.0, 1.0]]] * 2, [[[2.0, 2.0]] * 2] * 2, None]


@pytest.mark.parametrize(
    "make,said",
    [
        (lambda model: vgtool.load("phantom-vl"), "Did you mean 'phantom-vlm'"),
        (lambda model: vgtool.read("nowhere"), "'nowhere' is no run folder"),
        (lambda model: model.look("none.png", "?"), "Cannot read 'none.png'"),
        (lambda model: model.look("heads.json", "?"), "'heads.json' cannot be shown to a model"),
        (lambda model: model.look(np.zeros((4, 4)), "?"), "An array of float64"),
        (lambda model: model.look("scan.png", "Is <image> red?"), "placeholder_in_question"),
        (lambda model: model.look("scan.png", "?", boxes=[(9, 9, 2, 2)]), "Not boxes"),
        (lambda model: model.look("scan.png", "?", boxes=[(900, 900, 920, 920)]), "no_region"),
        (lambda model: model.look("scan.png", "?", row="lst"), "Did you mean 'last'"),
        (lambda model: model.look("scan.png", "?", protocol="papr"), "No protocol 'papr'"),
        (lambda model: model.look("scan.png", "?", protocol="vqa-rad/papr"), "Did you mean 'paper'"),
        (lambda model: model.look("scan.png", "?").figure(layer=6), "the model has 6 layers"),
        (lambda model: model.look("scan.png", "?").figure("a.pgn"), "'a.pgn' does not end in"),
        (lambda model: model.refine("scan.png", "?", "vgrefin", heads="heads.json"), "Did you mean 'vgrefine'"),
        (lambda model: model.refine("scan.png", "?"), "needs ranked heads"),
        (lambda model: model.refine("scan.png", "?", "pai").figure(), "has no map to draw"),
        (lambda model: model.look("scan.png", " "), "' ' is no question"),
        (lambda model: model.look("scan.png", None), "None is no question"),
        (lambda model: model.look("scan.png", "Is it \udcff?"), "'\\udcff' in the question is no character"),
        (lambda model: model.look(np.zeros((0, 4), np.uint8), "?"), "An array of uint8 (0, 4) is no picture"),
        (lambda model: model.look([[1, 2]], "?"), "A value of type list is no picture"),
        (lambda model: model.refine("scan.png", "?", "random-keep", heads="heads.json", seed=-1), "seed=-1"),
        (lambda model: vgtool.score("runs/refined", seed=-1), "seed=-1"),
        (lambda model: vgtool.sample("runs/probed", "none"), "has no sample 'none'"),
        (lambda model: vgtool.picture("runs"), "'runs' is a folder, and no slice is named"),
        (lambda model: vgtool.picture("scan.png", slice=3), "is none of 0 to 0. Name another slice, axis or window."),
        (lambda model: vgtool.picture("scan.png", slice=-1), "is no whole number from 0 on. Name another slice, axis"),
        (lambda model: vgtool.picture("scan.png", axis="up"), "axis 'up' is none of sagittal, coronal, axial. Name an"),
        (lambda model: vgtool.picture("scan.png", window=5), "no window applies to it. Name another slice, axis or w"),
        (lambda model: vgtool.picture("scan.png", window=[9, 1]), "window [9, 1] is neither"),
        (lambda model: vgtool.picture("heads.json"), "no image in a format that is read here. Give a picture that"),
    ],
)
def test_a_mistake_is_a_sentence(make: Any, said: str, model: vgtool.Model) -> None:
    with pytest.raises(vgtool.VgError) as error:
        make(model)
    assert said in str(error.value)


def test_boxes_may_be_an_array(model: vgtool.Model) -> None:
    one, two = (model.look("scan.png", "?", boxes=given) for given in ([(9, 9, 30, 40)], np.array([[9, 9, 30, 40.0]])))
    assert one.region == two.region != () and model.look("scan.png", "?", boxes=np.zeros((0, 4))).metrics is None


def test_one_text_stands_for_a_list_of_it(model: vgtool.Model) -> None:
    alone, listed = (model.look("scan.png", "Which?", choices=given).prompt for given in ("left", ["left"]))
    assert alone == listed
    told = [vgtool.score("runs/refined", by=b, tables=t) for b, t in (("group", "accuracy"), (["group"], ["accuracy"]))]
    assert told[0].equals(told[1]) and told[0]["table"].unique().to_list() == ["accuracy"]
    name = pl.read_parquet("runs/probed/parts/*.parquet")["sample_id"][0]
    found = vgtool.sample("runs/probed", name, beside="runs/refined")
    assert [one.run for one in found.answers] == ["refined"] * 2


# ---- a sample of finished runs --------------------------------------------------------------------------------------


def test_a_sample_of_a_run_holds_what_its_rows_and_its_benchmark_hold() -> None:
    sample = rows("phantom", limit=1).samples[0]
    probed = pl.read_parquet("runs/probed/parts/*.parquet").row(0, named=True)
    answers = pl.read_parquet("runs/refined/parts/*.parquet").filter(pl.col("sample_id") == sample.id)
    found = vgtool.sample("runs/probed", sample.id, beside=["runs/refined"])
    assert (found.question, found.prompt) == (sample.question, sample.prompt)
    assert (found.reference, found.image_id) == (sample.reference, sample.image_id)
    assert found.image is not None and found.image.tobytes() == open_image(sample.image).tobytes()
    assert [one.method for one in found.answers] == ["baseline", "vgrefine"]
    for one, row in zip(found.answers, answers.sort("method").iter_rows(named=True), strict=True):
        assert (one.answer, one.insertion, one.deletion) == (row["answer"], row["insertion"], row["deletion"])
        assert one.verdict == ("right" if row["answer"] == sample.reference else "wrong")
        assert (None if one.kept is None else np.flatnonzero(one.kept).tolist()) == row["kept"]
    above, below = (np.array(probed[name]).reshape(6, 8, 8) for name in ("attention", "general_attention"))
    assert np.allclose(found.layer(3), above[3] / below[3], rtol=1e-6)
    assert np.allclose(found.layer(), above.mean(0) / below.mean(0), rtol=1e-6)
    assert found.metrics is not None and found.shown(None) == int(np.argmin(probed["layer_kl"]))
    assert np.allclose(found.metrics.layers.ratio, probed["layer_ratio"])
    assert vgtool.sample("runs/probed", sample.id).reference == sample.reference, "of the benchmark: a probe keeps none"
    with pytest.raises(vgtool.VgError, match="'runs/scenes' has no sample"):
        vgtool.sample("runs/probed", sample.id, beside=["runs/scenes"])


def test_a_figure_has_the_scale_of_its_colours_and_what_a_method_hid_is_dark(model: vgtool.Model) -> None:
    look = model.look("scan.png", "Is the lesion in the kidney bright or dark?", boxes=[(33, 31, 57, 55)])
    assert look.layer(2).max() > 100, "against a general map that vanishes, which would leave all else clear"
    for layer, top in ((2, "over 100"), (0, f"{look.layer(0).max():.3g}")):
        said = [text.get_text() for text in look.figure(layer=layer).axes[0].texts]
        assert said[-3:] == ["0", top, "attention relative to the general prompt's"]
    refined = model.refine("scan.png", "Is the lesion in the kidney bright or dark?", "vgrefine", heads="heads.json")
    assert refined.kept is not None
    (page,) = refined.figure().axes
    (picture,) = page.get_images()
    shown = np.asarray(picture.get_array()).astype(float)
    stored = np.asarray(Image.open("scan.png").convert("RGB").resize(shown.shape[1::-1], Image.Resampling.BOX))
    rows, cols = (np.arange(n) * 8 // n for n in shown.shape[:2])
    seen = refined.kept[rows][:, cols]
    assert (shown[seen] == stored[seen]).all(), "what was kept, as it is"
    np.testing.assert_allclose(shown[~seen], 0.2 * stored[~seen] + 0.8 * np.array([20, 20, 40]), atol=0.51)


def test_a_sample_whose_benchmark_is_not_at_hand_is_shown_without_its_picture(tmp_path: Path) -> None:
    record = json.loads(Path("runs/probed/run.json").read_text())
    record["identity"]["benchmark"] = "gone.jsonl"
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "parts").symlink_to(Path("runs/probed/parts").absolute())
    (tmp_path / "one" / "run.json").write_text(json.dumps(record))
    found = vgtool.sample(tmp_path / "one", rows("phantom", limit=1).samples[0].id)
    assert found.image is None and found.prompt is None and "gone.jsonl" in found.missing and found.reference is None
    found.figure(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[0] > 300


def put(root: Path, *, size: tuple[int, int] = (40, 30), **row: Any) -> Path:
    """A file of one row and its picture, and a run that answered it, whatever the file says later."""
    root.mkdir()
    Image.new("RGB", size).save(root / "a.png")
    asked = {"id": "7", "image": "a.png", "question": "Is it?", "reference": "yes", "question_type": "closed"}
    (root / "q.jsonl").write_text(json.dumps(asked | row))
    made = {"sample_id": "7", "question": "Is it?", "question_type": "closed", "reference": "no", "width": 40,
            "height": 30, "method": "baseline", "answer": "no"}  # fmt: skip
    store = Store(root / "run")
    store.open("refine", IDENTITY | {"benchmark": "q.jsonl", "split": "all", "rows": 1, "methods": ["baseline"]}, [])
    store.write(Shard(), 0, [made], Refine.schema)
    return root / "run"


def test_a_sample_is_known_by_its_number_too(tmp_path: Path) -> None:
    found = vgtool.sample(put(tmp_path / "set"), 7, data_root=tmp_path / "set")  # type: ignore[arg-type]
    assert found.sample_id == "7" and found.image is not None and found.prompt and not found.missing


@pytest.mark.parametrize("change,said", [
    ({"id": "8"}, "Benchmark 'q.jsonl' on this machine has no such sample."),
    ({"question": "Was it?"}, "Benchmark 'q.jsonl' on this machine asks 'Was it?' as this sample."),
    ({"size": (30, 40)}, "The image on this machine is 30 x 40: another one."),
    ({"image": "b.png"}, "image_missing: 'b.png' is not in the data folder (looked in the folder itself)."),
])  # fmt: skip
def test_a_benchmark_that_changed_since_shows_nothing_that_the_run_did_not_see(
    change: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = put(tmp_path / "set", **change)
    found = vgtool.sample(run, "7", data_root=tmp_path / "set")
    assert found.image is None and found.missing == said
    assert (found.question, found.reference, found.answers[0].verdict) == ("Is it?", "no", "right")
    assert found.prompt is None or "Is it?" in found.prompt
    assert not app(["look", str(run), "7", "--data-root", str(tmp_path / "set")], standalone_mode=False)
    assert f"no picture: {said}\n" in capsys.readouterr().out


def test_runs_that_are_not_of_the_same_rows_and_methods_that_did_not_answer_are_told(tmp_path: Path) -> None:
    asked = {"question": "Is it?", "question_type": "closed"}
    one = refine_run(tmp_path / "one", {"baseline": ["yes"], "pai": ["failed"]})
    other = looked(tmp_path / "other", 1, more=lambda at: {**asked, "question": "Was it?"})
    probe = looked(tmp_path / "probe", 1, more=lambda at: asked if at else {"error": "no_region: none"})
    broken = probe_run(tmp_path / "broken", [1.0])
    (part,) = (broken / "parts").glob("*")
    part.write_bytes(part.read_bytes()[:-9])

    def said(act: Callable[[], Any]) -> str:
        with pytest.raises(vgtool.VgError) as caught:
            act()
        return str(caught.value)

    assert said(lambda: vgtool.sample(one, "s0", beside=[other])) == (
        f"'{other}' asks 'Was it?' as sample 's0', not 'Is it?'. Name runs of the same rows."
    )
    assert said(lambda: vgtool.sample(broken, "s0")) == (
        f"'{broken}' has damaged parts: {part.name}, and no other has sample 's0'. Run its command again."
    )
    answers, plain, failed = vgtool.sample(one, "s0"), vgtool.sample(probe, "s1"), vgtool.sample(probe, "s0")
    told = {
        "Sample 's0' has no answer of method 'pia'. Did you mean 'pai'?": lambda: answers.figure(method="pia"),
        "Sample 's1' has no answer of method 'pai'. A probe holds none; name a refine run of these rows, here or "
        "beside it.": lambda: plain.figure(method="pai"),
        "'baseline' hides no image token and has no map to draw. Name no method, or another one.":
            lambda: answers.figure(method="baseline"),
        "Sample 's0' failed and has no map: one: image_missing: gone. Name another sample.":
            lambda: answers.figure(method="pai"),
        "Sample 's0' failed and has no map: probe: no_region: none. Name another sample.": failed.layer,
        "No map of sample 's1' was kept. Probe it with --maps layers.": plain.figure,
    }  # fmt: skip
    for sentence, act in told.items():
        assert said(act) == sentence
    with pytest.raises(vgtool.VgError, match="Sample 's1' has no answer of method 'pai'"):
        app(["look", str(probe), "s1", "--method", "pai"], standalone_mode=False)


# ---- vgtool look ---------------------------------------------------------------------------------------------------

LOOK = ["look", "scan.png", "Is the lesion in the kidney bright or dark?", "--model", "phantom-vlm"]


def test_look_tells_answer_prompt_and_where_and_draws_it(
    model: vgtool.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [*LOOK, "--box", "33,31,57,55", "--heads", "heads.json", "--method", "vgrefine"]
    figures = [word for name in ("a.pdf", "a.svg", "a.png") for word in ("-o", name)]
    assert not app([*told, *figures], standalone_mode=False)
    shown = capsys.readouterr().out
    look = model.look("scan.png", LOOK[2], boxes=[(33, 31, 57, 55)])
    assert look.metrics is not None
    assert f"answer: {look.answer}" in shown and look.prompt in shown
    assert f"layer 2, attention ratio {look.metrics.layers.ratio[2]:.2f}" in shown and "kept: 32 of 64 tokens" in shown
    assert Path("a.pdf").read_bytes()[:4] == b"%PDF" and "<svg" in Path("a.svg").read_text()
    drawn = np.asarray(Image.open("a.png").convert("RGB")).astype(int)
    assert (abs(drawn[..., 0] - drawn[..., 2]) > 40).any(), "in colour"
    assert not app([*told, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == pytest.approx(look.metrics.layers.ratio.tolist()) and found["best_layer"] == 2
    assert found["relative"][4] == pytest.approx(look.layer(4).ravel().tolist())
    assert len(found["methods"][0]["kept"]) == 32


def test_a_mistake_of_look_is_told_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgtool.runs import launch

    monkeypatch.setattr(launch, "load", lambda *args: pytest.fail("loaded"))
    for more, said in ((["--box", "1,2,3"], "'1,2,3'"), (["-o", "a.gif"], "a.gif"), (["--row", "lst"], "lst")):
        with pytest.raises(vgtool.VgError, match=said):
            app([*LOOK, *more], standalone_mode=False)
    with pytest.raises(vgtool.VgError, match=r"none\.png"):
        app(["look", "none.png", "?"], standalone_mode=False)


def test_look_at_a_sample_of_a_run_tells_reference_verdict_and_where_and_draws_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgtool.runs import launch

    monkeypatch.setattr(launch, "load", lambda *args: pytest.fail("loaded"))
    sample = rows("phantom", limit=1).samples[0]
    words = ["look", "runs/probed", sample.id, "--beside", "runs/refined"]
    figures = [word for name in ("b.pdf", "b.svg", "b.png") for word in ("-o", name)]
    assert not app([*words, *figures, "--layer", "2"], standalone_mode=False)
    shown = capsys.readouterr().out
    answers = pl.read_parquet("runs/refined/parts/*.parquet").filter(pl.col("sample_id") == sample.id)
    for row in answers.iter_rows(named=True):
        verdict = "right" if row["answer"] == sample.reference else "wrong"
        assert f"{row['method']}: {row['answer']} ({verdict}" in shown
    assert f"reference: {sample.reference}" in shown and f"prompt: {sample.prompt}" in shown
    ratio = pl.read_parquet("runs/probed/parts/*.parquet")["layer_ratio"][0][2]
    assert f"layer 2, attention ratio {ratio:.2f}" in shown
    assert Path("b.pdf").read_bytes()[:4] == b"%PDF" and "<svg" in Path("b.svg").read_text()
    drawn = np.asarray(Image.open("b.png").convert("RGB")).astype(int)
    assert (abs(drawn[..., 0] - drawn[..., 2]) > 40).any(), "in colour"
    assert not app([*words, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == sample.reference and len(found["relative"]) == 6 and len(found["ratio"]) == 6
    assert [one["verdict"] for one in found["answers"]].count(None) == 0
    assert not app(["look", "runs/refined", sample.id, "--method", "vgrefine", "-o", "k.png"], standalone_mode=False)
    assert "kept: 32 of 64 tokens" in capsys.readouterr().out
    with pytest.raises(vgtool.VgError, match="has no answer of method 'pai'"):
        app(["look", "runs/refined", sample.id, "--method", "pai"], standalone_mode=False)
    with pytest.raises(vgtool.VgError, match="is for a run"):
        app(["look", "scan.png", "?", "--beside", "runs/probed"], standalone_mode=False)
