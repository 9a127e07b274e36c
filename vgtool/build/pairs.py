"""Layout `pairs`: images/ and labels/ (or masks/) with equal names, and a file that names the values."""

from collections.abc import Iterator
from pathlib import Path

from vgtool.build.folder import SUFFIXES, Folder
from vgtool.build.layers import label_map
from vgtool.build.picture import Layer, Options, Picture, Report


def pictures(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    folder = Folder(root)
    names = folder.names(options)
    for key, image, label in folder.paired(SUFFIXES, report):

        def layers(width: int, height: int, report: Report, label: Path = label) -> list[Layer]:
            return label_map(folder.source(label), names, width, height, report)

        yield folder.picture(image, key, options, layers)
