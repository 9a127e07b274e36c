"""Boxes in words: sixty and more answers in each convention, each one's trap, and the overlap by counting pixels."""

import re

import numpy as np
import pytest

from vgtool.grounding.geometry import Geometry
from vgtool.grounding.spoken import Frame, Scale, centre_inside, overlap, read
from vgtool.records import Box, Grid
from vgtool.registry import models

# One box on a wide image of 400 x 200 pixels, which its model pads to a square of 100 x 100 pixels: 50 above.
WIDE = Geometry.pad(400, 200, 100, Grid(4, 4))
TRUE = (40.0, 50.0, 120.0, 150.0)
SAID: dict[tuple[Scale, Frame], tuple[str, ...]] = {
    ("0-1", "stored"): ("0.1", "0.25", "0.3", "0.75"),
    ("0-1", "model"): ("0.1", "0.375", "0.3", "0.625"),
    ("0-999", "stored"): ("99.9", "249.75", "299.7", "749.25"),
    ("0-1000", "stored"): ("100", "250", "300", "750"),
    ("0-1000", "model"): ("100", "375", "300", "625"),
    ("pixels", "stored"): ("40", "50", "120", "150"),
    ("pixels", "model"): ("10", "37.5", "30", "62.5"),
}
BOXES = """
[A, B, C, D]
[A,B,C,D]
[A B C D]
[ A , B , C , D ]
(A, B, C, D)
(A,B),(C,D)
(A, B), (C, D)
(A, B) to (C, D)
(A,B) - (C,D)
[[A, B, C, D]]
[[A,B],[C,D]]
[[A, B], [C, D]]
A, B, C, D
A B C D
A, B, C, D.
 A,B,C,D 
[A; B; C; D]
<box>[[A, B, C, D]]</box>
<box>[A, B, C, D]</box>
<ref>lesion</ref><box>[[A, B, C, D]]</box>
<ref>left lung</ref><box>[[A, B, C, D]]</box>.
<|box_start|>(A,B),(C,D)<|box_end|>
<|object_ref_start|>lesion<|object_ref_end|><|box_start|>(A,B),(C,D)<|box_end|>
{"bbox_2d": [A, B, C, D]}
{"bbox_2d": [A, B, C, D], "label": "lesion"}
[{"bbox_2d": [A, B, C, D], "label": "lesion"}]
```json\\n[{"bbox_2d": [A, B, C, D], "label": "lesion"}]\\n```
```json\\n{"bbox_2d": [A, B, C, D]}\\n```
```\\n[A, B, C, D]\\n```
{"bbox": [A, B, C, D]}
{'box': (A, B, C, D)}
{"x1": A, "y1": B, "x2": C, "y2": D}
{"x_min": A, "y_min": B, "x_max": C, "y_max": D}
{"xmin": A, "ymin": B, "xmax": C, "ymax": D}
x1=A, y1=B, x2=C, y2=D
x1: A, y1: B, x2: C, y2: D
The lesion is at [A, B, C, D].
The lesion is located at (A, B, C, D) in the image.
Sure! The bounding box is [A, B, C, D].
Bounding box: [A, B, C, D]
Answer: [A, B, C, D], which is the liver.
It is not the kidney but the liver: [A, B, C, D].
The region is [[A, B, C, D]], with no other one.
病灶位于[A, B, C, D]。
<answer>[A, B, C, D]</answer>
<think>It is left.</think> [A, B, C, D]
Fractures <box>[[A, B, C, D]]</box>
[A, B, C, D]\\n[A, B, C, D]
"""
NONE = """
none
None.
No
null
N/A
[]
[[]]
```json\\n[]\\n```
<box>[]</box>
There is no lesion in this image.
No box.
I cannot find the lesion.
The lesion is not visible.
The object is not present in the image.
Unable to locate the lesion.
I could not find it.
It does not appear here.
[0, 0, 0, 0]
"""
UNREADABLE = """
.
yes
The lesion is in the left lower lobe.
[A, B, C]
[A, B, C, D, D]
(A, B)
[[A, B, C
{"bbox_2d": [A, B
{"point_2d": [A, B]}
[C, B, A, D]
[A, D, C, B]
[A, B, A, D]
[-A, B, C, D]
x1=A, y1=B
[a, b, c, d]
A
<box></ref>
7 of 12
"""


def lines(text: str) -> list[str]:
    return [line.replace("\\n", "\n") for line in text.strip("\n").split("\n")]


def filled(form: str, numbers: tuple[str, ...]) -> str:
    """A form with numbers for its letters, where these stand alone."""
    values = dict(zip("ABCD", numbers, strict=True))
    return re.sub(r"(?<![A-Za-z/])[ABCD](?![A-Za-z])", lambda found: values[found[0]], form)


CONVENTIONS = sorted(SAID)


@pytest.mark.parametrize("scale,frame", CONVENTIONS)
def test_sixty_and_more_answers_of_each_convention_are_read(scale: Scale, frame: Frame) -> None:
    numbers = SAID[scale, frame]
    expected: list[tuple[str, str]] = [(form, "box") for form in lines(BOXES)]
    expected += [(form, "none") for form in lines(NONE)] + [(form, "unreadable") for form in lines(UNREADABLE)]
    assert len(expected) >= 60
    for form, outcome in expected:
        answer = filled(form, numbers)
        said = read(answer, WIDE, scale, frame)
        assert said.outcome == outcome, answer
        if outcome == "box":
            assert len(said.boxes) == 1, answer
            assert said.boxes[0].as_list() == pytest.approx(TRUE, abs=1e-6), answer
        else:
            assert not said.boxes


@pytest.mark.parametrize("scale,frame", CONVENTIONS)
def test_several_boxes_are_read_in_order(scale: Scale, frame: Frame) -> None:
    a, b, c, d = SAID[scale, frame]
    middle = str((float(a) + float(c)) / 2)
    answer = f"<ref>lungs</ref><box>[[{a}, {b}, {middle}, {d}], [{middle}, {b}, {c}, {d}]]</box>"
    said = read(answer, WIDE, scale, frame)
    assert [box.as_list() for box in said.boxes] == [
        pytest.approx([40, 50, 80, 150], abs=1e-6),
        pytest.approx([80, 50, 120, 150], abs=1e-6),
    ]


@pytest.mark.parametrize(
    "scale,frame,answer",
    [
        ("0-1", "stored", "[100, 250, 300, 750]"),  # thousandths where shares are spoken
        ("0-1", "stored", "[10, 20, 30, 40]"),
        ("0-999", "stored", "[0.1, 0.25, 0.3, 0.75]"),  # shares where thousandths are
        ("0-1000", "stored", "[0.1, 0.25, 0.3, 0.75]"),
        ("0-1000", "stored", "[0, 0.25, 1, 1]"),  # shares, most of them whole
        ("0-1000", "stored", "[1100, 250, 1300, 750]"),  # pixels of a large image
        ("pixels", "stored", "[0.1, 0.25, 0.3, 0.75]"),
        ("pixels", "stored", "[0, 0, 1, 1]"),  # the whole image in shares
        ("pixels", "stored", "[450, 50, 520, 150]"),  # right of the image
        ("pixels", "model", "[120, 10, 180, 90]"),  # beyond the model's picture: pixels of the stored image
    ],
)
def test_numbers_of_another_convention_are_unreadable(scale: Scale, frame: Frame, answer: str) -> None:
    assert read(answer, WIDE, scale, frame).outcome == "unreadable"


def test_the_same_numbers_are_other_places_in_other_conventions() -> None:
    """The trap itself: one answer, four conventions, four boxes."""
    found = {
        (scale, frame): tuple(read("[10, 38, 30, 62]", WIDE, scale, frame).boxes[0].as_list())  # type: ignore[arg-type]
        for scale, frame in (("0-1000", "stored"), ("0-999", "stored"), ("pixels", "stored"), ("pixels", "model"))
    }
    assert found["pixels", "stored"] == (10, 38, 30, 62)
    assert found["pixels", "model"] == pytest.approx((40, 52, 120, 148))
    assert found["0-1000", "stored"] == pytest.approx((4, 7.6, 12, 12.4))
    assert found["0-999", "stored"][0] == pytest.approx(10 / 999 * 400)


def test_a_box_over_the_edge_is_clipped_and_one_in_the_padding_is_none_of_the_image() -> None:
    assert read("[0, 0, 1000, 1000]", WIDE, "0-999").boxes[0].as_list() == [0, 0, 400, 200]
    assert read("[300, 100, 480, 190]", WIDE, "pixels").boxes[0].as_list() == [300, 100, 400, 190]
    assert read("[10, 2, 30, 20]", WIDE, "pixels", "model").outcome == "unreadable"  # above the image


def test_small_numbers_and_a_box_of_nothing_beside_a_real_one_are_read() -> None:
    assert read("[0.5, 0.5, 1.5, 1.5]", WIDE, "0-1000").boxes[0].as_list() == pytest.approx([0.2, 0.1, 0.6, 0.3])
    assert read("[0, 0, 0, 0], [100, 250, 300, 750]", WIDE, "0-1000").boxes == (Box(*TRUE),)
    assert read("[0, 0, 0, 0], [0, 0, 0, 0]", WIDE, "0-1000").outcome == "none"


def test_rows_before_columns_where_a_model_says_so() -> None:
    assert read("[250, 100, 750, 300]", WIDE, "0-1000", order="yxyx").boxes[0].as_list() == pytest.approx(TRUE)


def pixels(boxes: list[Box]) -> np.ndarray:
    out = np.zeros((60, 60), bool)
    for box in boxes:
        out[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
    return out


def test_the_overlap_equals_counting_pixels() -> None:
    rng = np.random.default_rng(0)

    def some() -> list[Box]:
        corners = rng.integers(0, 40, (int(rng.integers(1, 4)), 2))
        return [Box(x, y, x + rng.integers(1, 20), y + rng.integers(1, 20)) for x, y in corners.tolist()]

    for _ in range(50):
        said, true = some(), some()
        one, other = pixels(said), pixels(true)
        assert overlap(said, true) == pytest.approx((one & other).sum() / (one | other).sum())
        x, y = (said[0].x0 + said[0].x1) / 2, (said[0].y0 + said[0].y1) / 2
        assert centre_inside(said[0], true) == other[int(y), int(x)]


def test_every_convention_of_the_registry_has_its_source() -> None:
    spoken = {name: spec.boxes for name, spec in models().items() if spec.boxes}
    assert {"medrega", "qwen2.5-vl-7b", "qwen3-vl-8b", "lingshu-7b"} <= spoken.keys()
    kinds = {name: (words.scale, words.frame) for name, words in spoken.items()}
    assert kinds["medrega"] == ("0-999", "stored") and kinds["qwen3-vl-8b"] == ("0-1000", "stored")
    assert kinds["qwen2.5-vl-7b"] == kinds["lingshu-7b"] == ("pixels", "model")
    assert all(words.source for words in spoken.values())
