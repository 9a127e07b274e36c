"""Options: in every published spelling, as a question offers them, and which one a reference is."""

from itertools import product
from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import put_json

from vgtool.benchmarks.load import load
from vgtool.benchmarks.options import by_either, either_or, options_of, right_option
from vgtool.errors import SampleError
from vgtool.scoring.answers import judge

# The forms of SLAKE's closed questions that are not yes or no, and what each offers.
ASKED: list[tuple[str, tuple[str, ...] | None]] = [
    ("Which is bigger in this image, liver or Left Lung?", ("liver", "Left Lung")),
    ("Which is bigger in this image,small bowel or kidney ?", ("small bowel", "kidney")),
    ("Which is the smallest in this image,spleen,left kidney or liver?", ("spleen", "left kidney", "liver")),
    ("Which is largest: cat, dog or cow?", ("cat", "dog", "cow")),
    ("Which is largest, the cat, the dog, or the cow?", ("cat", "dog", "cow")),
    ("Where is the spleen in this image, right or lower right?", ("right", "lower right")),
    ("Which plane is it, transverse plane or coronal plane?", ("transverse plane", "coronal plane")),
    ("Which side is it, in the left or in the right?", ("in the left", "in the right")),
    ("Is this a T1 weighted or T2 weighted MRI image?", ("T1 weighted", "T2 weighted")),
    ("Is this a CT scan or an MRI?", ("CT scan", "MRI")),
    ("Is it PA or AP?", ("PA", "AP")),
    ("PA or AP?", ("PA", "AP")),
    # where the first one begins is not said, or not every one would be whole
    ("Is this picture cat or dog?", None),
    ("Is the lesion on the left side or the right side?", None),
    ("Is it a solid or cystic lesion?", None),
    ("Is the abnormality hyperdense or hypodense?", None),
    ("Is the mass large, round, or oval?", None),
    ("In this image, is the heart enlarged or normal?", None),
    ("Is there a fracture, or is it normal?", None),
    ("Which is larger, in this image, liver or heart?", None),
    ("Is it large?", None),
    ("Is the organ larger?", None),
    ("Which is it, liver or liver?", None),
    ("", None),
]


@pytest.mark.parametrize("question,options", ASKED)
def test_a_question_offers_all_its_options_in_its_own_spelling_or_none(question: str, options: Any) -> None:
    assert either_or(question) == options
    assert all(one in question for one in options or ())


def test_over_all_rows_of_a_set_no_option_tells_that_it_is_right(tmp_path: Path) -> None:
    """Every question with every right answer in every spelling: the options shown are the same."""
    rows, right = [], {}
    for number, (question, options) in enumerate(ASKED):
        for choice, change in product(options or ("Heart",), (str, str.lower, str.upper, str.title)):
            row = layouts.SLAKE_ROWS[2] | {"qid": len(rows), "question": question or "x", "answer": change(choice)}
            right[f"test-{len(rows)}"] = (number, choice)
            rows.append(row)
    layouts.slake(tmp_path)
    put_json(tmp_path, "test.json", rows)
    found = load("slake", data_root=tmp_path, protocol="huatuo").samples
    assert len(found) == len(rows) > 100
    for sample in found:
        number, choice = right[sample.id]
        options = ASKED[number][1]
        assert sample.choices == options, "whatever is right, and however the reference spells it"
        if options:
            letter = "ABC"[options.index(choice)]
            outcomes = {one: judge(one, sample.reference, "closed", options, "huatuo") for one in "ABC"[: len(options)]}
            assert outcomes == {one: "right" if one == letter else "wrong" for one in outcomes}
            assert sample.prompt.splitlines()[1:-1] == [f"{'ABC'[i]}. {one}" for i, one in enumerate(options)]


def test_a_reference_outside_the_offered_options_leaves_a_row_without_letters(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    asked = layouts.SLAKE_ROWS[2] | {"question": ASKED[0][0], "answer": "almost the same"}
    put_json(tmp_path, "test.json", [asked])
    (sample,) = load("slake", data_root=tmp_path, protocol="huatuo").samples
    assert sample.choices is None and "A. " not in sample.prompt


@pytest.mark.parametrize(
    "raw,options",
    [
        (["a", "b"], ("a", "b")),
        ({"B": "b", "A": "a"}, ("a", "b")),
        ({"a": "x", "b": "y", "c": None}, ("x", "y")),
        ('["a", "b"]', ("a", "b")),
        ("['a', \"b's\"]", ("a", "b's")),
        ("{'A': 'a', 'B': 'b'}", ("a", "b")),
        ("['a' 'b']", ("a", "b")),  # as numpy prints an array of texts; one glued text to Python
        ("['left lung' \"b's\"\n 'c']", ("left lung", "b's", "c")),
        ("['a, b' 'c']", ("a, b", "c")),
        ([1, 2.5], ("1", "2.5")),
        ("", ()),
        (None, ()),
        (float("nan"), ()),
    ],
)
def test_options_are_read_in_every_spelling(raw: Any, options: tuple[str, ...]) -> None:
    assert options_of(raw) == options


@pytest.mark.parametrize(
    "raw", ["['a' 'b', 'c']", "array(['a', 'b'], dtype=object)", "a, b", {"A": "a", "C": "c"}, 5, [["a"]]]
)
def test_what_is_no_list_of_options_fails_and_is_never_glued_into_one(raw: Any) -> None:
    with pytest.raises(SampleError, match="malformed_row"):
        options_of(raw)


CHOICES = ("liver", "spleen", "1", "5", "10", "CT.", "ct")


@pytest.mark.parametrize(
    "gold,right",
    [
        ("B", "spleen"), ("b", "spleen"), ("(B)", "spleen"), ("spleen", "spleen"), ("Spleen", "spleen"),
        ("spleen.", "spleen"), ("B. spleen", "spleen"), ("B: spleen", "spleen"), ("(B) Spleen.", "spleen"),
        ("B) spleen", "spleen"), ("1.0", "1"), ("10", "10"), ("CT.", "CT."), ("ct", "ct"), ("C. 1", "1"),
    ],
)  # fmt: skip
def test_one_gold_answer_is_one_option_in_each_of_its_forms(gold: str, right: str) -> None:
    assert by_either(CHOICES, gold) == right


@pytest.mark.parametrize(
    "gold,code",
    [
        ("kidney", "answer_not_an_option"), ("H", "answer_not_an_option"), ("B. kidney", "answer_not_an_option"),
        ("A. spleen", "answer_ambiguous"), ("0.1", "answer_not_an_option"), ("-1", "answer_not_an_option"),
    ],
)  # fmt: skip
def test_a_gold_answer_that_is_no_option_or_two_fails_and_says_so(gold: str, code: str) -> None:
    with pytest.raises(SampleError, match=code):
        by_either(CHOICES, gold)


def test_options_of_one_text_cannot_be_told_apart_and_the_row_says_so() -> None:
    with pytest.raises(SampleError, match="is 2 of the options"):
        by_either(("CT", "ct", "ct"), "ct")
    with pytest.raises(SampleError, match="is 2 of the options"):
        by_either(("CT.", "CT"), "c-t")


def test_the_right_option_is_the_one_that_holds_the_reference() -> None:
    assert right_option("Left", ("left", "right lung")) == 0 and right_option("right", ("left", "right lung")) == 1
    assert right_option("lung", ("left lung", "right lung")) is None and right_option("both", ("PA", "AP")) is None
