"""What would stop a checkpoint on disk from being loaded or read, told without loading it.

Its adapter opens it on a model that has shapes and no weights, so that every check of the config, the processor, the
tokenizer and the chat template is the loader's own; then each weight is read once. What only a pass of the model shows
is not looked at: names of weights, and where the tokens of a native model stand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vgtool.errors import SampleError, VgError
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.files import PARTS, weight_files
from vgtool.models.load import adapter_class, refuse_unknown_tokens
from vgtool.registry import ModelSpec

FORBIDDEN = "offline use forbids"
"""What hub.locate says of files that are not on disk."""


class Weightless(Checkpoint):
    """A checkpoint whose models are made of shapes alone."""

    __slots__ = ()

    def build(self, kind: Any, config: Any, placement: Placement, **settings: Any) -> Any:
        if settings.get("tensors") is None:
            self.tensors()  # says which file is missing or damaged
        with self.making(kind), torch.device("meta"):
            return kind(config).eval()


def faults(spec: ModelSpec, folder: Path, offline: bool) -> Iterator[VgError]:
    """Each fault of a checkpoint folder that is found, in the words of the loader. Fetches nothing: a vision tower that
    another repository holds is a fault where a run could not fetch it either (`offline`)."""
    checkpoint = Weightless(folder, spec, "", offline=True)
    try:
        refuse_unknown_tokens(adapter_class(spec.adapter).open(checkpoint, Placement(torch.float32, "meta")))
    except VgError as error:
        if offline or FORBIDDEN not in error.message:
            yield error
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):  # an adapter of another package that reads weights as it opens cannot be looked at
            raise
    except SampleError as error:
        yield VgError(f"The processor of '{spec.name}' does not take an image: {error.detail}.", "Fetch it again.")
    yield from _not_finite(checkpoint)


def _not_finite(checkpoint: Checkpoint) -> Iterator[VgError]:
    """The first weight that holds NaN or infinity. A file that cannot be read has been told of already."""
    try:
        for sub in ("", *(f"{part}/" for part in PARTS)):
            if not weight_files(checkpoint.folder / sub):
                continue
            for name, tensor in checkpoint.tensors(sub).items():
                values = tensor[...]
                if values.is_floating_point() and values.itemsize > 1 and not bool(torch.isfinite(values).all()):
                    yield VgError(
                        f"{sub}{name} of '{checkpoint.spec.name}' holds NaN or infinity.",
                        "The checkpoint is damaged; fetch it again.",
                    )
                    return
    except VgError:
        return
