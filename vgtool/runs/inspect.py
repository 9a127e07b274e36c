"""What `vgtool models DIR` says of a checkpoint: it is loaded, checked, and shown one image of a size."""

from typing import TYPE_CHECKING, Any

from vgtool.errors import SampleError, VgError

if TYPE_CHECKING:
    from vgtool.attention.sharing import Sessions


def size(text: str) -> tuple[int, int]:
    """(width, height) of --size WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise VgError(f"--size '{text}' is not WIDTHxHEIGHT.", "For example --size 1024x768.")
    return int(width), int(height)


def rows(opened: "Sessions", wanted: tuple[int, int]) -> list[dict[str, Any]]:
    """(fact, value) rows: family, layers, tokens of such an image, geometry, prompts, and what will not work."""
    from PIL import Image

    from vgtool.models.adapter import vision_of

    adapter = opened.adapter
    facts = {
        "family": f"{adapter.model.config.model_type} ({type(adapter.model).__name__}), adapter {adapter.spec.adapter}",
        "layers": f"{len(adapter.readable)} of {adapter.layers} with softmax attention, {adapter.heads} heads each",
        "layers without": ", ".join(f"{at} {kind}" for at, kind in sorted(adapter.without.items())) or None,
    }
    try:
        vision = vision_of(adapter, Image.new("RGB", wanted))
    except SampleError as error:
        facts |= {"tokens": None, "geometry": str(error)}
    else:
        grid, more = vision.geometry.grid, f" and {vision.overview} of an overview" if vision.overview else ""
        placed = f"{grid.rows} x {grid.cols}" if vision.geometry.placed else f"{grid.tokens} without a place"
        facts |= {"tokens": f"{placed}{more}, for {wanted[0]} x {wanted[1]} pixels", "geometry": _geometry(vision)}
    check = f"the self-check differs by {opened.difference:.1e} of the largest logit"
    whole = f"whole, since {opened.unshared}" if opened.unshared else "share an image's prefix"
    facts |= {"prompts": f"{whole}; {check}", "will not work": "; ".join(_missing(opened)) or None}
    return [{"fact": fact, "value": value} for fact, value in facts.items()]


def _geometry(vision: Any) -> str:
    shape = getattr(vision, "shape", None)
    if shape is None:
        return "by the family's own preprocessing"
    if shape.why:
        return f"measured: none, {shape.why}"
    tiles = f", {shape.tiles} tiles" if shape.tiles > 1 else ""
    return f"measured: {shape.how}{tiles}, worst edge {shape.error:.1f} px off with stripes of {shape.stripe:.1f} px"


def _missing(opened: "Sessions") -> list[str]:
    from vgtool.methods.parse import known

    adapter, out = opened.adapter, []
    if adapter.ungridded:
        need = [name for name, kind in known().items() if getattr(kind, "needs_grid", False)]
        out.append(f"probe, and refine with {', '.join(need)}: {adapter.ungridded}")
    if adapter.without:
        out.append("maps and knockouts of the layers without attention, which stay a path around any knockout")
    return out
