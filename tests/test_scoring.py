"""Rules, statistics and tables against scipy, statsmodels and cases worked by hand."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from vgtool.scoring.answers import judge
from vgtool.scoring.render import render
from vgtool.scoring.statistics import clustered_mean, holm, mcnemar, wilson
from vgtool.scoring.tables import Table

OPTIONS = ("liver", "kidney", "left lung", "heart")


@pytest.mark.parametrize(
    "answer,reference,kind,choices,strict,paper",
    [
        ("Yes", "yes", "closed", None, "right", "right"),
        ("yes, it is", "yes", "closed", None, "right", "right"),
        ("normal", "no", "closed", None, "undecided", "right"),
        ("nodule", "no", "closed", None, "undecided", "right"),
        ("There is no fracture", "no", "closed", None, "right", "right"),
        ("not seen", "no", "closed", None, "undecided", "right"),
        ("yes and no", "yes", "closed", None, "undecided", "right"),
        ("", "yes", "closed", None, "undecided", "wrong"),
        ("是", "是", "closed", None, "right", "right"),
        ("no", "yes", "closed", None, "wrong", "wrong"),
        ("left", "left", "closed", None, "right", "right"),
        ("b.", "kidney", "choice", OPTIONS, "right", "wrong"),
        ("(C)", "left lung", "choice", OPTIONS, "right", "wrong"),
        ("B: kidney", "kidney", "choice", OPTIONS, "right", "right"),
        ("The answer is D", "heart", "choice", OPTIONS, "right", "wrong"),
        ("A lesion in the kidney", "kidney", "choice", OPTIONS, "right", "right"),
        ("I think so", "liver", "choice", OPTIONS, "undecided", "wrong"),
        ("A lesion is seen", "liver", "choice", OPTIONS, "undecided", "wrong"),
        ("liver or kidney", "liver", "choice", OPTIONS, "undecided", "right"),
        ("answer is A. No, the answer is B", "kidney", "choice", OPTIONS, "undecided", "wrong"),
        ("Ｂ", "kidney", "choice", OPTIONS, "right", "wrong"),
        ("E", "liver", "choice", OPTIONS, "undecided", "wrong"),
        ("Left lung.", "left lung", "choice", OPTIONS, "right", "right"),
        ("disc", "disc", "open", None, "right", "right"),
        ("a disc", "disc", "open", None, "wrong", "right"),
    ],
)
def test_an_answer_has_its_outcome(answer, reference, kind, choices, strict, paper) -> None:  # type: ignore[no-untyped-def]
    assert judge(answer, reference, kind, choices) == strict
    if answer:
        assert judge(answer, reference, kind, choices, "paper") == paper


@pytest.mark.parametrize("right,rows", [(0, 10), (7, 10), (251, 251), (400, 1000)])
def test_wilson_equals_statsmodels(right: int, rows: int) -> None:
    assert wilson(right, rows) == pytest.approx(proportion_confint(right, rows, method="wilson"), abs=1e-9)


@pytest.mark.parametrize("fixed,broken", [(0, 0), (3, 9), (20, 20), (0, 6)])
def test_mcnemar_equals_statsmodels(fixed: int, broken: int) -> None:
    expected = reference_mcnemar([[5, broken], [fixed, 5]], exact=True).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(expected)


def test_holm_equals_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.2, 0.001]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


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


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_every_format_carries_every_cell(form: str) -> None:
    text = render([Table("T", ["a", "b"], [["x", 1], [None, 2.5]], ["note"])], form)
    for cell in ("x", "1", "2.5"):
        assert cell in text
