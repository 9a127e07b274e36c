"""The names of the built-in methods, for the shell to complete and for tables to tell controls from claims. No torch
here; parse.py holds the methods."""

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
"""What a claim is held against; their p values are not corrected for, and not claims."""
NAMES = ("vgrefine", "pai", "adaptvis", "vicrop", *CONTROLS)
