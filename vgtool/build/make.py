"""`vgtool build`: measure every picture once, then choose questions, split, and write the benchmark with its counts.

Only small facts stay in memory; pixels and masks are let go picture by picture. Nothing depends on the order in which
the input is listed: names are sorted, and whatever is random is drawn from the seed and the content.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vgtool.build import layouts, plan
from vgtool.build.count import counts
from vgtool.build.facts import Facts, facts, stored_name
from vgtool.build.picture import Options, Picture, Report
from vgtool.build.settings import Settings
from vgtool.build.write import write
from vgtool.errors import VgError

NOT_FAILURES = ("image_without_mask", "mask_resampled")
"""Counted and named, but nobody's mistake: the picture is not used, or its label was put onto its grid."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did."""

    counts: dict[str, Any]
    failures: int


def build(path: Path, out: Path, form: str, options: Options, settings: Settings) -> Built:
    """Write a benchmark of the masks at `path` into the new folder `out`. VgError for a mistake of the user's."""
    settings.check()
    form = layouts.detect(path) if form == "auto" else form
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VgError(f"'{out}' is not an empty folder.", "Choose a new --out.")
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise VgError(f"'{out}' lies in the folder that is read.", "Choose an --out elsewhere.")
    skipped: list[tuple[str, str, str]] = []

    def report(code: str, name: str, detail: str) -> None:
        skipped.append((code, name, detail))

    found = layouts.pictures(path, form, options, report)
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = sorted(_measured(found, out, settings, report), key=lambda one: one.image_id)
        if options.patient and known and not any(unit.startswith("patient ") for one in known for unit in one.units):
            first = known[0].image_id.removeprefix("images/")
            said = f"--patient '{options.patient.pattern}' is found in no path of an image, such as '{first}'."
            raise VgError(said, "Correct it, or leave it out.")
        skipped += [one for fact in known for one in fact.skipped]
        rows, left_out = plan.chosen(known, settings)
        if not rows:
            said = "; ".join(f"{code} {number:,}" for code, number in sorted(Counter(s[0] for s in skipped).items()))
            raise VgError(f"No question comes of '{path}' ({said or 'no picture with masks'}).", "See docs/build.md.")
        splits = plan.split(known, settings)
        sheet = counts(rows, known, skipped, left_out, splits, settings)
        write(rows, known, splits, sorted(set(skipped)), sheet, out, settings, form)
    except VgError:
        shutil.rmtree(out, ignore_errors=True)
        raise
    except OSError as error:
        raise VgError(f"Cannot write in '{out}': {error.strerror or error}.", "Choose another --out.") from None
    return Built(sheet, sum(code not in NOT_FAILURES for code, _, _ in set(skipped)))


def _measured(found: Iterable[Picture], out: Path, settings: Settings, report: Report) -> Iterator[Facts]:
    """Facts of every picture, a few at a time in threads: decoding and filtering release the interpreter."""
    pictures = _apart(found, report)
    with ThreadPoolExecutor(max(settings.workers, 1)) as pool:
        while block := list(islice(pictures, 16 * max(settings.workers, 1))):
            yield from pool.map(lambda one: facts(one[0], one[1], out, settings), block)


def _apart(found: Iterable[Picture], report: Report) -> Iterator[tuple[Picture, str]]:
    """Pictures with the paths they are stored under, each path once."""
    taken: dict[str, str] = {}
    for picture in found:
        stored = stored_name(picture)
        if stored in taken:
            report("image_twice", picture.image_id, f"'{taken[stored]}' is stored under the same name")
            continue
        taken[stored] = picture.image_id
        yield picture, stored
