"""Grounding metrics, triage, head ranking and geometry against scipy and cases worked by hand."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from vgtool.errors import VgError
from vgtool.grounding import heads, triage
from vgtool.grounding.geometry import Geometry
from vgtool.grounding.metrics import grounding, relative_attention
from vgtool.methods.probe import Probe
from vgtool.records import Box, Grid


def test_a_uniform_map_has_ratio_one() -> None:
    found = grounding(np.ones(9), [0, 4])
    assert found.ratio == pytest.approx(1, abs=1e-6)
    assert found.kl == pytest.approx(math.log(9 / 2), abs=1e-6)


def test_a_three_by_three_case_worked_by_hand() -> None:
    # r = 1 everywhere, 4 on the region {4, 5}: sum 15, mean 15/9; AR = 8 / (15/9 * 2) = 2.4; a = 4/15 on the region.
    r = np.ones(9)
    r[[4, 5]] = 4
    found = grounding(r, [4, 5])
    assert found.ratio == pytest.approx(2.4, abs=1e-6)
    assert found.kl == pytest.approx(math.log(0.5 / (4 / 15)), abs=1e-6)


def test_divergences_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    r = rng.gamma(1.0, size=(5, 3, 16))
    region = [1, 2, 7]
    m = np.zeros(16)
    m[region] = 1 / 3
    a = r / r.sum(-1, keepdims=True)
    found = grounding(r, region)
    assert np.allclose(found.kl, rel_entr(m, a).sum(-1), atol=1e-6)
    assert np.allclose(found.js, jensenshannon(a, np.broadcast_to(m, a.shape), axis=-1) ** 2, atol=1e-6)


def test_the_metrics_small_constants_are_the_papers() -> None:
    """Attention so small that they show, by hand: AR + 1e-8, a over sum + 1e-8, KL's clip at 1e-12, JS's 1e-8."""
    found = grounding(np.array([1e-8, 3e-8]), [1])
    assert found.ratio == pytest.approx(3e-8 / (2e-8 + 1e-8), rel=1e-12)
    assert found.kl == pytest.approx(math.log(1 / 0.6), abs=1e-10)  # a = 1e-8 / 5e-8 and 3e-8 / 5e-8
    found = grounding(np.array([0.0, 2.0]), [0])
    assert found.kl == pytest.approx(math.log(1 / 1e-12) + 1e-12 * math.log(1e-12), abs=1e-12)
    a, e = 2 / (2 + 1e-8), 1e-8
    own = 0.5 * a * math.log((a + e) / (a / 2 + e))  # the other token has a = 0
    assert found.js == pytest.approx(own + 0.5 * math.log((1 + e) / (0.5 + e)), abs=1e-15)


def test_zero_attention_everywhere_has_no_metric() -> None:
    r = relative_attention(np.array([[0.0] * 4, [1.0] * 4]), np.array([[0.0] * 4, [1.0] * 4]))
    assert np.isnan(grounding(r, [0]).kl[0]) and np.isfinite(grounding(r, [0]).kl[1])


def test_a_token_that_both_rows_ignore_has_no_weight_and_one_that_the_general_row_ignores_has_all() -> None:
    found = relative_attention(np.array([0.0, 0.0, 1.0, 3.0]), np.array([0.0, 2.0, 0.0, 2.0]))
    assert found.tolist() == [0.0, 0.0, math.inf, 1.5]


@pytest.mark.parametrize("region", [[], [4], [0, 4], [-1]], ids=str)
def test_a_region_beyond_the_map_is_refused(region: list[int]) -> None:
    with pytest.raises(ValueError, match="does not fit a map of 4"):
        grounding(np.ones(4), region)


def test_triage_drops_what_is_strictly_below_the_percentile() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert triage.keep_percentile(values, 50).tolist() == [False, False, True, True]
    assert triage.keep_percentile(values, 0).all()
    assert triage.keep_percentile(np.ones(4), 50).all()
    assert triage.keep_above(values, 0.5).tolist() == [False, False, True, True]
    both = triage.keep_above(np.stack([values, 10 * values[::-1]]), 0.5)  # each by its own span
    assert both.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_heads_rank_by_mean_and_skip_what_most_samples_lack() -> None:
    kl = np.array([[[3.0, 1.0], [2.0, np.nan]], [[3.0, 2.0], [np.nan, np.nan]], [[3.0, 3.0], [4.0, 0.1]]])
    assert heads.rank(kl) == [(0, 1, 2.0), (0, 0, 3.0), (1, 0, 3.0)]  # (1, 1) is known for one sample of three
    assert heads.rank(kl, higher=True) == [(0, 0, 3.0), (1, 0, 3.0), (0, 1, 2.0)]
    assert heads.sensitive_layer(np.array([[2.0, 1.0], [3.0, 0.5]])) == 1


def test_heads_chosen_on_test_images_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = heads.HeadFile("m", "r", 2, 2, {"image_ids": [heads.fingerprint("a")]}, [(0, 1, 0.5)], [1])
    heads.write(tmp_path / "h.json", file)
    again = heads.read(tmp_path / "h.json")
    assert again == file
    heads.refuse_overlap(again, ["b"])
    with pytest.raises(VgError, match="'a' among them"):
        heads.refuse_overlap(again, ["a", "b"])
    with pytest.raises(VgError, match="2 layers x 2 heads"):
        heads.refuse_mismatch(again, "n", 4, 2)


@pytest.mark.parametrize("width,height", [(168, 126), (126, 168), (100, 100), (1, 7), (1, 18), (10, 1)])
def test_every_cell_box_touches_its_own_token(width: int, height: int) -> None:
    for geometry in (
        Geometry.pad(width, height, 112, Grid(8, 8)),
        Geometry.squash(width, height, 112, 112, Grid(8, 8)),
        Geometry.crop(width, height, 112, 112, Grid(8, 8)),
        Geometry.pad(width, height, 336, Grid(24, 24)),
    ):
        for token in range(geometry.tokens):
            box = geometry.cell_box(token)
            if box is not None:
                assert token in geometry.region([box])


def test_a_centre_crop_sees_the_middle_of_the_long_edge() -> None:
    # 200 x 100, shortest edge to 112: 224 x 112, of which 56 to 168 are kept: stored x from 50 to 150, cells of 12.5.
    wide = Geometry.crop(200, 100, 112, 112, Grid(8, 8))
    tall = Geometry.crop(100, 200, 112, 112, Grid(8, 8))
    assert wide.region([Box(50, 0, 62.5, 12.5)]) == [0] and wide.region([Box(0, 0, 40, 100)]) == []
    assert wide.region([Box(137.5, 87.5, 150, 100)]) == [63] and wide.region([Box(160, 0, 200, 100)]) == []
    assert tall.region([Box(0, 50, 12.5, 62.5)]) == [0] and tall.region([Box(0, 0, 100, 40)]) == []


def test_a_mask_is_laid_over_the_padded_image_or_stretched_over_the_grid_as_a_box_is() -> None:
    """An image of 100 x 50 on 4 x 4 cells of 25 px: padded, its upper half lies in the second row of cells."""
    geometry, mask = Geometry.pad(100, 50, 100, Grid(4, 4)), np.zeros((50, 100), bool)
    mask[:12, :50] = True
    sample: Any = SimpleNamespace(boxes=(), mask=lambda: mask)
    for mapping, expected in (("exact", [4, 5]), ("stretch", [0, 1])):
        task: Any = SimpleNamespace(region="mask", mapping=mapping)
        assert Probe._region(task, sample, geometry) == expected
        assert geometry.region([Box(0, 0, 50, 12)], mapping) == expected


def test_a_box_on_a_padded_image_moves_with_the_padding() -> None:
    # 200 x 100 pads to 200 x 200, 50 rows above; 8 x 8 cells of 25 stored px: y 0 to 25 lies in row 2.
    geometry = Geometry.pad(200, 100, 112, Grid(8, 8))
    assert geometry.region([Box(0, 0, 25, 25)]) == [16]
    assert geometry.region([Box(0, 0, 25, 25)], "stretch") == [0, 8]
