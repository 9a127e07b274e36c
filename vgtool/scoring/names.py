"""What runs are called among others: model and benchmark, then whatever tells one from the next.

The same names stand in tables, in legends and in filters. Two checkpoints of one name are two models.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vgtool.scoring.inputs import Run

OPTIONS = ("split", "protocol", "row", "region", "box_mapping", "dtype", "attention", "maps", "rule", "seed")
"""Settings that may tell runs apart, the most telling first; then the folder does."""
IN_TITLES = ("split", "protocol")


@dataclass(frozen=True, slots=True)
class Names:
    """How a run is called."""

    model: str
    """Its model, told from other checkpoints of that name."""
    name: str
    """Model, benchmark, and what tells it from the other runs: short, for legends and the column `run`."""
    title: str
    """The same with split and protocol, for headings."""
    apart: tuple[str, ...]
    """What tells it from runs of the same model and benchmark."""


def told_apart(runs: Sequence[Run]) -> list[Names]:
    """A name for each run, no two runs of one kind alike."""
    models = model_labels(runs)
    apart: list[list[str]] = [[] for _ in runs]
    titled: list[list[str]] = [[] for _ in runs]

    def twins(at: int) -> list[int]:
        called = [(run.kind, model, run.identity["benchmark"]) for run, model in zip(runs, models, strict=True)]
        return [i for i in range(len(runs)) if (called[i], apart[i]) == (called[at], apart[at])]

    for option in OPTIONS:
        said = [str(run.identity.get(option)) for run in runs]
        groups = [twins(at) for at in range(len(runs))]
        for at, group in enumerate(groups):
            known = all(runs[i].identity.get(option) is not None for i in group)
            if known and len({said[i] for i in group}) > 1:
                text = said[at] if option in IN_TITLES else f"{option.replace('_', ' ')} {said[at]}"
                apart[at] = [*apart[at], text]
                titled[at] += [] if option in IN_TITLES else [text]
    groups = [twins(at) for at in range(len(runs))]
    for at, group in enumerate(groups):
        if len(group) > 1:
            folder = dict(zip(group, endings([runs[i].path for i in group]), strict=True))[at]
            apart[at] = [*apart[at], folder]
            titled[at].append(folder)
    found = []
    for run, model, said_, more in zip(runs, models, apart, titled, strict=True):
        i = run.identity
        title = f"{model} on {i['benchmark']} ({i.get('split')}, {i.get('protocol')})"
        found.append(
            Names(model, ", ".join([model, i["benchmark"], *said_]), ", ".join([title, *more]), tuple(said_))
        )
    return found


def model_labels(runs: Sequence[Run]) -> list[str]:
    """The name of each run's model; checkpoints that share one are told apart by their folders, else by the folders of
    their first runs."""
    keys = [model_key(run) for run in runs]
    first = {key: run for key, run in reversed(list(zip(keys, runs, strict=True)))}
    labels: dict[Hashable, str] = {}
    for name in dict.fromkeys(str(run.identity["model"]) for run in runs):
        same = [key for key in first if str(first[key].identity["model"]) == name]
        labels |= dict.fromkeys(same, name)
        if len(same) > 1:
            places = [first[key].recorded.get("checkpoint") for key in same]
            paths = [Path(str(place)) for place in places] if all(places) and len({*places}) == len(same) else None
            tails = endings(paths or [first[key].path for key in same])
            labels |= {
                key: tail if paths or first[key].path.is_file() else f"{name} ({tail})"
                for key, tail in zip(same, tails, strict=True)
            }
    return [labels[key] for key in keys]


def model_key(run: Run) -> Hashable:
    """Equal for two runs exactly when their model is the same; a file of predictions is a model of its own."""
    if "revision" not in run.identity:
        return ("file", str(run.path.absolute()))
    return (str(run.identity["model"]), str(run.identity["revision"]))


def endings(paths: Sequence[Path]) -> list[str]:
    """The shortest ending of each path that no other one has, all of one length; never a whole absolute path."""
    parts = [path.absolute().parts[1:] for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        tails = ["/".join(one[-depth:]) for one in parts]
        if len(set(tails)) == len(set(parts)):
            break
    return tails
