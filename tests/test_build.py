"""Masks to a benchmark: boxes, regions and attributes against skimage and drawings; layouts; bad input; a run."""

import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from masked import SIZE, blank, coco, drawn, label_map, made, random_mask, rows, samed2d, save
from PIL import Image
from reports import brief
from scipy import ndimage
from skimage.draw import disk, ellipse, polygon2mask
from skimage.measure import label as connected
from skimage.measure import regionprops
from skimage.morphology import dilation
from typer.testing import CliRunner

from vgtool.benchmarks.load import load
from vgtool.build import measure, questions
from vgtool.commands import app
from vgtool.errors import VgError
from vgtool.grounding import runlength
from vgtool.grounding.geometry import Geometry
from vgtool.records import Box, Grid

# ---- measured against others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_components_are_those_of_scipy_and_skimage(seed: int) -> None:
    mask = random_mask(seed)
    (rows, cols), *_ = ndimage.find_objects(mask.astype(int))
    assert measure.box_around(mask) == Box(cols.start, rows.start, cols.stop, rows.stop)
    wanted = sorted(
        (r.bbox[0], r.bbox[1], r.bbox[3], r.bbox[2], int(r.area)) for r in regionprops(connected(mask, connectivity=2))
    )
    found = sorted((p.box.y0, p.box.x0, p.box.x1, p.box.y1, p.area) for p in measure.components(mask))
    assert found == wanted


def test_a_box_includes_its_last_pixel() -> None:
    assert measure.box_around(drawn((slice(3, 4), slice(7, 8)))) == Box(7, 3, 8, 4)
    assert measure.box_around(np.ones((5, 9), bool)) == Box(0, 0, 9, 5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("model", ["pad", "squash", "crop"])
def test_a_mask_region_holds_the_cells_of_every_pixel_and_no_other(seed: int, model: str) -> None:
    mask = random_mask(seed)
    height, width = mask.shape
    geometry = {
        "pad": Geometry.pad(width, height, 84, Grid(6, 6)),
        "squash": Geometry.squash(width, height, 84, 84, Grid(6, 6)),
        "crop": Geometry.crop(width, height, 84, 84, Grid(6, 6)),
    }[model]
    pixels = (Box(float(x), float(y), x + 1.0, y + 1.0) for y, x in zip(*np.nonzero(mask), strict=True))
    wanted = {token for pixel in pixels for token in geometry.region([pixel])}
    assert geometry.mask_region(mask) == sorted(wanted)


@pytest.mark.parametrize("seed", range(6))
def test_axes_are_those_of_skimage(seed: int) -> None:
    mask = random_mask(seed)
    props = regionprops(mask.astype(int))[0]
    wanted = [np.sqrt(axis**2 + 16 / 12) for axis in (props.axis_major_length, props.axis_minor_length)]
    assert measure.axes(mask) == pytest.approx(wanted)  # skimage's pixels are points, ours unit squares


@pytest.mark.parametrize("seed", range(6))
def test_the_ring_is_a_square_dilation_without_the_mask(seed: int) -> None:
    mask = random_mask(seed)
    gray = np.random.default_rng(seed).integers(0, 255, mask.shape).astype(np.uint8)
    reach = max(2, round(0.1 * np.sqrt(mask.sum())))
    ring = dilation(mask, np.ones((2 * reach + 1,) * 2)) & ~mask
    inside, around = measure.inside_and_ring(gray, mask)
    assert sorted(inside) == sorted(gray[mask]) and sorted(around) == sorted(gray[ring])


@pytest.mark.parametrize("seed", range(6))
def test_side_and_quadrant_follow_the_share_of_pixel_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = drawn(disk(tuple(rng.uniform(12, 60, 2)), 10, shape=(71, 73)), 71, 73)
    ys, xs = np.nonzero(mask)
    left, up = xs + 0.5 < 73 / 2, ys + 0.5 < 71 / 2
    right, down = xs + 0.5 > 73 / 2, ys + 0.5 > 71 / 2
    sides = {"left": left.mean(), "right": right.mean()}
    quarters = {
        f"{a} {b}": (v & h).mean()
        for a, v in (("upper", up), ("lower", down))
        for b, h in (("left", left), ("right", right))
    }
    for found, shares in ((measure.side(mask), sides), (measure.quadrant(mask), quarters)):
        assert found == next((name for name, share in shares.items() if share >= 0.8), None)


def test_attributes_of_drawings_are_what_was_drawn_and_unclear_ones_are_left_out() -> None:
    left, middle = drawn(disk((20, 20), 10)), drawn(disk((48, 48), 10))
    assert (measure.side(left), measure.quadrant(left)) == ("left", "upper left")
    assert (measure.side(middle), measure.quadrant(middle)) == (None, None)
    assert measure.quadrant(drawn(disk((80, 75), 10))) == "lower right"
    assert measure.side(drawn((slice(0, 5), slice(4, 5)), 9, 9)) is None  # the middle column is on neither side
    assert measure.border(left) == "no"
    assert measure.border(drawn((slice(0, 9), slice(20, 30)))) == "yes"
    assert measure.border(drawn((slice(40, 50), slice(90, 96)))) == "yes"
    assert measure.border(drawn((slice(2, 9), slice(20, 30)))) is None
    assert measure.shape(left) == "round"
    assert measure.shape(drawn(ellipse(48, 48, 30, 9))) == "elongated"
    assert measure.shape(drawn(ellipse(48, 48, 20, 13))) is None
    ring = left & ~drawn(disk((20, 20), 8))
    assert measure.shape(ring) is None
    assert measure.shape(left | drawn(disk((70, 70), 10))) is None
    assert measure.shape(drawn(disk((0, 20), 10, shape=(SIZE, SIZE)))) is None
    gray = np.full((SIZE, SIZE), 100, np.uint8)
    assert measure.tone(gray, left) is None
    assert measure.tone(np.where(left, 140, gray), left) == "brighter"
    assert measure.tone(np.where(left, 60, gray), left) == "darker"
    noisy = np.random.default_rng(0).integers(0, 255, gray.shape).astype(np.uint8)
    assert measure.tone(np.clip(noisy + np.where(left, 20, 0), 0, 255), left) is None
    assert measure.larger(150, 100) is True and measure.larger(100, 150) is False and measure.larger(149, 100) is None


def test_a_count_needs_instances_that_are_the_parts_and_no_speck() -> None:
    two = drawn(disk((20, 20), 6)) | drawn(disk((70, 70), 6))
    parts = measure.components(two)
    assert measure.count(two, parts, 16) == 2
    assert measure.count(two, parts[:1], 16) is None
    speck = two.copy()
    speck[5, 90] = True
    assert measure.count(speck, measure.components(speck), 16) is None


@pytest.mark.parametrize("seed", range(5))
def test_polygons_fill_the_pixels_whose_centres_are_inside(seed: int) -> None:
    corners = np.random.default_rng(seed).uniform(-10, 70, (7, 2))
    wanted = polygon2mask((50, 60), corners[:, ::-1] - 0.5)  # skimage's pixel centres are whole numbers
    found = measure.polygon([tuple(corner) for corner in corners], 60, 50)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_coco_s_and_come_back(seed: int) -> None:
    mask = random_mask(seed)
    written = runlength.encode(mask)
    assert np.array_equal(runlength.decode(written), mask)
    coco = pytest.importorskip("pycocotools.mask")
    assert np.array_equal(coco.decode(coco.frPyObjects(written, *mask.shape)) > 0, mask)
    with pytest.raises(ValueError, match="do not fill"):
        runlength.decode({**written, "counts": written["counts"][:-1]})


def area(masks: Path, stem: str, name: str) -> int:
    files = masks.glob(f"{stem}_{name.replace(' ', '_')}_*")
    return sum(int((np.asarray(Image.open(path)) > 0).sum()) for path in files)


# ---- questions -------------------------------------------------------------------------------------------------------


def test_every_answer_of_a_built_benchmark_holds_in_its_mask(tmp_path: Path) -> None:
    built = made(samed2d(tmp_path / "in"), tmp_path / "out")
    assert built.failures == 0
    seen = Counter()
    for row in rows(tmp_path / "out"):
        kind = row["id"].split("-")[0]
        seen[kind] += 1
        if row["reference"] == "no" and kind == "localization":
            assert "mask" not in row and row["boxes"] == []
            continue
        mask = np.asarray(Image.open(tmp_path / "out" / row["mask"])) > 0
        props = regionprops(connected(mask, connectivity=2))
        boxes = sorted([r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]] for r in props)
        assert sorted(row["boxes"]) == boxes
        ys, xs = np.nonzero(mask)
        gray = np.asarray(Image.open(tmp_path / "out" / row["image"]).convert("L")).astype(float)
        answers = {
            "localization": "yes",
            "side": "left" if xs.mean() < SIZE / 2 else "right",
            "quadrant": f"{'upper' if ys.mean() < SIZE / 2 else 'lower'} {'left' if xs.mean() < SIZE / 2 else 'right'}",
            "tone": "brighter" if gray[mask].mean() > gray[~mask].mean() else "darker",
            "count": str(len(props)),
            "border": "yes" if xs.min() == 0 or ys.min() == 0 else "no",
            "shape": "elongated" if "liver" in row["question"] else "round",
        }
        if kind == "size":
            stem = Path(row["image"]).stem
            areas = {name: area(tmp_path / "in" / "masks", stem, name) for name in row["choices"]}
            pick = max if any(word in row["question"] for word in ("more", "larger")) else min
            assert row["reference"] == pick(areas, key=areas.__getitem__)
        else:
            assert row["reference"] == answers[kind], row
        assert row["question_type"] == ("choice" if row.get("choices") else "closed")
    assert set(seen) == {"localization", "side", "quadrant", "size", "tone", "count", "border", "shape"}


def test_absent_classes_are_asked_as_often_as_present_ones_class_by_class(tmp_path: Path) -> None:
    built = made(samed2d(tmp_path / "in", 24), tmp_path / "out", splits={"train": 0.5, "test": 0.5})
    for split in ("train", "test"):
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows(tmp_path / "out", split):
            if row["id"].startswith("localization"):
                name = next(one for one in ("liver", "kidney", "small tumor spot") if one in row["question"])
                table[name][row["reference"]] += 1
                stem = Path(row["image"]).stem
                present = list((tmp_path / "in" / "masks").glob(f"{stem}_{name.replace(' ', '_')}_*"))
                assert bool(present) == (row["reference"] == "yes")
        assert "liver" not in table  # in every picture, so it cannot be balanced
        assert {"kidney", "small tumor spot"} >= set(table) and table
        assert all(counts["yes"] == counts["no"] for counts in table.values())
    assert built.counts["left_out"]["localization: no picture without the class to balance it"] >= 24


def test_a_name_that_tells_its_side_is_not_asked_for_it() -> None:
    assert questions.tells("left lung", "side") and questions.tells("Upper-lobe", "quadrant")
    assert not questions.tells("left lung", "shape") and questions.tells("small bowel", "size")


def test_patients_and_equal_pictures_never_share_splits(tmp_path: Path) -> None:
    root = samed2d(tmp_path / "in", 40)
    first, other = (root / "images" / f"ct_00--demo--case{c}--x_{i:04d}.png" for c, i in ((0, 0), (19, 38)))
    shutil.copyfile(first, other)
    made(root, tmp_path / "out", splits={"train": 0.5, "test": 0.3, "dev": 0.2})
    at: dict[str, set[str]] = defaultdict(set)
    for split in ("train", "test", "dev"):
        for row in rows(tmp_path / "out", split):
            case = row["image"].split("--")[2]
            at["case0" if case == "case19" else case].add(split)
    assert len(at) == 19 and all(len(splits) == 1 for splits in at.values())
    assert len(set.union(*at.values())) == 3


@pytest.mark.parametrize("pattern", [r"x_\d*(\d)$", r"x_\d*\d(?=$)", r"--(nobody)", r"case(x)?"])
def test_a_patient_is_what_the_pattern_finds_or_else_what_the_file_says(pattern: str, tmp_path: Path) -> None:
    """By its group, by all of it; not there at all, or its group empty: case0 to case9 of the files' names."""
    root, out = samed2d(tmp_path / "in", 20), tmp_path / "out"
    made(root, out, splits={"train": 0.5, "test": 0.5}, patient=re.compile(pattern), negatives="none")
    at: dict[str, set[str]] = defaultdict(set)
    for split in ("train", "test"):
        for row in rows(out, split):
            stem = Path(row["image"]).stem
            unit = stem[-1] if r"(\d)" in pattern else stem if "?=" in pattern else stem.split("--")[2]
            at[unit].add(split)
    assert len(at) == (20 if "?=" in pattern else 10) and all(len(splits) == 1 for splits in at.values())
    assert json.loads((out / "counts.json").read_text())["split_by"] == {"patient": 20}


def test_filters_are_counted_and_a_filtered_class_is_no_negative(tmp_path: Path) -> None:
    built = made(samed2d(tmp_path / "in"), tmp_path / "out", max_share=0.05, min_pixels=100)
    assert built.counts["left_out"]["filter: covers too much of the grid"] == 12  # the liver: 40 x 15 of 96 x 96
    assert built.counts["left_out"]["filter: too small"] == 4
    asked = [row["question"] for row in rows(tmp_path / "out")]
    assert asked and not any("liver" in question or "spot" in question for question in asked)


def test_seed_and_content_decide_not_the_order_of_the_input(tmp_path: Path) -> None:
    def content(out: Path) -> dict[str, bytes]:
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    root = coco(tmp_path / "a")
    raw = json.loads(root.read_text())
    for name, seed in (("same", 0), ("other", 1)):
        shutil.copytree(root.parent, tmp_path / name)
        shuffled = {key: list(reversed(value)) for key, value in raw.items()}
        (tmp_path / name / "set.json").write_text(json.dumps(shuffled))
        made(tmp_path / name / "set.json", tmp_path / f"{name}-out", seed=seed)
    made(root, tmp_path / "a-out")
    assert content(tmp_path / "a-out") == content(tmp_path / "same-out")
    assert content(tmp_path / "a-out")["test.jsonl"] != content(tmp_path / "other-out")["test.jsonl"]


# ---- bad input and commands ------------------------------------------------------------------------------------------


def vgtool(*args: str | Path) -> SimpleNamespace:
    """The command in this process: torch is imported once."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if done.exception is not None and not isinstance(done.exception, (SystemExit, VgError)):
        raise done.exception
    mistake = done.exception if isinstance(done.exception, VgError) else None
    code = mistake.exit_code if mistake else done.exit_code
    return SimpleNamespace(returncode=code, stdout=done.stdout, stderr=f"{done.stderr}{mistake or ''}")


def test_bad_input_is_named_counted_and_skipped_and_the_rest_is_built(tmp_path: Path) -> None:
    root = samed2d(tmp_path / "in", 8)
    stem = "ct_00--demo--case{}--x_{:04d}"
    masks = root / "masks"
    save(masks / f"{stem.format(0, 0)}_spleen_000.png", blank())
    save(masks / f"{stem.format(0, 1)}_spleen_000.png", np.ones((SIZE, SIZE + 1)))
    save(masks / "nobody_spleen_000.png", drawn(disk((9, 9), 5)))
    save(masks / f"{stem.format(1, 2)}--0007_000.png", drawn(disk((9, 9), 5)))
    (masks / f"{stem.format(1, 3)}_spleen_000.png").write_bytes(b"no picture")
    save(masks / f"{stem.format(2, 4)}_spleen_000.png", np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 7)
    (root / "images" / f"{stem.format(3, 7)}.png").write_bytes(
        (root / "images" / f"{stem.format(3, 6)}.png").read_bytes()[:400]
    )
    save(root / "images" / "lonely.png", np.zeros((SIZE, SIZE)))
    done = vgtool("build", "--masks", root, "--out", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert Counter(one["code"] for one in skipped) == {
        "mask_empty": 1,
        "mask_size": 1,
        "mask_without_image": 1,
        "unknown_class": 1,
        "mask_unreadable": 1,
        "mask_not_binary": 1,
        "image_truncated": 1,
        "image_without_mask": 1,
    }
    assert json.loads((tmp_path / "out" / "counts.json").read_text())["skipped"] == Counter(
        one["code"] for one in skipped
    )
    assert "7 inputs skipped" in done.stderr
    found = load("out", registry=tmp_path / "out")
    assert found.rows and not found.rejected
    assert not any("spleen" in sample.question for sample in found.samples)


def test_an_unknown_value_of_a_label_map_is_told_and_the_known_ones_are_built(tmp_path: Path) -> None:
    values = label_map()
    values[0, :9] = 9
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "labels" / "a.png", values)
    (tmp_path / "in" / "names.json").write_text('{"1": "lesion"}')
    built = made(tmp_path / "in", tmp_path / "out", negatives="none")
    assert built.counts["skipped"] == {"unknown_class": 2} and built.failures == 2


@pytest.mark.parametrize("words,said", [
    ("--questions side,sidde", "No question kind 'sidde'. Did you mean 'side'?"),
    ("--name ../x", "'../x' is no plain name for a benchmark. Give a --name of letters"),
    ("--name=", "'' is no plain name for a benchmark. Give a --name"),
    ("--splits train", "--splits has 'train'. Write for example train=0.8,test=0.2."),
    ("--splits train=half", "--splits has 'train=half'. Write"),
    ("--splits train=nan", "--splits has 'train=nan'. Write"),
    ("--splits train=0.8,train=0.2", "--splits has 'train=0.2'. Write"),
    ("--splits Train=1", "--splits cannot call a split 'Train'. Use small letters"),
    ("--splits all=1", "--splits cannot call a split 'all'. Use"),
    ("--splits skipped=0.5,test=0.5", "--splits cannot call a split 'skipped'. Use"),  # it has a file of that name
    ("--patient (case", "--patient '(case' is no regular expression: missing ), unterminated"),
    ("--patient case[a-z]", "--patient 'case[a-z]' is found in no path of an image, such as 'scan_0.png'. Correct it"),
    ("--slices 0", "--slices '0' is not known. Give largest, all, or a number."),
    ("--slices ²", "--slices '²' is not known. Give"),  # a digit to Python, and no number
    ("--window=5,1", "--window '5,1' is not two rising numbers. Write for example --window=-160,240."),
    ("--window=-inf,inf", "--window '-inf,inf' is not two rising numbers. Write"),
    ("--window=nan,5", "--window 'nan,5' is not two rising numbers. Write"),
    ("--window=5", "--window '5' is not two rising numbers. Write"),
    ("--names gone.txt", "--names 'gone.txt' is no file. Name the file that says what the values stand for."),
])  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_in_one_sentence(words: str, said: str, tmp_path: Path) -> None:
    save(tmp_path / "in" / "scan_0.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "scan_0_liver_000.png", label_map() == 2)
    done = vgtool("build", "--masks", tmp_path / "in", "--out", tmp_path / "out", *words.split())
    assert done.returncode == 2 and done.stderr.startswith(said)
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_name_cannot_be_a_benchmarks_asks_for_a_name(tmp_path: Path) -> None:
    words = ("build", "--masks", samed2d(tmp_path / "in", 2), "--out", tmp_path / "my bench", "--negatives", "none")
    done = vgtool(*words)
    assert done.returncode == 2 and done.stderr.startswith("'my bench' is no plain name for a benchmark. Give a --name")
    assert vgtool(*words, "--name", "mine").returncode == 0


def test_nothing_is_overwritten_and_no_empty_benchmark_is_left(tmp_path: Path) -> None:
    root = samed2d(tmp_path / "in", 2)
    with pytest.raises(VgError, match="not an empty folder"):
        made(root, root)
    with pytest.raises(VgError, match="lies in the folder"):
        made(root, root / "out")
    with pytest.raises(VgError, match="No question comes"):
        made(root, tmp_path / "none", max_share=0.0)
    assert not (tmp_path / "none").exists()


def test_probe_refine_score_and_report_run_on_a_built_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief(monkeypatch)
    out = tmp_path / "scans"
    built = vgtool(
        "build", "--masks", samed2d(tmp_path / "in", 4), "--out", out, "--questions", "localization,side,size", "--json"
    )
    assert built.returncode == 0, built.stderr
    number = json.loads(built.stdout)["rows"]
    run = ("--model", "phantom-vlm", "--registry", out, "--benchmark", "scans", "--offline")
    for region in ("box", "mask"):
        done = vgtool("probe", *run, "--region", region, "--out", tmp_path / region)
        assert done.returncode == 0, done.stderr
    tables = {
        r: pl.concat([pl.read_parquet(p) for p in (tmp_path / r / "parts").glob("*.parquet")]) for r in ("box", "mask")
    }
    assert tables["box"].height == tables["mask"].height == number
    joined = tables["box"].join(tables["mask"], on="sample_id")
    pairs = [(set(a), set(b)) for a, b in joined.select("region", "region_right").iter_rows()]
    assert all(b <= a for a, b in pairs) and any(b < a for a, b in pairs)
    again = vgtool("probe", *run, "--region", "box", "--out", tmp_path / "mask")
    assert again.returncode == 2 and "region" in again.stderr
    done = vgtool("refine", *run, "--method", "no-image", "--out", tmp_path / "refined")
    assert done.returncode == 0, done.stderr
    scored = vgtool("score", tmp_path / "refined", "--by", "question_type")
    assert scored.returncode == 0 and "closed" in scored.stdout and "choice" in scored.stdout
    runs = (tmp_path / "box", tmp_path / "refined")
    assert vgtool("report", *runs, "--out", tmp_path / "page").returncode == 0
    assert (tmp_path / "page" / "index.html").is_file()
    direct = vgtool(
        "probe", "--model", "phantom-vlm", "--benchmark", out / "test.jsonl", "--limit", "3", "--out", tmp_path / "d"
    )
    assert direct.returncode == 0, direct.stderr


def test_region_mask_fails_a_sample_that_has_boxes_only(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "m.png", label_map())
    given = {"image": "a.png", "question": "Is there a lesion?", "boxes": [[10, 10, 30, 30]]}
    lines = [
        {"id": "boxes", **given},
        {"id": "value", **given, "mask": "m.png", "mask_value": 2},
        {"id": "runs", **given, "mask": runlength.encode(label_map() == 2)},
        {"id": "any", **given, "mask": "m.png"},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = vgtool(
        "probe",
        "--model",
        "phantom-vlm",
        "--benchmark",
        tmp_path / "q.jsonl",
        "--region",
        "mask",
        "--out",
        tmp_path / "r",
    )
    assert done.returncode == 3, done.stderr
    table = pl.concat([pl.read_parquet(p) for p in (tmp_path / "r" / "parts").glob("*.parquet")])
    found = {row["sample_id"]: row for row in table.to_dicts()}
    assert found["boxes"]["error"].startswith("no_mask")
    assert found["value"]["region"] == found["runs"]["region"]
    assert set(found["value"]["region"]) < set(found["any"]["region"])


@pytest.mark.parametrize(
    "form,option",
    [
        ("samed2d", {"names": Path("names.txt")}),
        ("coco", {"slices": "all"}),
        ("coco", {"names": Path("names.txt")}),
        ("dicom", {"axis": 0}),
        ("slake", {"window": (0.0, 1.0)}),
        ("pairs", {"slices": "3"}),
    ],
)
def test_an_option_that_the_layout_does_not_read_is_refused(
    form: str, option: dict[str, Any], tmp_path: Path
) -> None:
    path = coco(tmp_path / "in") if form == "coco" else tmp_path
    with pytest.raises(VgError, match=f"--{next(iter(option))} means nothing for format '{form}'"):
        made(path, tmp_path.with_name("out"), form, **option)


def test_a_window_shows_dicom_images_of_a_coco_file_too(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    import scans

    path = coco(tmp_path / "in")
    values = np.full((SIZE, SIZE), 50)
    values[:, SIZE // 2 :] = 300
    (tmp_path / "in" / "images" / "0.dcm").write_bytes(scans.encoded(scans.dataset(values)))
    raw = json.loads(path.read_text())
    raw["images"][0]["file_name"] = "0.dcm"
    path.write_text(json.dumps(raw))
    for name, window, levels in (("narrow", (100.0, 200.0), {0, 255}), ("wide", (50.0, 550.0), {0, 127, 128})):
        made(path, tmp_path / name, negatives="none", window=window)
        seen = np.asarray(Image.open(next((tmp_path / name / "images").glob("0*.png"))))
        assert set(np.unique(seen)) <= levels and len(np.unique(seen)) == 2
