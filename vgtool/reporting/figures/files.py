"""A figure's files: PDF, SVG and PNG, without dates, so that the same runs give the same. Light to import, as processes
of their own do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from vgtool.reporting import fonts
from vgtool.reporting.mosaic import DPI

DATES = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}
"""Kinds of files, and the dates they go without."""
STYLE: Any = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "vgtool",
    "text.parse_math": False,
    "figure.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """How figures are made and written."""
    with rc_context({**STYLE, "font.family": fonts.drawn_with()}):
        yield


def save(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as one of the kinds of files."""
    with styled():
        figure.savefig(path, format=kind, dpi=DPI, metadata=DATES[kind])
