"""What transformers' auto classes know of a checkpoint: its class, its processor, its chat template, its text model."""

import importlib
from typing import Any

import transformers
from torch import nn
from transformers import AutoConfig, AutoVideoProcessor, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from vgtool.errors import VgError, one_line
from vgtool.models.chat import SET, chosen, in_order, rendered, trimmed
from vgtool.models.checkpoint import Checkpoint
from vgtool.models.fitting import fitting
from vgtool.models.prompts import IMAGE, QUESTION

FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")


def model_class(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """(config, model class) of a checkpoint. VgError when transformers has no image-text model for it."""
    checkpoint.refuse_remote_code(*FILES)
    kind = checkpoint.config(native=True).get("model_type")
    said = f"transformers cannot read config.json of '{checkpoint.spec.name}' (model_type {kind!r})"
    with fitting(said, "Fetch it again; docs/models.md lists the layouts that vgtool reads."):
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise VgError(
            f"'{checkpoint.spec.name}' has model_type {kind!r}, which is no image-text model of transformers.",
            "docs/models.md lists the layouts that vgtool reads.",
        )
    if getattr(config, "is_encoder_decoder", False):
        raise VgError(
            f"'{checkpoint.spec.name}' (model_type {kind!r}) is an encoder-decoder.",
            "vgtool reads decoders, whose prompt holds the image's tokens.",
        )
    return config, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]


def processor(checkpoint: Checkpoint, config: Any) -> Any:
    """The checkpoint's own processor for text and images, on the PIL backend where it has one."""
    kind = _processor_class(checkpoint, config)
    parts = {
        "tokenizer": checkpoint.tokenizer,
        "image_processor": lambda: _images(checkpoint),
        "video_processor": lambda: _videos(checkpoint),
    }

    class Still(kind):  # type: ignore[valid-type, misc]
        """The processor without its audio part, and its video part where that needs a package; neither is fed."""

        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **kwargs: Any) -> list[Any]:
            return [parts[name]() if name in parts else None for name in cls.get_attributes()]

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    if {"tokenizer", "image_processor"} - set(kind.get_attributes()):
        raise _no_processor(checkpoint)
    try:
        return Still.from_pretrained(checkpoint.folder, local_files_only=True)
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VgError(
            f"The processor of '{checkpoint.spec.name}' ({kind.__name__}) cannot be made: {one_line(error)}.",
            "Fetch its files again, or install the package it names.",
        ) from None


def _processor_class(checkpoint: Checkpoint, config: Any) -> Any:
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        named = checkpoint.json(name).get("processor_class")
        try:
            kind = getattr(transformers, named, None) if isinstance(named, str) else None
        except ImportError:  # a module that imports torchvision itself
            raise _no_torchvision(checkpoint, f"{named} of transformers") from None
        if isinstance(kind, type) and issubclass(kind, ProcessorMixin):
            return kind
        if getattr(kind, "is_dummy", False):  # in the place of a class whose packages are not there
            raise _no_torchvision(checkpoint, f"{named} of transformers")
    if type(config) in PROCESSOR_MAPPING:
        return PROCESSOR_MAPPING[type(config)]
    raise _no_processor(checkpoint)


def _no_torchvision(checkpoint: Checkpoint, what: str) -> VgError:
    return VgError(
        f"'{checkpoint.spec.name}' needs torchvision: {what} is written for it alone.",
        "pip install 'vgtool[torchvision]', from the index that torch came from.",
    )


def _no_processor(checkpoint: Checkpoint) -> VgError:
    return VgError(
        f"'{checkpoint.spec.name}' has no processor for images and text.",
        "Copy preprocessor_config.json and processor_config.json from the original checkpoint.",
    )


def _images(checkpoint: Checkpoint) -> Any:
    """The image processor on the PIL backend; on torchvision's where that is its only one."""
    try:
        return checkpoint.image_processor()
    except VgError as error:
        if "torchvision" not in error.message:
            raise
    name = checkpoint.spec.name
    try:
        importlib.import_module("torchvision")
    except ImportError:
        raise _no_torchvision(checkpoint, "the image processor") from None
    except RuntimeError as error:  # a wheel with CUDA operators beside a torch without them
        raise VgError(
            f"The image processor of '{name}' needs torchvision, which does not load beside this torch: "
            f"{one_line(error)}.",
            "Install both from the same index, as https://pytorch.org says for this machine.",
        ) from None
    return checkpoint.image_processor(backend="torchvision")


def _videos(checkpoint: Checkpoint) -> Any:
    """The video processor, whose settings some processors read; None where it cannot be made."""
    if not any(
        (checkpoint.folder / name).exists() for name in ("video_preprocessor_config.json", "processor_config.json")
    ):
        return None
    try:
        return AutoVideoProcessor.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except (ImportError, OSError, ValueError, RuntimeError):  # no torchvision, or none that loads
        return None


def template(checkpoint: Checkpoint, processor: Any) -> tuple[str, tuple[str, str, str]]:
    """(what stands for an image in a prompt, (template with <image> and {question}, text between two images, which
    blanks around a question it drops)). An entry's prompt needs no chat template, or one that works."""
    spec = checkpoint.spec
    try:
        mark, written = _written(checkpoint, processor)
    except VgError:
        if spec.prompt is None:
            raise
        mark, written = str(getattr(processor, "image_token", None) or IMAGE), ("", "\n", "none")
    if spec.prompt is not None:
        return mark, (spec.prompt, spec.options.get("separator", written[1]), "none")
    return mark, written


def _written(checkpoint: Checkpoint, processor: Any) -> tuple[str, tuple[str, str, str]]:
    """As `template`, by the checkpoint's own chat template."""
    name = checkpoint.spec.name
    source = chosen(checkpoint, getattr(processor, "chat_template", None) or processor.tokenizer.chat_template)
    if source is None:
        raise VgError(f"'{name}' has no chat template.", SET)

    def render(images: int, text: str = QUESTION) -> str:
        try:
            return rendered(processor.tokenizer, source, images, checkpoint.spec.system, text)
        except Exception as error:  # a template is a program of its own, and raises what it likes
            raise VgError(f"The chat template of '{name}' cannot be used: {one_line(error)}.", SET) from None

    bare, one, two = (render(images) for images in range(3))
    start = next((i for i, (a, b) in enumerate(zip(bare, one, strict=False)) if a != b), min(len(bare), len(one)))
    rest = bare[start:]
    mark = one[start : len(one) - len(rest)]
    whole = bare[:start] + IMAGE + rest
    in_order(name, whole if mark and one == bare[:start] + mark + rest else "")
    between = two[start + len(mark) : len(two) - len(rest) - len(mark)]
    return mark, (whole, between, trimmed(lambda text: render(0, text)))


def text_model(model: Any, checkpoint: Checkpoint) -> nn.Module:
    """The module whose layers the text config describes. VgError when there is none (encoder-decoders)."""
    config = model.config.get_text_config()
    for module in model.modules():
        layers = getattr(module, "layers", None)
        own = getattr(module, "config", None)
        if (
            isinstance(layers, nn.ModuleList)
            and len(layers) == getattr(config, "num_hidden_layers", None)
            and getattr(own, "model_type", None) == config.model_type
        ):
            return module
    raise VgError(
        f"'{checkpoint.spec.name}' ({type(model).__name__}) has no text decoder that vgtool knows how to read.",
        "Encoder-decoders and models that take no prompt cannot be probed.",
    )
