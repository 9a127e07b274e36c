"""What the sample browser shows: an index of every sample for its filters; details, maps, masks and pictures go into
chunks that are read when a sample is opened. Pictures are included only when asked for.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from matplotlib import colormaps

from vgtool.reporting.album import Pictures
from vgtool.reporting.details import details
from vgtool.reporting.heat import CAP
from vgtool.reporting.inputs import Family, Source
from vgtool.reporting.maps import heat, masks
from vgtool.reporting.pack import Pack
from vgtool.reporting.steps import Steps
from vgtool.reporting.workers import Workers

QUESTION = 160
"""Characters of a question in the index; the details hold all of it."""
FOUND = 400
"""Characters of reference and answers in the index, for the search."""


def begin(family: Family, pictures: Pictures | None, workers: Workers) -> None:
    """Have the pictures of a family packed, ahead of their use."""
    if pictures is not None:
        runs = [*family.probes, *family.refines]
        pictures.of(runs[0]).begin(shapes(runs), workers)


def index(
    families: Sequence[Family], pack: Pack, pictures: Pictures | None, steps: Steps, workers: Workers
) -> dict[str, Any]:
    """The index of all samples; everything else of them goes into `pack`. Has the first family's pictures begun."""
    groups: dict[str, int] = {}
    types: dict[str, int] = {}
    items: list[list[Any]] = []
    named = zip(families, called(families), apart(families), strict=True)
    heads = [dict(_head(family, name)) | {"short": short} for family, name, short in named]
    for number, (family, head) in enumerate(zip(families, heads, strict=True)):
        runs = [*family.probes, *family.refines]
        if number:
            begin(family, pictures, workers)
        album = None if pictures is None else pictures.of(runs[0])
        maps = [heat(one.run.path, pack, workers, steps.count(f"maps of {one.name}", one.samples))
                for one in family.probes]  # fmt: skip
        kept = [masks(one.run.path, pack, workers, steps.count(f"masks of {one.name}", one.run.rows.height))
                for one in family.refines]  # fmt: skip
        tick = steps.count(f"samples of {head['name']}", max(one.samples for one in runs))
        for sample in details(family, maps, kept, head, album, pack, steps):
            tick()
            group = groups.setdefault(sample["group"], len(groups))
            kind = types.setdefault(sample["type"], len(types))
            asked, failed = sample["question"][:QUESTION], int(bool(sample["error"]))
            place = (*pack.add(sample["bytes"]), len(sample["bytes"]))
            said = (sample["said"][:FOUND], sample["ratio"], sample["confidence"])
            common = [number, sample["id"], sample["image"], group, kind, asked]
            items.append([*common, sample["outcomes"], failed, *place, *said])
        pack.cut()
    pack.done()
    return {
        "families": heads,
        "groups": list(groups),
        "types": list(types),
        "items": items,
        "images": pictures is not None,
        "colours": colours(),
        "cap": CAP,
    }


def shapes(runs: Sequence[Source]) -> Iterator[Mapping[str, Any]]:
    """Each image once at each size that the runs give it: a sample of it, image, width and height."""
    columns = ["sample_id", "image_id", "width", "height"]
    known = (one.run.rows.select(columns).drop_nulls() for one in runs)
    return chain.from_iterable(
        rows.unique(columns[1:], keep="first", maintain_order=True).iter_rows(named=True) for rows in known
    )


def colours() -> list[str]:
    """64 steps of a colour map that grows lighter evenly and is told apart by colour-blind readers."""
    return ["".join(f"{round(255 * c):02x}" for c in colormaps["inferno"](i / 63)[:3]) for i in range(64)]


def called(families: Sequence[Family]) -> list[str]:
    """A name for each family, no two alike: its first run's, with split and protocol where another has the same."""
    first = [[*family.probes, *family.refines][0] for family in families]
    names = [one.name for one in first]
    titles = [one.scored.title if names.count(name) > 1 else name for one, name in zip(first, names, strict=True)]
    twice = Counter(titles)
    return [
        title if twice[title] == 1 else f"{title}, run {one.number}"
        for one, title in zip(first, titles, strict=True)
    ]


def apart(families: Sequence[Family]) -> list[str]:
    """What tells each family from the others alone: model, benchmark, split, protocol, those that differ."""
    keys = [(key[0], *key[2:]) for key in (one.key for one in families)]  # the model tells revisions apart
    differ = [len(set(values)) > 1 for values in zip(*keys, strict=True)]
    return [", ".join(text for text, one in zip(key, differ, strict=True) if one) for key in keys]


def _head(family: Family, name: str) -> Mapping[str, Any]:
    """What the samples of a family share. A method's `base` is the place of its own run's baseline, -1 for none;
    `layers`: where each probe run's slider starts, its layer of lowest mean KL."""
    methods: list[str] = []
    base: list[int] = []
    for one in family.refines:
        start = len(methods)
        methods += [f"{method} ({one.apart})" if len(family.refines) > 1 else method for method in one.methods]
        own = start + one.methods.index("baseline") if "baseline" in one.methods else -1
        base += [own if start + i != own else -1 for i in range(len(one.methods))]
    names = ("model", "revision", "benchmark", "split", "protocol")
    return dict(zip(names, family.key, strict=True)) | {
        "name": name,
        "methods": methods,
        "base": base,
        "probes": [f"probe ({one.apart})" if len(family.probes) > 1 else "probe" for one in family.probes],
        "layers": [one.best or 0 for one in family.probes],
    }
