"""Pictures opened and prepared ahead of the model in threads, and gathered into batches of one form.

An image is noted in the run folder before it is opened and the note is removed when its rows are there, so that a
process that ends without a word leaves a trace (trial.py).
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgtool.errors import SampleError
from vgtool.images import open_image
from vgtool.methods.task import ImageGroup
from vgtool.models.adapter import Adapter, vision_of
from vgtool.records import Sample
from vgtool.runs.notes import forget, image_key, key
from vgtool.runs.store import Store

AHEAD = 4
"""Images opened ahead of the model, at least."""
WINDOW = 4
"""Batches' worth of images that wait for others of their form, where a model's input follows the image."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Questions on an image that is prepared, or cannot be."""

    samples: Sequence[Sample]
    note: Path
    """That the image is under way."""
    found: ImageGroup | SampleError


def prepared(
    adapter: Adapter, store: Store, groups: Iterable[Sequence[Sample]], ahead: int, single: bool = False
) -> Generator[Ready, None, None]:
    """Groups as their images get ready, `ahead` of them at work in threads. `single`: each is one sample, and is noted
    as that sample alone."""
    with ThreadPoolExecutor(2) as threads:
        waiting: list[Future[Ready]] = []
        left = iter(groups)
        try:
            while True:
                while len(waiting) < ahead and (group := next(left, None)) is not None:
                    waiting.append(threads.submit(_begun, adapter, store, group, single))
                if not waiting:
                    return
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                if not future.cancel() and future.exception() is None:
                    forget(future.result().note)


def _begun(adapter: Adapter, store: Store, samples: Sequence[Sample], single: bool) -> Ready:
    note = store.begin(image_key(samples), key(samples[0].id) if single else "all")
    try:
        return Ready(samples, note, _prepare(adapter, samples))
    except BaseException:
        forget(note)
        raise


def batches(ready: Iterator[Ready], most: int, stopped: Callable[[], bool]) -> Generator[list[Ready], None, None]:
    """Images in batches of one form, at most `most` in each; one that cannot be prepared comes by itself. When
    `stopped`, what waits is let go, its notes with it."""
    waiting: dict[Any, list[Ready]] = {}
    try:
        for one in ready:
            form = None if isinstance(one.found, SampleError) else one.found.form
            waiting.setdefault(form, []).append(one)
            full = form if form is None or len(waiting[form]) >= most else None
            if form is not None and full is None and sum(map(len, waiting.values())) >= WINDOW * most:
                full = max(waiting, key=lambda kind: len(waiting[kind]))
            if form is None or full is not None:
                if stopped():
                    return
                yield waiting.pop(full)
        while waiting and not stopped():
            yield waiting.pop(next(iter(waiting)))
    finally:
        for one in (one for some in waiting.values() for one in some):
            forget(one.note)


def _prepare(adapter: Adapter, samples: Sequence[Sample]) -> ImageGroup | SampleError:
    try:
        sources = (samples[0].image, *samples[0].extra_images)
        images = tuple(open_image(source, alpha=adapter.alpha) for source in sources)
        return ImageGroup(tuple(samples), images, tuple(vision_of(adapter, image) for image in images))
    except SampleError as error:
        return error
