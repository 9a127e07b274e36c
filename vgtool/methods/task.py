"""What a run does with some images: the seam between the runner (which images, when, to where) and the methods.

The runner decodes and prepares images ahead, hands over those of one form with all their open questions, and stores the
rows that come back. A task never touches files; the runner never touches attention.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vgtool.methods.names import Role
from vgtool.records import Rejected, Sample

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from vgtool.models.inputs import Vision

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """One image, decoded and prepared, with the questions on it that are still open."""

    samples: tuple[Sample, ...]
    images: "tuple[Image.Image, ...]"
    """Stored images as RGB: the sample's own first, then `extra_images`. The same for every sample of the group."""
    visions: "tuple[Vision, ...]"
    """`images`, prepared for the model."""

    @property
    def form(self) -> tuple[tuple[int, ...], ...]:
        """Equal for groups that can go through the model in one batch."""
        return tuple(vision.form for vision in self.visions)


class Task(Protocol):
    """A kind of run: probe or refine."""

    kind: str
    """`probe` or `refine`: what run.json says."""
    schema: "pa.Schema"
    """The columns of the Parquet parts; `sample_id` always, `error` always."""
    labels: tuple[str, ...]
    """Of a sample's rows: the methods of a refine run, baseline first; one, empty, of a probe."""

    notes: Sequence[str]
    """What a reader of its numbers must know."""
    roles: Mapping[str, Role]
    """Of each method, what it is to a result; empty for a probe."""

    def identity(self) -> Mapping[str, Any]:
        """The settings that make this run this run: prompts, row, maps, methods, heads digest. JSON values only."""
        ...

    def only(self, labels: Collection[str]) -> "Task":
        """The same task, for these rows of each sample alone."""
        ...

    def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> Sequence[Row]:
        """All rows of groups of one form, failed samples as rows with `error` set. At most `max_questions` of an image
        in one forward pass.

        Raises torch.OutOfMemoryError (the runner takes fewer images, then halves `max_questions`) and SampleError when
        images or questions fail together: the runner tries each image, then each question, by itself, and what fails
        alone fails. Any other exception is a bug.
        """
        ...

    def failed(self, sample: Sample | Rejected, reason: str) -> Sequence[Row]:
        """The rows of a sample that has no result: ids and `error`, nothing else filled."""
        ...
