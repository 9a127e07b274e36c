"""Figures: what they show is what the runs hold, and no text of the hard cases lies over text, lines or bars."""

import os
from pathlib import Path

import hard
import numpy as np
import polars as pl
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from reports import LAYERS, METHODS, build, own_benchmark, pair, probed, refined, store
from scipy.stats import binomtest

from vgtool.reporting import page as reporting
from vgtool.reporting.album import Pictures
from vgtool.reporting.figures.ablation import ablation, sweeps
from vgtool.reporting.figures.accuracy import accuracy
from vgtool.reporting.figures.draw import drawings
from vgtool.reporting.figures.examples import examples
from vgtool.reporting.figures.files import DATES, styled
from vgtool.reporting.figures.heads import head_map, ringed
from vgtool.reporting.figures.layers import layers
from vgtool.reporting.figures.modality import modality
from vgtool.reporting.figures.repairs import changed, repairs
from vgtool.reporting.figures.style import COLOURS, COLUMN, MARKERS, PAGE, called, label, series, spaced, wrapped
from vgtool.reporting.folder import FIGURE
from vgtool.reporting.heat import RELATIVE, laid, padded_peak, veil
from vgtool.reporting.inputs import Source, families, sources
from vgtool.reporting.maps import levels
from vgtool.reporting.mosaic import DPI
from vgtool.reporting.page import tables_of
from vgtool.scoring.frame import joined


def read(runs: list[Path]) -> tuple[list[Source], pl.DataFrame]:
    """The runs as a report reads them, and the frame of all tables."""
    found = sources(runs, None, False)
    return found, joined(tables_of(found, 0))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Runs of two models, one on natural images, and their report."""
    root = tmp_path_factory.mktemp("report")
    natural = [probed(i) | {"domain": "natural"} for i in range(20)]
    runs = [*pair(root), store(root / "n", "probe", natural, benchmark="nat", model="m2")]
    build(runs, root / "out", DATES)
    return runs, root / "out"


def test_every_figure_is_there_as_pdf_svg_and_png_at_one_of_two_widths_numbered_by_run(
    report: tuple[list[Path], Path],
) -> None:
    _, out = report
    stems = {"layers", "heads-1", "heads-3", "accuracy", "modality-accuracy-2", "modality-grounding-1", "ablation"}
    stems |= {"modality-grounding-3", "gain-2-1"}
    assert {path.stem for path in out.glob("*.pdf")} == stems
    for stem in stems:
        assert (out / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (out / f"{stem}.svg").read_text()
        with Image.open(out / f"{stem}.png") as drawn:
            assert min(abs(drawn.width / 220 - width) for width in (3.35, 7.0)) < 0.01 and drawn.height > 100


def test_the_same_runs_give_the_same_figures(report: tuple[list[Path], Path], tmp_path: Path) -> None:
    runs, out = report
    build(runs, tmp_path / "out", DATES)
    for one in out.iterdir():
        assert one.read_bytes() == (tmp_path / "out" / one.name).read_bytes(), one.name


def test_layer_curves_show_the_means_natural_images_are_dashed_and_the_last_layer_has_its_marker(
    tmp_path: Path,
) -> None:
    rows = [probed(i) for i in range(10)]
    runs = [store(tmp_path / "p", "probe", rows)]
    runs.append(store(tmp_path / "n", "probe", [row | {"domain": "natural"} for row in rows], benchmark="nat"))
    drawn = layers(*read(runs)).figure
    for axis, metric in zip(drawn.axes, ("layer_ratio", "layer_kl", "layer_js"), strict=True):
        curves = [line for line in axis.lines if len(line.get_xdata()) == LAYERS]
        assert [line.get_linestyle() for line in curves] == ["-", "--"]
        assert len({line.get_color() for line in curves}) == 1, "one model, one colour"
        assert all(LAYERS - 1 in line.get_markevery() for line in curves)
        expected = np.mean([row[metric] for row in rows], 0)
        np.testing.assert_allclose(curves[0].get_ydata(), expected, rtol=1e-5)


def test_markers_stand_on_the_first_and_the_last_point() -> None:
    assert spaced(0) == [] and spaced(1) == [0] and spaced(3) == [0, 1, 2]
    assert spaced(60)[0] == 0 and spaced(60)[-1] == 59 and len(spaced(60)) == 10


def test_the_head_map_rings_the_heads_of_the_refine_run(tmp_path: Path) -> None:
    found = sources(pair(tmp_path, 10), None, False)
    chosen = ringed(found[0], found[1:], None)
    cells, bar = head_map(found[0], chosen).figure.axes
    assert np.asarray(cells.collections[0].get_offsets()).tolist() == [[2, 1], [0, 0]]
    assert bar.get_ylabel() == "mean KL (lower grounds better)" and len(bar.get_yticks()) > 2
    assert all(side.get_visible() for side in cells.spines.values()), "a whole frame"


def test_accuracy_shows_every_method_and_its_gain_with_the_paired_interval_of_the_tables(tmp_path: Path) -> None:
    found, frame = read(pair(tmp_path))
    (drawn,) = accuracy(found[1:], frame)
    left, right = drawn.figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == METHODS
    answers = {m: np.array([r["answer"] == "yes" for i in range(40) for r in refined(i) if r["method"] == m])
               for m in METHODS}  # fmt: skip
    for axis, expected in (
        (left, [100 * answers[m].mean() for m in METHODS]),
        (right, [100 * (answers[m].mean() - answers["baseline"].mean()) for m in METHODS[1:]]),
    ):
        dots = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
        np.testing.assert_allclose(dots, expected, atol=1e-9)
    low, high = 100 * np.array(binomtest(int(answers["baseline"].sum()), 40).proportion_ci(method="wilson"))
    np.testing.assert_allclose(left.lines[0].get_xdata() if len(left.lines[0].get_xdata()) == 2 else
                               left.lines[1].get_xdata(), [low, high], rtol=1e-6)  # fmt: skip
    (gain,) = frame.filter(
        (pl.col("table") == "accuracy") & (pl.col("method") == "vgrefine") & (pl.col("metric") == "gain"),
        pl.col("field").is_null(),
    ).iter_rows(named=True)
    spans = [tuple(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2]
    assert (100 * gain["low"], 100 * gain["high"]) in spans


def test_what_one_page_does_not_hold_goes_on_the_next_or_is_said_to_be_left_out(tmp_path: Path) -> None:
    found, frame = read(hard.runs(tmp_path, "crowded"))
    pages = list(accuracy(found, frame))
    assert [one.stem for one in pages] == ["accuracy", "accuracy-part-2", "accuracy-part-3"]
    assert all(FIGURE.fullmatch(f"{one.stem}.svg") for one in pages), "the next report may take the place of this one"
    axes = [axis for page in pages for axis in page.figure.axes]
    assert [axis.get_title() for axis in axes[::2]] == [f"{one.run.identity['benchmark']} (all)" for one in found]
    assert [len(axis.get_yticks()) for axis in axes[::2]] == [9] * 5 + [36], "a page of methods"
    assert pages[-1].caption.endswith("The first 36 of 45 methods; the tables have all. Part 3 of 3.")
    grouped = modality(found[0], frame)
    assert len(grouped.figure.axes[0].get_yticks()) == 12
    assert grouped.caption.endswith("The 12 largest of 24 modalities; the tables have all.")
    swept = ablation(found, frame)
    assert swept is not None and swept.caption.endswith("The first 9 of 12 parameters; the tables have all.")


def test_an_ablation_holds_only_methods_that_differ_in_one_parameter(tmp_path: Path) -> None:
    methods = ["baseline", "a:k=1", "a:k=2", "a:k=2,p=5", "a:k=3,p=5", "b:k=1"]
    row = refined(0)[0]
    run = store(tmp_path / "r", "refine", [row | {"method": m} for m in methods], methods=methods)
    (one,) = sources([run], None, False)
    assert sweeps(one) == {
        ("a", "k", ""): {"1": "a:k=1", "2": "a:k=2"},
        ("a", "k", "p=5"): {"2": "a:k=2,p=5", "3": "a:k=3,p=5"},
    }


def test_no_line_joins_categories_and_one_joins_numbers(tmp_path: Path) -> None:
    methods = ["baseline", "a:k=1", "a:k=20", "a:how=mean", "a:how=max"]
    rows = [refined(i)[0] | {"method": m} for i in range(4) for m in methods]
    drawn = ablation(*read([store(tmp_path / "r", "refine", rows, methods=methods)]))
    assert drawn is not None
    numbers, names = drawn.figure.axes
    (line,) = [one for one in numbers.lines if one.get_marker() != "None"]
    assert line.get_linestyle() == "-" and numbers.get_xlabel() == "k" and list(line.get_xdata()) == [1, 20]
    (dots,) = [one for one in names.lines if one.get_marker() != "None"]
    assert dots.get_linestyle() == "None" and names.get_ylabel() == "how", "names run down the axis"
    assert [text.get_text() for text in names.get_yticklabels()] == ["mean", "max"]
    assert list(dots.get_ydata()) == [0, 1] and names.get_xlabel() == "gain, points"
    ((handle,), (text,)) = drawn.figure.legends[0].legend_handles, drawn.figure.legends[0].texts
    assert text.get_text() == "others at their defaults" and handle.get_linestyle() == "-", "as the line is drawn"


def test_runs_with_equal_curves_are_both_seen_and_said_and_a_legend_says_once_what_they_share(tmp_path: Path) -> None:
    rows = [hard.looked(i, layers=30, heads=2) for i in range(4)]
    runs = [store(tmp_path / kind, "probe", rows, dtype=kind) for kind in ("bfloat16", "float32")]
    drawn = layers(*read(runs))
    assert "On one another, for they are equal: dtype bfloat16 (medical) and dtype float32 (medical)." in drawn.caption
    (legend,) = drawn.figure.legends
    assert [text.get_text() for text in legend.texts] == ["dtype bfloat16 (medical)", "dtype float32 (medical)"]
    assert legend.get_title().get_text() == "m, b"
    for axis in drawn.figure.axes:
        one, other = (set(line.get_markevery()) for line in axis.lines if len(line.get_xdata()) == 30)
        assert one & other <= {0, 29} and {0, 29} <= one & other


def test_a_legend_tells_runs_apart_whose_names_are_cut_alike(tmp_path: Path) -> None:
    rows = [refined(0)[0]]
    long = "x" * 40
    runs = [store(tmp_path / f"{long}{at}{long}", "refine", rows) for at in range(2)]
    told, shared = called(sources(runs, None, False))
    assert len(set(told)) == 2 and all(len(text) <= 64 for text in told) and shared == "m, b"
    alone, nothing = called(sources(runs[:1], None, False))
    assert alone == ["m, b"] and nothing == ""


def test_no_two_of_many_series_look_alike_and_names_keep_both_ends() -> None:
    pairs = [(series(at)["color"], series(at)["marker"]) for at in range(len(COLOURS) * len(MARKERS))]
    assert len(set(pairs)) == len(pairs) == 56
    one, other = (label(f"{'a' * 60}, seed {seed}") for seed in (0, 1))
    assert one != other and len(one) == 44
    assert label("_hidden\n") == " _hidden?"
    assert wrapped("one two three four five six seven", 0.6, 6).endswith("…")


def test_layers_are_scaled_by_their_greatest_value_and_what_is_not_finite_is_no_value() -> None:
    values, tops = levels(np.array([[0.0, 1.0, 2.0], [np.nan, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert values.tolist() == [[0, 128, 255], [0, 255, 0], [0, 0, 0]] and tops == [2.0, 4.0, None]


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_examples_show_the_highest_and_lowest_attention_ratios_with_heat_and_boxes_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = own_benchmark(tmp_path / "data", 12)
    rows = [probed(i) for i in range(12)]
    for i, row in enumerate(rows):
        row["layer_ratio"][0] = [5.0, 4.0, 0.1, 0.2, 3.0, 2.0, 0.3, 0.4, 1.0, 1.1, 1.2, 1.3][i]  # layer 0 is best
    one = sources([store(tmp_path / "p", "probe", rows, benchmark=str(data), split="all")], None, False)
    many, few = examples(one, Pictures())
    (page,) = many.figure.axes
    # Two questions an image, six images: the three with the best questions, then the worst questions of the others.
    said = [text.get_text() for text in page.texts if text.get_text().startswith("ratio")]
    assert said == [f"ratio {r:.2f}\npeak 1" for r in (5, 3, 1.3, 0.1, 0.3, 1.0)]
    assert [text.get_text() for text in page.texts][-3:] == ["0", "peak", RELATIVE]
    *panels, bar = page.get_images()
    frames = [patch for patch in page.patches if patch.get_linestyle() == "solid"]
    assert len(panels) == len(frames) - 1 == 6
    for picture, frame in zip(panels, frames, strict=False):
        left, right, low, high = picture.get_extent()
        assert np.allclose((*frame.get_xy(), frame.get_width(), frame.get_height()),
                           (left, high, right - left, low - high))  # fmt: skip
        drawn = np.asarray(picture.get_array())
        assert drawn.shape == (round(DPI * (low - high)), round(DPI * (right - left)), 3), "a pixel is a pixel"
        # The grid covers (0, -25) to (100, 75), token 7 its second line's last quarter; the others have a tenth.
        weak, strong = ((np.array(colormaps["inferno"](v)[:3]), 0.8 * v**0.7) for v in (0.1, 1.0))
        red, blue = (1, 0, 0), (0, 0, 1)
        for x, y, (heat, share), scan in ((10, 10, weak, red), (90, 10, strong, blue), (90, 40, weak, blue)):
            seen = drawn[int(y / 50 * drawn.shape[0]), int(x / 100 * drawn.shape[1])]
            np.testing.assert_allclose(seen, 255 * (heat * share + np.array(scan) * (1 - share)), atol=1)
    box = next(patch for patch in page.patches if patch.get_linestyle() == "--")
    left, right, low, high = panels[0].get_extent()
    inch = (right - left) / 100
    place = (*box.get_xy(), box.get_width(), box.get_height())
    assert np.allclose(place, (left + 25 * inch, high, 25 * inch, 25 * inch))
    colours = np.asarray(bar.get_array())
    assert (colours[:, 0] == 255).all() and colours[0, -1].tolist() == np.rint(
        255 * (0.2 + 0.8 * np.array(colormaps["inferno"](1.0)[:3]))
    ).tolist(), "from clear to the peak"
    (page,) = few.figure.axes
    names = [text.get_text() for text in page.texts if text.get_text().startswith("layer")]
    assert names == ["layer 0 (best)", "layer 1", "layer 2"]
    bare, *rest = (np.asarray(one.get_array()).astype(int) for one in page.get_images()[: 1 + LAYERS])
    assert {tuple(colour) for colour in bare.reshape(-1, 3)} == {(255, 0, 0), (0, 0, 255)}, "the picture alone"
    for drawn, (x, y) in zip(rest, ((90, 12), (60, 12), (40, 12)), strict=True):  # tokens 7, 6 and 5
        light = drawn.sum(-1)
        assert light[int(y / 50 * len(light)), int(x / 100 * light.shape[1])] == light.max(), "a layer each"
    monkeypatch.setattr(reporting, "drawings", lambda *given: iter(()))  # no figures but those of images
    build([tmp_path / "p"], tmp_path / "without", DATES)
    build([tmp_path / "p"], tmp_path / "with", DATES, pictures=Pictures())
    assert not [*(tmp_path / "without").glob("examples*"), *(tmp_path / "without").glob("depth*")]
    assert len(list((tmp_path / "with").glob("examples-1.*"))) == len(list((tmp_path / "with").glob("depth-1.*"))) == 3
    with Image.open(tmp_path / "with" / "depth-1.png") as drawn:  # the first panel has no heat
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 0, 0), (0, 0, 255)} <= colours, "the scan's own colours"


def test_a_peak_in_the_padding_is_found_and_shown_as_a_margin(tmp_path: Path) -> None:
    heat = np.zeros((4, 4))
    assert not padded_peak(heat, (100, 50), (0, -25, 100, 75))
    heat[1, 3] = 1
    assert not padded_peak(heat, (100, 50), (0, -25, 100, 75))
    heat[0, 3] = 2
    assert padded_peak(heat, (100, 50), (0, -25, 100, 75))
    data = own_benchmark(tmp_path / "data", 4)
    rows = [probed(i, hot=(0, 6, 5)) for i in range(4)]
    one = sources([store(tmp_path / "p", "probe", rows, benchmark=str(data), split="all")], None, False)
    many, _ = examples(one, Pictures())
    (page,) = many.figure.axes
    picture = page.get_images()[0]
    left, right, low, high = picture.get_extent()
    assert low - high == pytest.approx(right - left, abs=0.01), "all that the model saw"
    drawn = np.asarray(picture.get_array()).astype(int)
    edge, scan = drawn[len(drawn) // 8, -1], drawn[len(drawn) // 2, -1]
    assert np.ptp(edge) < 40 and edge.max() < 100 and scan[2] > 150, "a dark margin above the picture"
    assert any(text.get_text().endswith("in the padding") for text in page.texts)


def test_before_and_after_shows_fixed_answers_above_broken_ones_with_what_was_hidden(tmp_path: Path) -> None:
    data = own_benchmark(tmp_path / "data", 40)
    found = sources(pair(tmp_path, 40, benchmark=str(data), split="all"), None, False)
    changes = changed(found[1], "vgrefine", seed=0)
    # By hand: every fourth is fixed; of the odd ones, which were right, every fifth is broken.
    assert set(changes["fixed"]) <= {f"s{i}" for i in range(0, 40, 4)}
    assert set(changes["broken"]) == {f"s{i}" for i in (5, 15, 25, 35)}
    (drawn,) = repairs(families(found), Pictures(), seed=0)
    (page,) = drawn.figure.axes
    said = [text.get_text() for text in page.texts if not text.get_text().startswith("Is there")]
    fixed, broken = ["baseline: no (wrong)", "vgrefine: yes (right)"], ["baseline: yes (right)", "vgrefine: no (wrong)"]
    assert said == [*fixed, *fixed, *broken, *broken]
    for before, after in zip(page.get_images()[::2], page.get_images()[1::2], strict=True):
        was, now = (np.asarray(one.get_array()).astype(int).sum(-1) for one in (before, after))
        half = len(was) // 2
        assert (now[: half - 1] == was[: half - 1]).all() and (now[half + 1 :] < was[half + 1 :]).all()  # tokens 0 to 7
    only = {"benchmark": str(data), "split": "all", "methods": ["baseline", "vgrefine"]}
    rows = [row for i in range(0, 40, 4) for row in refined(i) if row["method"] in ("baseline", "vgrefine")]
    (drawn,) = repairs(families(sources([store(tmp_path / "f", "refine", rows, **only)], None, False)), Pictures(), 0)
    assert "Answers that it fixed" in drawn.caption and "broke" not in drawn.caption, "no row that is not there"


def test_cells_and_picture_lie_where_their_boxes_say_whatever_the_resolution() -> None:
    """By hand, pixel by pixel: a picture 4 x 2 in a view of its padding, and a grid of 2 x 2 beside it."""
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) + 100
    view, grid_box = (-2.0, -1.0, 6.0, 3.0), (0.0, 0.0, 8.0, 4.0)
    cells = veil(np.array([[1, 0], [1, 1]]))
    for scale in (1, 3):
        shown = laid(picture, (4, 2), view, (8 * scale, 4 * scale), cells, grid_box)
        for row in range(4 * scale):
            for col in range(8 * scale):
                x, y = view[0] + (col + 0.5) / scale, view[1] + (row + 0.5) / scale
                inside = 0 <= x < 4 and 0 <= y < 2
                expected = picture[int(y), int(x)].astype(float) if inside else np.full(3, 0x3A, float)
                if 4 <= x < 8 and 0 <= y < 2:  # the one hidden cell
                    expected = 0.2 * expected + 0.8 * np.array([20, 20, 40])
                assert shown[row, col].tolist() == np.rint(expected).tolist(), (scale, row, col)
    grey = laid(None, (4, 2), (0.0, 0.0, 4.0, 2.0), (4, 2))
    assert (grey == 0xBB).all(), "no picture"


# ---- hard cases --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Glyph")  # the captions say so
@pytest.mark.parametrize("case", hard.CASES)
def test_no_text_of_a_hard_case_lies_over_text_lines_or_bars(case: str, tmp_path: Path) -> None:
    """VGTOOL_SCREENSHOTS=DIR keeps the pictures, to be looked at."""
    runs = hard.runs(tmp_path, case)
    found, frame = read(runs)
    kept = os.environ.get("VGTOOL_SCREENSHOTS")
    grouped, pictures = families(found), Pictures()
    with styled():
        drawn = [*drawings(found, grouped, frame, None, 0), *examples(found, pictures), *repairs(grouped, pictures, 0)]
        for one in drawn:
            assert hard.faults(one.figure) == [], one.stem
            assert one.figure.get_figwidth() in (COLUMN, PAGE), one.stem
            assert one.figure.get_figheight() < 9.5, "a page is no longer"
            if kept is not None:
                (Path(kept) / case).mkdir(parents=True, exist_ok=True)
                one.figure.savefig(Path(kept) / case / f"{one.stem}.png")


def test_the_fault_finder_finds_faults() -> None:
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [0.5, 0.5])
    axis.bar([0.2], [0.3], 0.2)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    for x, y, text in ((0.5, 0.5, "struck"), (0.2, 0.2, "barred"), (0.8, 0.8, "over"), (0.8, 0.8, "under")):
        axis.text(x, y, text)
    axis.text(3, 0.2, "beside")
    said = {"a line over 'struck'", "a bar over 'barred'", "'over' over 'under'", "'beside' beside the figure"}
    assert set(hard.faults(figure)) == said
