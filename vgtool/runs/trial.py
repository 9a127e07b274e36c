"""A sample that ends its process (a device assert, a driver fault, more memory than the host has) must not end every
rerun. Images that two processes began and never ended are tried sample by sample in a child process, before this one
loads anything. Only a sample whose child dies while its parent lives is failed: chance kills, however many, fail none.

Samples that survive run again beside their usual company, for rounding differs with it. Marks of them are in tried/, so
that a trial that is killed itself goes on where it was. An image that comes to a second trial, because only its company
kills, keeps the rows that its samples have alone.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from vgtool.errors import Exit
from vgtool.records import Sample
from vgtool.runs import children, deal
from vgtool.runs.notes import image_key, key
from vgtool.runs.process import alive, me, split
from vgtool.runs.store import Store

DEATHS = 2
VARIABLE = "VGTOOL_TRIAL"
"""In a child's environment: the keys of the images it tries."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a child tries."""

    images: frozenset[str]

    def left(self, groups: Iterable[deal.Group], store: Store) -> list[deal.Group]:
        """The samples of its images as a group each, but for those that have survived a first trial."""
        mine = ((store.tried(_all(name)), group) for group in groups if (name := image_key(group)) in self.images)
        singles = ((again, one) for again, group in mine for one in group.singles())
        return [one for again, one in singles if again or not store.tried(key(one.ids[0]))]

    def keeps(self, group: Sequence[Sample], store: Store) -> bool:
        """Whether a sample that has survived keeps its rows; else it is marked, and will run again."""
        if store.tried(_all(image_key(group))):
            return True
        store.survived(key(group[0].id))
        return False

    def end(self, store: Store) -> None:
        """Its images have come to an end."""
        for image in self.images:
            store.survived(_all(image))
            store.settle(image)


def _all(image: str) -> str:
    """The name of an image all of whose samples have been tried."""
    return f"{image}-all"


def on_trial() -> Trial | None:
    """What this process is to try, when it is such a child."""
    keys = os.environ.get(VARIABLE)
    return Trial(frozenset(keys.split(","))) if keys else None


def suspects(store: Store, wanted: Container[str] | None = None) -> list[str]:
    """Keys of images (of `wanted` ones) that DEATHS processes began and did not end."""
    dead = [note for note in store.under_way() if note.process == me() or not alive(note.process)]
    deaths = Counter(note.image for note in dead if wanted is None or note.image in wanted)
    return sorted(image for image, count in deaths.items() if count >= DEATHS)


def others(store: Store) -> set[str]:
    """Processes on this host that are at work in the folder."""
    return {note.process for note in store.under_way() if note.process != me() and alive(note.process)}


def hold(
    store: Store,
    groups: Sequence[Sequence[Sample]],
    say: Callable[[str], None],
    command: Sequence[str] | None = None,
) -> None:
    """Try every suspect image of a share in child processes; what kills them is recorded and never tried again."""
    if on_trial() is not None or not suspects(store):
        return
    names = {image_key(group): group for group in groups}
    while images := suspects(store, names):
        shown = ", ".join(repr(names[image][0].image.name) for image in images[:3])
        say(f"Two processes ended at {shown}: trying {len(images)} images in a process of their own first.")
        found = _fatal(store, images, command or children.command(*sys.argv[1:]))
        if found is None:
            return
        image, sample, why = found
        store.condemn(sample, why)
        name = next((one.id for one in names[image] if key(one.id) == sample), sample)
        say(f"Sample '{name}' ended that process too ({why}): it is failed and not tried again.")


def _fatal(store: Store, images: Sequence[str], command: Sequence[str]) -> tuple[str, str, str] | None:
    """One trial: the image and sample that killed the child, and how; None when it ended well or never got so far."""
    child, code = children.watch(command, {VARIABLE: ",".join(images)}, subprocess.DEVNULL)
    if code in (Exit.DONE, Exit.SOME_FAILED):
        return None
    for note in store.under_way():
        if note.image in images and split(note.process)[1] == child.pid and note.sample != "all":
            return note.image, note.sample, f"signal {-code}" if code < 0 else f"exit {code}"
    return None
