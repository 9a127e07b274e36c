"""A sample that ends its process (a device assert, a driver fault, more memory than the host has) must not end every
rerun. Images that two processes began and never ended are tried sample by sample in a child process, before this one
loads anything. Only a sample whose child dies while its parent lives is failed: chance kills, however many, fail none.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from vgtool.errors import Exit
from vgtool.records import Rejected, Sample
from vgtool.runs import children, plan
from vgtool.runs.process import alive, me, split
from vgtool.runs.store import Shard, Store, key

DEATHS = 2
VARIABLE = "VGTOOL_TRIAL"
"""In a child's environment: the keys of the images it tries."""


def on_trial() -> frozenset[str] | None:
    """The images this process is to try, when it is such a child."""
    keys = os.environ.get(VARIABLE)
    return frozenset(keys.split(",")) if keys else None


def suspects(store: Store, wanted: set[str]) -> list[str]:
    """Keys of images that DEATHS processes began and did not end."""
    dead = [note for note in store.under_way() if note.process == me() or not alive(note.process)]
    deaths = Counter(note.image for note in dead if note.image in wanted)
    return sorted(image for image, count in deaths.items() if count >= DEATHS)


def others(store: Store) -> set[str]:
    """Processes on this host that are at work in the folder."""
    return {note.process for note in store.under_way() if note.process != me() and alive(note.process)}


def hold(
    store: Store,
    samples: Sequence[Sample],
    rejected: Sequence[Rejected],
    shard: Shard,
    say: Callable[[str], None],
    command: Sequence[str] | None = None,
) -> None:
    """Try every suspect image of this shard in child processes; what kills them is recorded and never tried again."""
    if on_trial() is not None or not (store.root / "run.json").exists():
        return
    groups, _ = plan.mine(samples, rejected, shard)
    names = {key(g[0].image_id, *(source.name for source in g[0].extra_images)): g for g in groups}
    while images := suspects(store, set(names)):
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
