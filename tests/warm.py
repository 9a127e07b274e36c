"""What a vgtool command imports sooner or later, imported and not used: what forked.py's server starts from."""

import gc
import importlib
import pkgutil

import faults  # noqa: F401
import matplotlib.figure  # noqa: F401
import PIL.Image
import pyarrow
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import transformers.models.clip.modeling_clip
import transformers.models.llama.modeling_llama
import transformers.models.llava.modeling_llava
import transformers.models.llava.processing_llava  # noqa: F401
from transformers import AutoProcessor, AutoTokenizer  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import vgtool

for found in pkgutil.walk_packages(vgtool.__path__, "vgtool."):
    if not found.name.endswith((".__main__", ".train")):
        importlib.import_module(found.name)

PIL.Image.preinit()
pyarrow.array([""])  # imports pandas where there is one
get_checkpoint_conversion_mapping("llava")  # compiles a thousand expressions, of all models
gc.freeze()  # a collection in a child would copy every page of this process
