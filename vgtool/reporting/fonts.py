"""Fonts for text of a run in scripts that matplotlib's own font lacks (Chinese, Japanese, Korean, Arabic, ...)."""

from collections.abc import Iterable
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

OWN = "DejaVu Sans"
OTHERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "Microsoft YaHei"),
    *("SimHei", "SimSun", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Noto Sans Thai", "Noto Sans", "Arial Unicode MS", "Unifont"),
)
"""Asked in this order for a character that OWN lacks, as far as they are installed."""
BOXES = "Last Resort High-Efficiency"
"""Comes with matplotlib from 3.11 on and has a box for every character. Named, it draws without a warning what no other
font has; a filter of warnings would be one for all threads. Older versions warn on stderr, too."""


def families() -> list[str]:
    """Font families to draw with: matplotlib's own, then what is installed of the others."""
    installed = _installed()
    return [OWN, *(name for name in OTHERS if name in installed)]


def drawn_with() -> list[str]:
    """`families`, and boxes for what none of them has."""
    return [*families(), *({BOXES} & _installed())]


def _installed() -> set[str]:
    return {font.name for font in font_manager.fontManager.ttflist}


def lacking(figure: Figure) -> str:
    """The characters of a figure that no font of `families` has, in order; these are drawn as boxes."""
    texts = (text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))
    return "".join(sorted(_without(set("".join(texts)))))


def _without(characters: Iterable[str]) -> set[str]:
    wanted = {one for one in characters if one.isprintable()}
    return {one for one in wanted if not any(ord(one) in _characters(name) for name in families())}


@lru_cache(maxsize=32)
def _characters(family: str) -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties(family=family))
    return frozenset(font_manager.get_font(path).get_charmap())


def remark(figure: Figure) -> str:
    """A sentence for a caption where characters are missing; nothing where none is."""
    missing = lacking(figure)
    if not missing:
        return ""
    few = missing[:8] + ("…" if len(missing) > 8 else "")
    return f" No installed font has {few}, drawn as boxes; Noto Sans CJK has Chinese, Japanese and Korean."
