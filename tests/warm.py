"""What a vgtool command imports sooner or later, imported and not used: what forked.py's server starts from."""

import gc
import importlib
import pkgutil

import faults  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import transformers.models.llava.modeling_llava
import transformers.models.llava.processing_llava  # noqa: F401
from transformers import AutoProcessor, AutoTokenizer  # noqa: F401

import vgtool

for found in pkgutil.walk_packages(vgtool.__path__, "vgtool."):
    if not found.name.endswith((".__main__", ".train")):
        importlib.import_module(found.name)

gc.freeze()  # a collection in a child would copy every page of this process
