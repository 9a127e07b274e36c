"""One process's run, from its place among the others to its exit code: what `vgtool probe` and `refine` share."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgtool import console
from vgtool.benchmarks.tables import is_data
from vgtool.errors import Exit, VgError
from vgtool.models.load import resolve
from vgtool.runs import cluster, deal, imports, memory, plan, trial
from vgtool.runs.growth import Older
from vgtool.runs.progress import reporting
from vgtool.runs.store import Store, complete
from vgtool.version import __version__

if TYPE_CHECKING:  # torch is imported by what runs
    from vgtool.attention.sharing import Sessions
    from vgtool.benchmarks.load import Benchmark
    from vgtool.methods.task import Task
    from vgtool.runs.runner import Outcome


@dataclass(frozen=True, slots=True)
class Launch:
    """Where this process works, and on what share."""

    store: Store
    place: cluster.Place
    share: deal.Share
    """This process's rows."""
    batch: int | None
    """Most questions of an image in one pass; None lets packs decide."""
    images: int | None
    """Most images in one pass; None: what memory is likely to hold."""
    checkpoint: Path | None = None
    """The model's folder, where one was named."""
    older: Older | None = None
    """The digest of the benchmark's first N rows, for a run that grows."""

    def device(self, wanted: str | None, device_map: str | None) -> str | None:
        """The device to load on."""
        return cluster.device(wanted, device_map)


def folder(kind: str, model: str, benchmark: str, above: Path) -> Path:
    """Where a run goes that is not given a folder; of a benchmark that is a file, its name counts."""
    name = Path(benchmark).stem if is_data(benchmark) else benchmark
    return above / f"{kind}-{model}-{name}"


def prepare(
    kind: str,
    model: str,
    registry: Path | None,
    rows: "Benchmark",
    out: Path | None,
    shard: str,
    batch: str,
    images: str,
    known: Mapping[str, Any] | None = None,
    older: Older | None = None,
) -> Launch:
    """Everything that can be settled before a model is loaded, differences from the run in the folder among it; images
    that ended two processes are tried here. `known`: what of the task's identity is known by now."""
    for option, text, hint in (("--batch-size", batch, "let packs decide"), ("--images", images, "go by free memory")):
        if text != "auto" and not (text.isdecimal() and int(text) > 0):
            raise VgError(f"{option} '{text}' is not auto or a number above 0.", f"Leave it out to {hint}.")
    place, (spec, checkpoint) = cluster.place(shard), resolve(model, registry)
    store = Store(out or folder(kind, spec.name, rows.name, Path("runs")))
    own = {"model": spec.name, "adapter": spec.adapter, **of_rows(rows), **(known or {})}
    store.compare(kind, own, older)
    share = deal.mine(rows.samples, rows.rejected, place.shard)
    trial.hold(store, share.groups, console.warn)
    most, many = (None if text == "auto" else int(text) for text in (batch, images))
    return Launch(store, place, share, most, many, checkpoint, older)


def already(at: Launch, labels: Collection[str], as_json: bool) -> int | None:
    """The exit code of a share whose every row is there, which loads no model; None when there is work to do."""
    if trial.on_trial() is not None or at.place.launched or not at.store.marked(at.place.shard):
        return None
    held = at.store.finished(labels, at.share.ids, console.warn)
    if len(held) < len(at.share.ids):
        return None
    failed = Counter(error.split(":")[0] for error in held.values() if error)
    found = {"out": str(at.store.root), "done": 0, "skipped": len(held), "failed": dict(failed)}
    if as_json:
        console.show(json.dumps({**found, "shard": at.place.shard.name}))
    told = "".join(f", {count} failed ({code})" for code, count in sorted(failed.items()))
    console.say(f"0 samples run, {len(held)} already there{told}: {at.store.root}.")
    return Exit.SOME_FAILED if failed else Exit.DONE


def load(
    model: str,
    registry: Path | None,
    dtype: str,
    device: str | None,
    device_map: str | None,
    offline: bool,
    lora: Path | None,
) -> "Sessions":
    """The model, loaded, with the engine attached and checked."""
    imports.engine()
    import torch
    from transformers.utils import logging

    from vgtool.attention.sharing import sessions
    from vgtool.models.load import load as load_model

    spec, source = resolve(model, registry)
    if source is not None:
        console.say(f"{spec.name}: {' '.join(spec.notes[:1]) or 'Local checkpoint.'}")
    logging.disable_progress_bar()
    start = time.monotonic()
    placed: dict[str, Any] = {"dtype": dtype, "device": device, "device_map": device_map}
    adapter = load_model(spec, source=source, offline=offline, lora=lora, **placed)
    try:
        opened = sessions(adapter)
    except torch.OutOfMemoryError:
        raise VgError(
            f"'{spec.name}' fits on {adapter.device}, but no question beside it.",
            "Use a larger card or --device-map auto.",
        ) from None
    one = f"{adapter.dtype} on {adapter.device}".removeprefix("torch.")
    console.detail(f"'{spec.name}' is loaded: {one}, {time.monotonic() - start:.1f} s.")
    if not opened.shared:
        console.warn(f"'{spec.name}' cannot share an image's prefix ({opened.unshared}): whole prompts.")
    return opened


def execute(task: "Task", opened: "Sessions", rows: "Benchmark", at: Launch, as_json: bool) -> int:
    """Run, say what came of it, and give the exit code."""
    from vgtool.runs.runner import Outcome, run

    store, place, adapter = at.store, at.place, opened.adapter
    notes = [*adapter.spec.notes, *adapter.notes, *rows.notes, *task.notes]
    images = (at.images or _images(task, adapter)) if opened.batches else 1
    recorded: dict[str, Any] = {"images": images, "batch_size": at.batch or "auto", "device": str(adapter.device)}
    recorded |= {"shards": place.shard.count}
    for note in (*adapter.notes, *task.notes):
        console.warn(f"Note: {note}")
    # the end of the path alone: enough to tell two checkpoints of one name apart, and no folder of this machine
    recorded |= {"checkpoint": "/".join(at.checkpoint.absolute().parts[1:][-3:])} if at.checkpoint else {}
    recorded |= {"roles": task.roles} if task.roles else {}
    found, held = identity(task, opened, rows), None
    store.open(task.kind, found, notes, recorded, at.older)
    console.detail(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    console.detail(f"{rows.rows:,} rows ({rows.split}, {rows.protocol}), up to {images} images a pass: {store.root}.")
    if trial.on_trial() is None:
        held = store.held(at.share.ids, console.warn)
        left = len(at.share.ids) - len(complete(task.labels, held))
        store.require_space(left * _row_bytes(task, adapter))
        if others := trial.others(store):
            console.say(f"{len(others)} other processes on this host work in '{store.root}'.")
    title = task.kind if place.shard.count == 1 else f"{task.kind} {place.shard.name}"
    outcome = Outcome()
    with reporting(title, speaks=place.local == 0 and trial.on_trial() is None) as report:
        run(
            task,
            adapter,
            rows,
            store,
            shard=place.shard,
            images=images,
            batch=at.batch,
            report=report,
            say=console.warn,
            trial=trial.on_trial(),
            outcome=outcome,
            share=at.share,
            held=held,
        )
    _tell(outcome, store, place, as_json)
    return _finish(outcome, store, place)


def identity(task: "Task", opened: "Sessions", rows: "Benchmark") -> Mapping[str, Any]:
    """What makes this run this run: a resume that differs in any of it is refused by name."""
    import torch
    import transformers

    adapter = opened.adapter
    return {
        "model": adapter.spec.name,
        "revision": adapter.revision,
        "adapter": adapter.spec.adapter,
        "dtype": str(adapter.dtype).removeprefix("torch."),
        **of_rows(rows),
        "versions": {
            "vgtool": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        **task.identity(),
    }


def of_rows(rows: "Benchmark") -> dict[str, Any]:
    """The part of an identity that says which rows."""
    found = {name: getattr(rows, name) for name in ("split", "protocol", "rule", "rows")}
    return {"benchmark": rows.name, **found, "data_digest": rows.digest}


def _images(task: "Task", adapter: Any) -> int:
    """Images a pass: as many as the free memory is likely to hold, by the arithmetic of `vgtool plan`."""
    import torch
    from PIL import Image

    text = adapter.model.config.get_text_config()
    width = text.hidden_size
    fields = text.to_dict()  # Gemma 4's layers differ in these, and its config object names no one value
    shared = fields.get("num_key_value_heads") or adapter.heads
    heads = (fields.get("head_dim"), fields.get("global_head_dim"))
    head = max((one for one in heads if isinstance(one, int)), default=width // adapter.heads)
    tokens = adapter.prepare(Image.new("RGB", (448, 448))).tokens
    size = adapter.dtype.itemsize
    shape = memory.Shape(0, size, adapter.layers, adapter.heads, shared * head, tokens, width)
    if adapter.device.type == "cuda":
        free = min(torch.cuda.mem_get_info(card)[0] for card in range(torch.cuda.device_count()))
    else:
        free = memory.free_memory()
    return memory.images_that_fit(shape, free, len(task.labels) - 1)


def _row_bytes(task: "Task", adapter: Any) -> int:
    """Bytes on disk that a sample is likely to take."""
    from PIL import Image

    tokens = adapter.prepare(Image.new("RGB", (448, 448))).geometry.tokens
    methods = len(task.labels) - 1
    return plan.row_bytes(adapter.layers, adapter.heads, tokens, methods, getattr(task, "maps", "none"))


def _tell(outcome: "Outcome", store: Store, place: cluster.Place, as_json: bool) -> None:
    if trial.on_trial() is not None:
        return
    found = {"out": str(store.root), "done": outcome.done, "skipped": outcome.skipped, "failed": dict(outcome.failed)}
    if as_json:
        found |= {"unmeasured": dict(outcome.lacking)} if outcome.lacking else {}
        found |= {"warned": outcome.warned, "shard": place.shard.name, "limits": dataclasses.asdict(outcome.limits)}
        console.show(json.dumps(found))
    failed = "".join(f", {count} failed ({code})" for code, count in sorted(outcome.failed.items()))
    warned = f", {outcome.warned} with layers that are not finite" if outcome.warned else ""
    warned += "".join(f", {count} not measured ({code})" for code, count in sorted(outcome.lacking.items()))
    memory = "".join(
        f", {most} {what} a pass on images of {tokens} tokens (memory)"
        for what, known in dataclasses.asdict(outcome.limits).items()
        for tokens, most in known.items()
    )
    shard = "" if place.shard.count == 1 else f" shard {place.shard.name}:"
    again = " Stopped; the same command goes on from here." if outcome.stopped else ""
    counts = f"{outcome.done} samples run, {outcome.skipped} already there{failed}{warned}{memory}"
    told = console.warn if failed or outcome.stopped else console.say
    told(f"{shard.strip()} {counts}: {store.root}.{again}".strip())
    if failed and console.talk is console.Talk.VERBOSE:
        for name, error in sorted(store.errors().items()):
            if error:
                console.detail(f"  '{name}': {error}")
    elif failed:
        for _, said in sorted(outcome.first.items()):
            console.warn(f"  first {said}")


def _finish(outcome: "Outcome", store: Store, place: cluster.Place) -> int:
    """The exit code. Among processes of accelerate, which ends all when one fails, only rank 0 says that samples
    failed, and only when every shard has come to its end."""
    if not place.launched or outcome.stopped is not None:
        return outcome.exit
    if place.shard.index > 1:
        return Exit.DONE
    from vgtool.runs.runner import signals

    with signals(outcome):
        missing = cluster.wait(store, place.shard.count, lambda: outcome.stopped is not None)
    if missing:
        names = ", ".join(shard.name for shard in missing)
        console.warn(
            f"Shards not finished: {names}. The same command, with any number of processes, goes on from here."
        )
        return outcome.exit if outcome.stopped is not None else Exit.BUG
    failed = sum(error != "" for error in store.errors().values())
    console.say(
        f"All {place.shard.count} shards are done: {store.root}." + (f" {failed} samples failed." * bool(failed))
    )
    return Exit.SOME_FAILED if failed else Exit.DONE
