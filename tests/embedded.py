"""Pictures of the embedded benchmark with their questions."""

from itertools import groupby

from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.task import ImageGroup
from vgtool.models.adapter import Adapter


def shown(adapter: Adapter, rows: int) -> list[ImageGroup]:
    """The first rows of `phantom`, by image."""
    out = []
    for _, some in groupby(benchmark("phantom", limit=rows).samples, key=lambda sample: sample.image_id):
        mine = tuple(some)
        image = open_image(mine[0].image)
        out.append(ImageGroup(mine, (image,), (adapter.prepare(image),)))
    return out
