"""Text in any script: drawn with an installed font that has it, or told in the caption."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vgtool.reporting import fonts
from vgtool.reporting.figures.draw import draw
from vgtool.reporting.figures.style import Drawn
from vgtool.reporting.workers import Workers


def labelled(text: str) -> Figure:
    figure = Figure()
    axis = figure.subplots()
    axis.set_yticks([0], [text])
    axis.set_title("accuracy")
    return figure


def test_a_character_that_no_font_has_is_told_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "OTHERS", ())
    assert fonts.remark(labelled("CT of the liver, ä, é, Ω")) == ""
    assert fonts.lacking(labelled("肝脏 CT")) == "肝脏"
    assert "肝脏" in fonts.remark(labelled("肝脏 CT")) and "Noto Sans CJK" in fonts.remark(labelled("肝脏 CT"))


def test_an_installed_font_is_asked_for_what_the_own_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "OTHERS", ("No Such Font", "DejaVu Serif"))
    assert fonts.families() == ["DejaVu Sans", "DejaVu Serif"]
    serif = frozenset([*range(128), ord("肝")])
    monkeypatch.setattr(fonts, "_characters", lambda family: serif if "Serif" in family else frozenset())
    assert fonts.lacking(labelled("肝脏 CT")) == "脏"


@pytest.mark.filterwarnings("error:Glyph")
def test_a_figure_says_in_its_caption_what_it_could_not_draw_and_warns_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "OTHERS", ())
    given = (Drawn(stem, "Accuracy.", labelled(text)) for stem, text in (("a", "肝脏"), ("b", "liver")))
    told, plain = (one.caption for one in draw(given, tmp_path, Workers(0)))
    assert told.startswith("Accuracy. No installed font has 肝脏, drawn as boxes") and plain == "Accuracy."
    assert (tmp_path / "a.pdf").is_file()
