"""A model of the zoo with an image and questions in a session, and the same without one."""

import torch

from tests import zoo
from vgtool.attention import whole
from vgtool.attention.asks import Ask
from vgtool.attention.engine import attach
from vgtool.attention.session import Session

LAYERS = frozenset(range(4))


class Scene:
    """One model, one image, a few questions of unequal length, attached to the engine."""

    def __init__(self, name: str, sizes: tuple[int, ...] = (9, 12, 7), **image: int) -> None:
        self.adapter = zoo.family(name)
        self.vision = zoo.vision(self.adapter, **image)
        self.head = zoo.head()
        self.tails = zoo.tails(1, *sizes)
        attach(self.adapter.model, self.adapter.text)
        kind = whole.WholeSession if name == "paligemma" else Session
        with torch.inference_mode():
            self.session = kind(self.adapter, [[self.vision]], self.head)

    def ask(self, **kwargs):  # type: ignore[no-untyped-def]
        with torch.inference_mode():
            return self.session.ask([Ask(tail, **kwargs) for tail in self.tails], LAYERS, LAYERS)

    def full(self, index: int):  # type: ignore[no-untyped-def]
        """Inputs of the whole prompt, its image columns, and the rows after the image."""
        with torch.inference_mode():
            inputs = self.adapter.inputs([self.vision], self.head, self.tails[index])
        return inputs, inputs.columns[0], range(inputs.length - len(self.tails[index]), inputs.length)


class FakeTokenizer:
    """Decodes ids to their decimal forms."""

    def decode(self, ids, skip_special_tokens: bool) -> str:  # type: ignore[no-untyped-def]
        return " ".join(map(str, ids))
