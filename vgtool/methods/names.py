"""The names of the built-in methods, for the shell to complete. No torch here; parse.py holds the methods."""

NAMES = (
    "vgrefine",
    "pai",
    "adaptvis",
    "vicrop",
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
