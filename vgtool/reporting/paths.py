"""No page tells the folders of the machine that made it."""

import re

FOLDERS = re.compile(r"(?:(?<=[\s'\"(=:])|^)(?:[A-Za-z]:[\\/]|/)(?:[^\s'\"\\/]+[\\/])+(?=[^\s'\"\\/])")
"""The folders of an absolute path inside a sentence."""


def without_folders(text: str) -> str:
    """A sentence with every absolute path cut down to its last name."""
    return FOLDERS.sub("", text)
