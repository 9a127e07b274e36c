"""Whether the Hugging Face cache holds anything of a repository, asked of the disk.

Listings ask it of every entry, and the hub's own client, which knows the rest, takes longer to import than they take.
"""

from pathlib import Path
from typing import Literal


def holds(kind: Literal["models", "datasets"], repository: str) -> bool:
    """Whether there is a folder of this repository; False: nothing of it is cached."""
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"{kind}--{repository.replace('/', '--')}").is_dir()
