"""Commands of vgtool that belong together, run one after the other, each in a process of its own.

A step that fails costs the steps that need it, and no other; every step goes on from where an earlier try left it.
"""

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgtool import console
from vgtool.errors import Exit, StorageError, VgError, did_you_mean
from vgtool.runs import children
from vgtool.runs.whole import MAKE_ROOM, save

WELL = (Exit.DONE, Exit.SOME_FAILED)


@dataclass(frozen=True, slots=True)
class Step:
    """One command."""

    name: str
    words: tuple[str, ...]
    """After `vgtool`."""
    after: tuple[str, ...] = ()
    """Steps that must have ended well."""
    cards: int = 1
    """Cards a process; 0 for what loads no model, and has no shards."""
    kept: Path | None = None
    """File that its output is written to as well."""

    @property
    def line(self) -> str:
        """As a user would type it."""
        return shlex.join(("vgtool", *self.words))


def words(options: Mapping[str, Any]) -> list[str]:
    """Options as they are typed: a list repeats its option; None and False are left out."""
    typed: list[str] = []
    for key, value in options.items():
        name = f"--{key.replace('_', '-')}" if len(key) > 1 else f"-{key}"
        for one in value if isinstance(value, list) else [value]:
            if one is not None and one is not False:
                typed += [name] if one is True else [name, str(one)]
    return typed


def chosen(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps of these names, in their order; all of them when none is named."""
    known = {step.name: step for step in steps}
    for name in names:
        if name not in known:
            raise VgError(f"There is no step '{name}'.", did_you_mean(name, known))
    return [step for step in steps if not names or step.name in names]


def run(steps: Sequence[Step], shard: str) -> int:
    """Run them all; the exit code is that of the first that did not end well, else whether samples failed."""
    from vgtool.runs import cluster

    names = {step.name for step in steps}
    bound = next((step for step in steps if not step.cards or names & set(step.after)), None)
    if bound is not None and (shard != "auto" or cluster.place(shard).shard.count > 1):
        raise VgError(
            f"Step '{bound.name}' cannot be shared among processes, or waits for one that is.",
            "Share one step at a time: --step NAME.",
        )
    ended: dict[str, int] = {}
    for step in steps:
        lost = [name for name in step.after if ended.get(name, Exit.DONE) not in WELL]
        if lost:
            console.warn(f"{step.name}: left out, for {lost[0]} did not end well.")
            ended[step.name] = ended[lost[0]]
            continue
        console.say(f"$ {step.line}")
        ended[step.name] = _one(step, shard)
    bad = {name: code for name, code in ended.items() if code not in WELL}
    if bad:
        console.warn(f"{len(ended) - len(bad)} of {len(ended)} steps are done; not: {', '.join(bad)}.")
        return next(iter(bad.values()))
    return max(ended.values(), default=Exit.DONE)


def _one(step: Step, shard: str) -> int:
    """Exit code of a step, 128 and the signal where one killed it."""
    command = children.command(*step.words, *(("--shard", shard) if step.cards and shard != "auto" else ()))
    if step.kept is None:
        code = children.watch(command)[1]
    else:
        with tempfile.TemporaryFile() as file:
            code = children.watch(command, stdout=file)[1]
            file.seek(0)
            printed = file.read().rstrip(b"\n") + b"\n"
        console.show(printed.decode("utf-8", errors="replace").removesuffix("\n"))
        if code in WELL:
            try:
                save(step.kept, printed)
            except OSError as error:
                raise StorageError(f"Cannot write '{step.kept}': {error.strerror or error}.", MAKE_ROOM) from None
    return code if code >= 0 else 128 - code
