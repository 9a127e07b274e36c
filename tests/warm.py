"""What a vgtool command imports sooner or later, imported and not used: what forked.py's server starts from."""

import gc
import importlib
import pkgutil

import PIL.Image
import pyarrow

import vgtool
from vgtool.garbage import uncollected

with uncollected():
    for name in (
        "faults",
        "matplotlib.figure",
        "scipy.stats",
        "transformers.models.auto.processing_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.models.clip.modeling_clip",
        "transformers.models.llama.modeling_llama",
        "transformers.models.llava.modeling_llava",
        "transformers.models.llava.processing_llava",
        *(found.name for found in pkgutil.walk_packages(vgtool.__path__, "vgtool.")),
    ):
        if not name.endswith((".__main__", ".train")):
            importlib.import_module(name)

    PIL.Image.preinit()
    pyarrow.array([""])  # imports pandas where there is one
    conversions = importlib.import_module("transformers.conversion_mapping")
    conversions.get_checkpoint_conversion_mapping("llava")  # compiles a thousand expressions, of all models
    gc.freeze()  # a collection in a child would copy every page of this process
