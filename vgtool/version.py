"""The version of vgtool: in every run, of every page."""

__version__ = "0.1.0"
