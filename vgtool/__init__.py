"""vgtool: where medical multimodal LLMs look, and what happens when they are made to look again."""

__version__ = "0.1.0"
