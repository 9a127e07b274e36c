"""The names of the built-in methods, for the shell to complete, and what each is to a result. No torch here; parse.py
holds the methods."""

from typing import Literal

Role = Literal["baseline", "claim", "control", "ceiling"]
"""What a method is to a result. A claim says that it answers better; a control is what claims are held against; a
ceiling knows the truth. Only claims are corrected for."""
CONTROLS = (
    "random-keep",
    "random-heads",
    "centre",
    "oracle",
    "swap",
    "invert",
    "blank",
    "noise",
    "no-image",
)
"""Built-in methods that are no claims."""
CEILINGS = ("oracle",)
NAMES = ("vgrefine", "pai", "adaptvis", "vicrop", "vcd", "var", "cai", *CONTROLS)


def role_of(method: str) -> Role:
    """The role of a method by its name alone, for runs and files that do not say."""
    name = method.partition(":")[0]
    if name in CEILINGS:
        return "ceiling"
    return "control" if name in CONTROLS else "baseline" if name == "baseline" else "claim"
