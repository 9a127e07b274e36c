"""A share of a run: so many of so many."""

from dataclasses import dataclass

from vgtool.errors import VgError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, 1-based: images are dealt by estimated work."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`I/N` with 1 <= I <= N."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise VgError(f"--shard '{text}' is not I/N with 1 <= I <= N.", "For four processes: 1/4, 2/4, 3/4, 4/4.")
        return cls(int(index), int(count))

    @property
    def name(self) -> str:
        return f"{self.index}of{self.count}"
