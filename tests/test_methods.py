"""Probe columns and every method's answers on the embedded model, against whole-prompt full-matrix eager attention."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import jensenshannon

from tests.eager import KNOCKOUT, RANKED, Eager, cutting, refined, rescoring
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.errors import SampleError, VgError
from vgtool.grounding import heads as head_files
from vgtool.grounding.geometry import Geometry
from vgtool.grounding.heads import HeadFile
from vgtool.images import open_image
from vgtool.methods.base import Facts, read_facts
from vgtool.methods.parse import parse
from vgtool.methods.pictures import other_image
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.methods.rivals import window
from vgtool.methods.task import ImageGroup
from vgtool.records import Grid, ImageSource, Sample


def test_probe_columns_equal_an_eager_reference(opened: Sessions, groups: list[ImageGroup]) -> None:
    task = Probe(opened, maps="heads", row="last", mapping="exact")
    for group in groups[:3]:
        eager = Eager(opened, group)
        general = np.stack(eager.forward(GENERAL_PROMPT)[1])
        for row, sample in zip(task.run([group], 2), group.samples, strict=True):
            question = np.stack(eager.forward(sample.prompt)[1])
            assert np.abs(row["head_attention"].reshape(question.shape) - question).max() < 1e-5
            assert np.abs(row["attention"].reshape(question.shape[0], -1) - question.mean(1)).max() < 1e-5
            # The metrics divide by attention that can be next to nothing, so they are checked on the row's own maps,
            # and on eager's where no divisor is small enough to amplify the last digits of a float.
            own = [np.float64(row[name]).reshape(len(general), -1) for name in ("attention", "general_attention")]
            check_metrics(row, own[0] / own[1], range(len(general)), 1e-5)
            steady = [layer for layer in range(len(general)) if general[layer].mean(0).min() > 1e-5]
            check_metrics(row, question.mean(1) / general.mean(1), steady, 1e-3)


def check_metrics(row: dict[str, Any], r: np.ndarray, layers: Sequence[int], tolerance: float) -> None:
    """The metrics' own 1e-8 counts where a question's row hardly looks at the image (r near 0)."""
    inside = np.zeros(r.shape[1], bool)
    inside[row["region"]] = True
    for layer in layers:
        ratio = r[layer][inside].sum() / (r[layer].mean() * inside.sum() + 1e-8)
        assert row["layer_ratio"][layer] == pytest.approx(ratio, rel=tolerance)
        if r[layer].sum() > 1e-3:
            js = jensenshannon(r[layer] / r[layer].sum(), inside / inside.sum()) ** 2
            assert row["layer_js"][layer] == pytest.approx(js, abs=tolerance)


@pytest.mark.parametrize(
    "label,p,general", [("vgrefine", 50, "layer"), ("vgrefine:percentile=80,general=head", 80, "head")]
)
def test_vgrefine_answers_equal_an_eager_reference(opened, groups, label, p, general) -> None:  # type: ignore[no-untyped-def]
    rows = refined(opened, groups, label)
    for group in groups[:2]:
        eager = Eager(opened, group)
        below = eager.forward(GENERAL_PROMPT)[1]
        for sample in group.samples:
            above = eager.forward(sample.prompt)[1]
            maps = [
                above[la][he] / ((below[la][he] if general == "head" else below[la].mean(0)) + 1e-10)
                for la, he in RANKED
            ]
            triage = np.mean(maps, 0)
            gone = np.flatnonzero(triage < np.percentile(triage, p)).tolist()
            row = rows[sample.id, label]
            assert row["kept"] == sorted(set(range(len(triage))) - set(gone))
            assert np.allclose(row["triage"], triage, rtol=1e-3)
            text, first = eager.answer(sample.prompt, {KNOCKOUT: cutting(gone)})
            assert (row["answer"], row["confidence"]) == (text, pytest.approx(first, abs=1e-5))
            text, first = eager.answer(sample.prompt)
            base = rows[sample.id, "baseline"]
            assert (base["answer"], base["confidence"]) == (text, pytest.approx(first, abs=1e-5))


def test_pai_equals_an_eager_reference(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups[:2], "pai")
    for group in groups[:2]:
        for sample in group.samples:
            edits = {layer: rescoring(lambda s: s + 0.2 * s.abs()) for layer in range(2, opened.adapter.layers)}
            text, first = Eager(opened, group).answer(sample.prompt, edits, 1.1)
            row = rows[sample.id, "pai"]
            assert (row["answer"], row["confidence"]) == (text, pytest.approx(first, abs=1e-5))


def test_pai_with_a_plain_first_row_amplifies_from_the_second_token_on(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    """As the released code under guidance: its prefill runs with `use_cfg`, which switches the amplifier off."""
    labels = ("pai:first=plain", "pai:first=plain,gamma=1", "pai:alpha=0", "pai:alpha=9,first=plain", "pai:alpha=9")
    rows = refined(opened, groups[:2], *labels)
    for group in groups[:2]:
        for sample in group.samples:
            base = rows[sample.id, "baseline"]["confidence"]
            for label in labels[:4]:  # the model's own first distribution is untouched
                assert rows[sample.id, label]["confidence"] == pytest.approx(base, abs=1e-6)
    assert any(
        rows[s.id, "pai:alpha=9"]["confidence"] != pytest.approx(rows[s.id, "baseline"]["confidence"], abs=1e-4)
        for group in groups[:2]
        for s in group.samples
    )


def test_adaptvis_rounds_confidence_to_two_places_and_scales_the_first_layers(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    rows = refined(opened, groups[:1], "adaptvis")
    sample = groups[0].samples[0]
    confidence = rows[sample.id, "baseline"]["confidence"]
    near = round(confidence, 2)
    label = f"adaptvis:threshold={near},layers=1,unsure=0.25,sure=1.75"  # equal to two places: sure
    row = refined(opened, groups[:1], label)[sample.id, label]
    edits = {0: rescoring(lambda s: s * 1.75)}
    logits, _ = Eager(opened, groups[0]).forward(sample.prompt, edits=edits)
    assert row["confidence"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_adaptvis_equals_an_eager_reference(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups[:2], "adaptvis:threshold=0.9")
    for group in groups[:2]:
        eager = Eager(opened, group)
        for sample in group.samples:
            weight = 0.5 if eager.answer(sample.prompt)[1] < 0.9 else 1.5
            prompt_only = {layer: rescoring(lambda s, w=weight: s * w) for layer in range(opened.adapter.layers)}
            logits, _ = eager.forward(sample.prompt, edits=prompt_only)
            row = rows[sample.id, "adaptvis:threshold=0.9"]
            assert row["confidence"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def brute_window(values: np.ndarray, width: int, height: int, canvas: int) -> tuple[int, int, int, int]:
    """ViCrop's window on a padded square grid, by loops: per size the window of largest sum, then the one that exceeds
    the mean of its neighbours the most per cell."""
    grid = len(values)
    square = max(width, height)
    cell, left, top = square / grid, -((square - width) // 2), -((square - height) // 2)
    found = []
    for factor in (1.0, 1.2, 1.4, 1.6, 1.8, 2.0):
        side = canvas * factor
        n = min(int(side / cell), grid)
        if n == grid:
            continue
        sums = {(y, x): values[y : y + n, x : x + n].sum() for y in range(grid - n + 1) for x in range(grid - n + 1)}
        y, x = max(sums, key=lambda at: (sums[at], -at[0], -at[1]))
        near = [sums[at] for at in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)) if at in sums]
        found.append(((sums[y, x] - sum(near) / len(near)) / n**2, y, x, n, side))
    _, y, x, n, side = max(found, key=lambda one: one[0])
    half, spans = int(side // 2), []
    for start, offset, size in ((x, left, width), (y, top, height)):
        middle = int(offset + start * cell + cell * n / 2)
        middle = half if middle < half else middle
        middle = size - half if middle > size - half else middle
        spans.append((max(0, middle - half), min(size, middle + half)))
    (x0, x1), (y0, y1) = spans
    return x0, y0, x1, y1


@pytest.mark.parametrize("size", [(1400, 1000), (640, 1200), (900, 900), (500, 340)])
def test_vicrops_window_of_any_map_is_the_one_that_loops_find(size: tuple[int, int]) -> None:
    rng, found = np.random.default_rng(0), set()
    geometry = Geometry.pad(*size, 336, Grid(24, 24))
    scene: Any = SimpleNamespace(geometry=geometry, image=Image.new("RGB", size), facts=Facts(32, 32, (), (), 0))
    for peaks in (1, 2, 30):
        for _ in range(10):
            values = 0.1 * rng.random((24, 24))
            values[rng.integers(0, 24, peaks), rng.integers(0, 24, peaks)] += rng.random(peaks) * 24 / peaks
            assert window(values, scene) == brute_window(values, *size, 336)
            found.add(window(values, scene))
    assert len(found) > 10 or max(size) < 600


def test_vicrop_equals_an_eager_reference_with_a_window_found_by_loops(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    boxes = set()
    for group in groups[:3]:
        image = group.images[0].resize((4 * group.images[0].width, 4 * group.images[0].height))
        large = ImageGroup(group.samples[:2], (image,), (opened.adapter.prepare(image),))
        rows = refined(opened, [large], "vicrop")
        eager = Eager(opened, large)
        layer = round(14 / 32 * opened.adapter.layers)
        general = eager.forward(GENERAL_PROMPT)[1][layer].mean(0)
        for sample in large.samples:
            values = (eager.forward(sample.prompt)[1][layer].mean(0) / general).reshape(8, 8)
            box = brute_window(values, image.width, image.height, 112)
            boxes.add(box)
            visions = tuple(opened.adapter.prepare(shown) for shown in (image, image.crop(box)))
            shown_both = ImageGroup((sample,), (image,), visions)
            text, first = Eager(opened.beside, shown_both).answer(sample.prompt)  # no line break between
            row = rows[sample.id, "vicrop"]
            assert (row["answer"], row["confidence"]) == (text, pytest.approx(first, abs=1e-5))
    assert len(boxes) > 2 and all(x1 - x0 < 512 for x0, _, x1, _ in boxes)


NOTHING = ("vgrefine:percentile=0", "pai:alpha=0,gamma=1", "adaptvis:sure=1,unsure=1")


def test_methods_that_change_nothing_give_the_baseline(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups, *NOTHING)
    for (sample, method), row in rows.items():
        base = rows[sample, "baseline"]
        assert (row["answer"], row["confidence"]) == (base["answer"], base["confidence"]), method


def test_controls_keep_what_they_promise(opened: Sessions, groups: list[ImageGroup]) -> None:
    labels = ("vgrefine", "random-keep", "centre", "invert", "oracle", "swap", "random-heads")
    rows = refined(opened, groups, *labels)
    for group in groups:
        for sample in group.samples:
            kept = {label: rows[sample.id, label]["kept"] for label in labels}
            assert len(kept["random-keep"]) == len(kept["centre"]) == len(kept["vgrefine"])
            assert sorted(kept["invert"] + kept["vgrefine"]) == list(range(64))
            assert kept["oracle"] == rows[sample.id, "oracle"]["region"]
    assert any(rows[s.id, "random-keep"]["kept"] != rows[s.id, "vgrefine"]["kept"] for g in groups for s in g.samples)


def test_pictureless_answers_do_not_depend_on_the_picture(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups, "no-image", "blank", "noise", "vicrop")
    for group in groups[:2]:
        for sample in group.samples:
            logits, _ = Eager(opened, group).forward(sample.prompt, blind=True)
            assert rows[sample.id, "no-image"]["confidence"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_faithfulness_is_the_change_of_the_baselines_first_token(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups[:1], "vgrefine")
    eager = Eager(opened, groups[0])
    for sample in groups[0].samples:
        row = rows[sample.id, "vgrefine"]
        plain = eager.forward(sample.prompt)[0].softmax(-1)
        gone = sorted(set(range(64)) - set(row["kept"]))
        for name, hidden in (("insertion", gone), ("deletion", row["kept"])):
            edited = eager.forward(sample.prompt, edits={KNOCKOUT: cutting(hidden)})[0].softmax(-1)
            token = int(plain.argmax())
            assert row[name] == pytest.approx(float(edited[token] - plain[token]), abs=1e-5)


def test_one_question_a_pass_gives_the_same_rows(opened: Sessions, groups: list[ImageGroup]) -> None:
    facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)
    decoding = benchmark("phantom", limit=1).decoding
    task = Refine(opened, {"vgrefine": parse("vgrefine")}, facts, decoding, mapping="exact", partner=lambda s: None)  # type: ignore[arg-type, return-value]
    together, alone = task.run(groups[:1], None), task.run(groups[:1], 1)
    for a, b in zip(together, alone, strict=True):
        assert (a["sample_id"], a["method"], a["answer"], a["kept"]) == (
            b["sample_id"],
            b["method"],
            b["answer"],
            b["kept"],
        )
        assert a["confidence"] == pytest.approx(b["confidence"], abs=1e-5)


@pytest.mark.parametrize(
    "text,said",
    [
        ("vgrefin", "Did you mean 'vgrefine'"),
        ("vgrefine:percentil=4", "Did you mean 'percentile'"),
        ("vgrefine:percentile=x", "percentile=x is not a number"),
        ("vgrefine:percentile=120", "not between 0 and 100"),
        ("random-keep:percentile=nan", "random-keep: percentile=nan is not a number. `vgtool methods` lists"),
        ("random-keep:percentile=-1", "random-keep: percentile=-1.0 is not between 0 and 100. 50 is the paper's."),
        ("random-heads:magnitude=2", "random-heads: magnitude=2.0 is not between 0 and 1. Give one that is"),
        ("vicrop:side=1", "vicrop: side=1 is no window of 2 pixels or more. Leave it out"),
        ("vgrefine:row=lest", "Did you mean 'last'"),
        ("baseline", "always answered"),
    ],
)
def test_a_mistyped_method_is_explained(text: str, said: str) -> None:
    with pytest.raises(VgError, match=said.replace("(", r"\(")):
        parse(text)


@pytest.mark.parametrize("label,said", [
    ("pai:start=6", "pai: start=6 does not fit a model of 6 layers. Give start=N with N from 0 to 5."),
    ("vicrop:layer=-1", "vicrop: layer=-1 does not fit a model of 6 layers. Give layer=N with N from 0 to 5."),
    ("vgrefine:layers=6", "--method vgrefine: knockout layers [6] do not fit a model of 6 layers. Give layers=N with"),
    ("var:dims=5+96", "var: dims=5+96, and the model has no dimension 96. Give dimensions from 0 to 95."),
    ("var:dims=-1", "var: dims=-1, and the model has no dimension -1. Give dimensions from 0 to 95."),
])  # fmt: skip
def test_a_value_beyond_the_model_is_a_sentence_with_what_fits(
    label: str, said: str, opened: Sessions, groups: list[ImageGroup]
) -> None:
    with pytest.raises(VgError) as caught:
        refined(opened, groups[:1], label)
    assert str(caught.value).startswith(said)


def test_a_ranked_head_that_the_model_does_not_have_is_named_before_the_run(opened: Sessions) -> None:
    for pair in ([2, 24], [50, 0]):
        spec = opened.adapter.spec.model_copy(update={"heads_ranked": [[1, 0], pair]})
        with pytest.raises(VgError, match=re.escape(f"ranks head {pair}")):
            read_facts(replace(opened.adapter, spec=spec), None, (), 0)


def test_swap_passes_over_an_image_that_cannot_be_opened() -> None:
    samples = list(benchmark("phantom", limit=30).samples)
    partner = {sample.id: other_image(samples, 0)(sample).tobytes() for sample in samples}
    gone = samples[0].image_id

    def missing() -> bytes:
        raise SampleError("image_missing", "'gone.png'")

    broken = [replace(s, image=ImageSource("gone.png", missing)) if s.image_id == gone else s for s in samples]
    again = {s.id: other_image(broken, 0)(s).tobytes() for s in samples}
    moved = [name for name in partner if again[name] != partner[name]]
    own = open_image(samples[0].image).tobytes()
    assert moved and all(partner[name] == own for name in moved), "only who looked at the lost image looks elsewhere"
    with pytest.raises(SampleError, match="no_other_image"):
        other_image([s for s in samples if s.image_id == gone], 0)(samples[0])


@pytest.mark.parametrize(
    "damage", [{"selected_by": None}, {"selected_by": {"image_ids": 3}}, {"knockout_layers": None}]
)
def test_a_head_file_with_a_key_of_another_kind_is_one_sentence(damage: dict[str, object], tmp_path: Path) -> None:
    whole = HeadFile("m", "r", 6, 6, {"image_ids": []}, [(0, 1, 0.5)], [2])
    head_files.write(tmp_path / "heads.json", whole)
    assert head_files.read(tmp_path / "heads.json") == whole
    (tmp_path / "heads.json").write_text(json.dumps(asdict(whole) | damage))
    with pytest.raises(VgError, match="is not a head file"):
        head_files.read(tmp_path / "heads.json")


def several(opened: Sessions, groups: list[ImageGroup], *labels: str) -> dict[str, dict[str, Any]]:
    """The rows of one question about two pictures."""
    shown = [group.images[0] for group in groups[:2]]
    sample = replace(groups[0].samples[0], extra_images=(groups[1].samples[0].image,))
    group = ImageGroup((sample,), tuple(shown), tuple(opened.adapter.prepare(image) for image in shown))
    facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)
    methods = {label: parse(label) for label in labels}
    decoding = benchmark("phantom", limit=1).decoding
    task = Refine(opened, methods, facts, decoding, mapping="exact", partner=lambda sample: shown[1])
    return {row["method"]: row for row in task.run([group], None)}


def test_controls_of_a_prompt_with_two_images_take_both_into_account(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    rows = several(opened, groups, "vgrefine", "centre", "blank", "noise", "oracle", "swap", "vicrop")
    kept = rows["vgrefine"]["kept"]
    count = [sum(token < 64 for token in kept), sum(token >= 64 for token in kept)]
    assert sum(count) == 64 and min(count) > 0
    middle = rows["centre"]["kept"]
    assert [sum(token < 64 for token in middle), sum(token >= 64 for token in middle)] == count
    assert {27, 28, 35, 36} <= set(middle) and {91, 92, 99, 100} <= set(middle), "the four middle cells of each"
    for method in ("oracle", "swap", "vicrop"):
        assert rows[method]["error"].startswith("several_images:")
    for method in ("blank", "noise"):
        assert rows[method]["error"] is None
        assert rows[method]["confidence"] != rows["baseline"]["confidence"]


def test_blank_and_noise_replace_every_image_at_its_own_size(opened: Sessions, groups: list[ImageGroup]) -> None:
    shown = tuple(group.images[0] for group in groups[:3])

    def scenes(*samples: Sample) -> SimpleNamespace:
        group = ImageGroup(samples, shown, ())
        return SimpleNamespace(groups=[group], group=np.zeros(1, int), facts=Facts(6, 6, (), (), 3))

    first = scenes(groups[0].samples[0])
    blank, noise = (parse(name).plan(first)[0].images or () for name in ("blank", "noise"))  # type: ignore[arg-type, union-attr]
    assert [image.size for image in blank] == [image.size for image in noise] == [image.size for image in shown]
    assert {image.getpixel((0, 0)) for image in blank} == {(128, 128, 128)}
    again = parse("noise").plan(scenes(groups[1].samples[0]))[0].images or ()  # type: ignore[arg-type, union-attr]
    assert noise[0].tobytes() != again[0].tobytes(), "another image, other noise"


@pytest.mark.parametrize("size", [(1024, 768), (768, 1024), (640, 480)])
def test_vicrop_crops_where_a_models_input_follows_the_image(size: tuple[int, int]) -> None:
    width, height = size
    grid = Grid(height // 28, width // 28)
    geometry = Geometry.squash(width, height, 28 * grid.cols, 28 * grid.rows, grid)
    values = np.zeros((grid.rows, grid.cols))
    values[2, 3] = 1.0
    facts = Facts(28, 28, (), (), 0, follows_image=True)
    scene = SimpleNamespace(image=Image.new("RGB", size), geometry=geometry, facts=facts)
    x0, y0, x1, y1 = window(values, scene)  # type: ignore[arg-type]
    assert (x1 - x0) * (y1 - y0) < width * height
    assert x0 <= 3.5 * width / grid.cols <= x1 and y0 <= 2.5 * height / grid.rows <= y1, "around the brightest cell"
    assert window(values, scene, least=2000) == (0, 0, width, height)  # type: ignore[arg-type]


def test_vicrops_map_spans_the_image_where_it_is_asked_to() -> None:
    geometry = Geometry.pad(1000, 500, 336, Grid(24, 24))  # rows 6 to 17 lie on the image
    values = np.zeros((24, 24))
    values[8, 3] = 1.0
    facts = Facts(32, 32, (), (), 0)
    scene = SimpleNamespace(image=Image.new("RGB", (1000, 500)), geometry=geometry, facts=facts)
    seen, whole = (window(values, scene, 100, over) for over in (False, True))  # type: ignore[arg-type]
    assert seen[1] <= 8.5 * 1000 / 24 - 250 <= seen[3], "padding taken off"
    assert whole[1] <= 8.5 * 500 / 24 <= whole[3] and not seen[1] <= 8.5 * 500 / 24 <= seen[3]


def test_more_heads_than_are_ranked_are_refused_when_they_are_asked_for(opened: Sessions) -> None:
    facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)
    assert len(parse("vgrefine").heads(facts)) == len(RANKED), "the default takes what there is"  # type: ignore[attr-defined]
    with pytest.raises(VgError, match="top_k=5, but 4 heads are ranked"):
        parse("vgrefine:top_k=5").heads(facts)  # type: ignore[attr-defined]


def test_the_rivals_defaults_are_their_originals() -> None:
    pai, adaptvis, vicrop = parse("pai"), parse("adaptvis"), parse("vicrop")
    published = {"alpha": 0.2, "gamma": 1.1, "start": 2, "first": "louder", "overview": "on"}
    assert asdict(pai) == published  # type: ignore[call-overload]
    published = {"threshold": 0.4, "unsure": 0.5, "sure": 1.5, "layers": 32, "decode": "off", "overview": "on"}
    assert asdict(adaptvis) == published  # type: ignore[call-overload]
    assert vicrop.where(Facts(32, 32, (), (), 0)) == 14  # type: ignore[attr-defined]
    assert vicrop.where(Facts(36, 16, (), (), 0, follows_image=True)) == 22  # type: ignore[attr-defined]
