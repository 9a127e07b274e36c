"""Files that name a label map's values: as data sets and viewers write them."""

from typing import Any

import pytest

from vgtool.errors import VgError
from vgtool.images.names import Names, parse

ITK_SNAP = '''################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Left lung"
    2     0  255    0      0.5  1  1    "Heart (whole)"
'''
FREESURFER = """#No. Label Name:                              R   G   B   A

0   Unknown                                     0   0   0   0
2   Left-Cerebral-White-Matter                  245 245 245 0
10  Left-Thalamus                               0   118 14  0
"""
SLICER = """# Color table file /tmp/x.ctbl
# 3 values
0 Background 0 0 0 0
1 liver_tumour 221 130 101 255
2 gall_bladder 139 150 98 255
"""
SLICER_CSV = """LabelValue,Name,Color_R,Color_G,Color_B,Color_A
1,"vein, portal",0,151,206,255
2,aorta,216,101,79,255
"""
LUNG = {1: "left lung", 2: "tumour"}


@pytest.mark.parametrize(
    "name,text,classes,nothing,colours",
    [
        ("a.json", '{"1": "left lung", "2": "tumour"}', LUNG, set(), {}),
        ("a.json", '{"left_lung": 1, "tumour": 2, "background": 0}', LUNG, {0}, {}),
        ("a.json", '{"labels": {"0": "background", "1": "left lung", "2": "tumour"}}', LUNG, {0}, {}),
        ("a.json", '{"1": {"name": "left lung", "color": "#ff0000"}, "2": "tumour"}', LUNG, set(), {0xFF0000: 1}),
        ("a.json", '{"#00ff00": "left lung", "tumour": "#0000ff"}', LUNG, set(), {0x00FF00: 1, 0x0000FF: 2}),
        ("a.txt", "1 left lung\n2: tumour\n# a remark\n", LUNG, set(), {}),
        ("a.txt", "left_lung = 1\ntumour, 2", LUNG, set(), {}),
        ("a.txt", "1 left lung 255 0 0\n2 tumour 0 0 255\n", LUNG, set(), {0xFF0000: 1, 0x0000FF: 2}),
        ("a.txt", "#ff0000 left lung\ntumour #0000ff\n", LUNG, set(), {0xFF0000: 1, 0x0000FF: 2}),
        ("a.txt", "255 ring\n-1 outside\n3 ignore", {255: "ring", -1: "outside"}, {3}, {}),
        ("s.label", ITK_SNAP, {1: "Left lung", 2: "Heart (whole)"}, {0}, {0: 0, 0xFF0000: 1, 0x00FF00: 2}),
        (
            "LUT.txt",
            FREESURFER,
            {2: "Left-Cerebral-White-Matter", 10: "Left-Thalamus"},
            {0},
            {0: 0, 0xF5F5F5: 2, 0x00760E: 10},
        ),
        ("c.ctbl", SLICER, {1: "liver tumour", 2: "gall bladder"}, {0}, {0: 0, 0xDD8265: 1, 0x8B9662: 2}),
        ("c.csv", SLICER_CSV, {1: "vein, portal", 2: "aorta"}, set(), {0x0097CE: 1, 0xD8654F: 2}),
    ],
)
def test_values_names_and_colours_are_told_apart(
    name: str, text: str, classes: dict[int, str], nothing: set[int], colours: dict[int, int]
) -> None:
    assert parse(text, name) == Names(classes, colours, frozenset(nothing))


@pytest.mark.parametrize("word", ["background", "Ignore", "unlabelled", "Clear Label", "unknown", "VOID", "none"])
def test_what_is_called_nothing_is_no_class(word: str) -> None:
    assert parse(f"1 lung\n7 {word}", "names.txt") == Names({1: "lung"}, {}, frozenset([7]))


def test_nnu_net_regions_hold_several_values() -> None:
    text = '{"labels": {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "vessel": 4, "ignore": 5}}'
    names = parse(text, "dataset.json")
    assert names.by_class == {"core": {2, 3}, "vessel": {4}, "whole tumour": {1, 2, 3}}
    assert names.nothing == {0, 5} and names.marked == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "name,text,said",
    [
        ("n.txt", "just words", "line 'just words'"),
        ("n.txt", "1 a\n1 b", "value 1 twice"),
        ("n.txt", "1 a 9 9 9\n2 b 9 9 9", "#090909 to two values"),
        ("n.json", "[1]", "no object"),
        ("n.json", '{"a": "b"}', "pairs 'a' with 'b'"),
        ("n.json", '{"a": true}', "pairs 'a' with 'True'"),
        ("n.json", '{"a": ', "JSON"),
        ("n.csv", "LabelValue,Name\none,a\n", "'one'"),
    ],
)
def test_an_odd_file_of_names_is_quoted(name: str, text: str, said: str) -> None:
    with pytest.raises(VgError, match=said):
        parse(text, name)


def test_names_are_the_same_whatever_order_they_come_in(tmp_path: Any) -> None:
    one, other = parse("2 b\n1 a", "n.txt"), parse("1 a\n2 b", "n.txt")
    assert one == other and list(one.by_class) == ["a", "b"]
