"""Intervals and tests against scipy, statsmodels, a loop over every case, and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from vgtool.scoring.statistics import clustered_mean, clustered_means, holm, mcnemar, sign_flip, smallest_gain, wilson


@pytest.mark.parametrize("right,rows", [(0, 10), (7, 10), (251, 251), (400, 1000)])
def test_wilson_equals_statsmodels(right: int, rows: int) -> None:
    assert wilson(right, rows) == pytest.approx(proportion_confint(right, rows, method="wilson"), abs=1e-9)


def test_wilson_covers_by_simulation() -> None:
    rng = np.random.default_rng(0)
    spans = [wilson(int(right), 100) for right in rng.binomial(100, 0.6, 2000)]
    assert 0.935 <= np.mean([low <= 0.6 <= high for low, high in spans]) <= 0.965


@pytest.mark.parametrize("fixed,broken", [(0, 0), (3, 9), (20, 20), (0, 6)])
def test_mcnemar_equals_statsmodels(fixed: int, broken: int) -> None:
    expected = reference_mcnemar([[5, broken], [fixed, 5]], exact=True).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(expected)


@pytest.mark.parametrize("fixed,broken", [(0, 0), (3, 9), (20, 20), (14, 5), (0, 6)])
def test_sign_flips_of_single_rows_are_exact_mcnemar(fixed: int, broken: int) -> None:
    change = np.array([1.0] * fixed + [-1.0] * broken + [0.0] * 30)
    expected = reference_mcnemar([[5, broken], [fixed, 5]], exact=True).pvalue if fixed + broken else 1.0
    assert sign_flip(change, [str(i) for i in range(len(change))]) == pytest.approx(expected)


def test_sign_flips_count_every_pattern_of_the_images_as_a_loop_does() -> None:
    rng = np.random.default_rng(5)
    for trial in range(20):
        images = rng.integers(0, 9, 40)
        change = rng.choice([-1.0, 0.0, 0.0, 1.0, 1.0], 40)
        sums = [change[images == image].sum() for image in np.unique(images)]
        totals = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
        expected = np.mean([total >= abs(sum(sums)) for total in totals])
        assert sign_flip(change, [f"i{image}" for image in images]) == pytest.approx(expected), trial


def test_few_changed_rows_have_the_p_that_they_can_have() -> None:
    """One row fixed of 400 says nothing, and eight images that all gain can at best be 2 in 2^8: chi squared with 1 df
    calls them 0.317 and 0.0047."""
    assert sign_flip(np.array([1.0] + [0.0] * 399), [str(i) for i in range(400)]) == 1.0
    assert sign_flip(np.ones(16), [str(i // 2) for i in range(16)]) == pytest.approx(2 / 2**8)


def test_sign_flips_equal_scipys_permutation_test_on_differences_that_are_not_whole() -> None:
    rng = np.random.default_rng(2)
    change = rng.normal(0.3, 1, 51)
    images = [f"i{i // 3}" for i in range(51)]
    sums = change.reshape(17, 3).sum(1)  # 2^17 patterns are more than are drawn
    expected = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(change, images) == pytest.approx(expected, abs=4 * np.sqrt(expected / 100_000))
    assert sign_flip(change, images, seed=1, draws=5000) == sign_flip(change, images, seed=1, draws=5000)
    assert sign_flip(np.append(change, np.nan), [*images, "x"]) == sign_flip(change, images), "NaN says nothing"
    assert sign_flip(np.full(3, np.nan), ["a", "b", "c"]) == 1.0


def test_sign_flips_keep_their_level_where_images_have_many_rows() -> None:
    """Nothing is different, and an image's eight rows change as one: p below 0.05 in no more than about 5 of 100."""
    rng = np.random.default_rng(3)
    found = [
        sign_flip(np.repeat(rng.choice([-1.0, 0, 1], 30), 8), [str(i // 8) for i in range(240)]) for _ in range(400)
    ]
    assert np.mean(np.array(found) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean([mcnemar(*_fixed_broken(rng)) < 0.05 for _ in range(100)]) > 0.3, "rows taken for independent do not"


def _fixed_broken(rng: np.random.Generator) -> tuple[int, int]:
    images = rng.choice([-1, 0, 1], 30)
    return 8 * int((images == 1).sum()), 8 * int((images == -1).sum())


def test_the_smallest_gain_is_the_first_that_exact_mcnemar_finds() -> None:
    for changed in (6, 13, 40):
        gain = smallest_gain(200, changed) * 200
        fixed = round((changed + gain) / 2)
        assert stats.binomtest(fixed, changed, 0.5).pvalue < 0.05 <= stats.binomtest(fixed - 1, changed, 0.5).pvalue
    assert smallest_gain(200, 0) == pytest.approx(6 / 200)


def test_holm_equals_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.2, 0.001]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.6, 0.9, 0.7]) == [1, 1, 1], "never above 1"


def test_the_clustered_interval_covers_and_is_wider_than_the_naive_one() -> None:
    rng = np.random.default_rng(1)
    covered, wider = 0, 0
    for trial in range(200):
        image = rng.normal(size=60)
        values = np.repeat(image, 5) + 0.1 * rng.normal(size=300)
        _, low, high = clustered_mean(values, [str(i) for i in np.repeat(np.arange(60), 5)], seed=trial, draws=400)
        covered += low <= 0 <= high
        naive = 2 * 1.96 * stats.sem(values)
        wider += (high - low) > naive
    assert covered >= 178  # 95 % nominal; 178 of 200 is four standard errors below
    assert wider == 200


def test_columns_of_unequal_gaps_have_their_own_means() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 2.0]])[:, [0, 1, 1]] * [1, 1, np.nan]
    spans = clustered_means(values, ["a", "b", "c"])
    assert spans[0][0] == 3 and spans[1][0] == 2 and np.isnan(spans[2]).all()
    assert np.isnan(spans[1][1:]).all(), "one image gives no interval"


@pytest.mark.parametrize("most", [0, 4_000_000])
def test_an_interval_by_image_is_that_of_means_over_images_drawn_one_by_one(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgtool.scoring.statistics.KEPT", most)
    monkeypatch.setattr("vgtool.scoring.statistics.CELLS", 70)
    values = np.random.default_rng(4).normal(size=40)
    values[3] = np.nan
    images = [f"i{row // 3}" for row in range(40)]
    names = sorted(set(images))
    rng, means = np.random.default_rng(9), []
    for _ in range(50):
        drawn = [names[at] for at in rng.integers(0, len(names), len(names))]
        rows = [value for name in drawn for value, own in zip(values, images, strict=True) if own == name]
        means.append(np.nanmean(rows))
    expected = (np.nanmean(values), *np.quantile(means, [0.025, 0.975]))
    for _ in range(2):
        assert clustered_mean(values, images, seed=9, draws=50) == pytest.approx(expected)
