"""Where a model's files are: shipped with vgtool, in a local folder, in the Hugging Face cache, or to be fetched.

No torch here: `vgtool models` asks what is on disk without loading anything and without the network.
"""

from importlib import resources
from pathlib import Path

from vgtool import cached
from vgtool.errors import VgError, reason_of
from vgtool.models.files import whole
from vgtool.registry import ModelSpec

FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
"""What is fetched of a repository; *.bin only when it has no safetensors."""


def fetch_command(spec: ModelSpec) -> str:
    """The shell command that fetches a model."""
    pinned = "" if spec.revision == "main" else f" --revision {spec.revision}"
    return f"hf download {spec.hub}{pinned}"


def embedded_folder(spec: ModelSpec) -> Path:
    """The folder of a model that ships inside the package."""
    return Path(str(resources.files("vgtool") / (spec.embedded or "")))


def cached_folder(spec: ModelSpec) -> Path | None:
    """The snapshot of a hub model that is on disk already; None when it is not. No network."""
    if spec.hub is None or not cached.holds("models", spec.hub):
        return None
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(spec.hub, "config.json", revision=spec.revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if whole(folder) else None


def locate(spec: ModelSpec, source: Path | None, offline: bool) -> tuple[Path, str | None]:
    """The folder with a model's files, and the commit it was resolved to (None for a local folder)."""
    if source is not None:
        if not source.is_dir():
            raise VgError(f"'{source}' is not a folder.", "Give the folder of a checkpoint.")
        return source, None
    if spec.embedded is not None:
        folder = embedded_folder(spec)
        if not folder.is_dir():
            raise VgError(f"'{spec.name}' ships with vgtool, but '{folder}' is not there.", "Reinstall vgtool.")
        return folder, None
    if spec.hub is None:
        raise VgError(f"'{spec.name}' has no public checkpoint.", "Give a local one with --model DIR.")
    folder = _snapshot(spec, offline)
    return folder, folder.name


def _snapshot(spec: ModelSpec, offline: bool) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    offline = offline or constants.HF_HUB_OFFLINE
    try:
        # .bin weights only when that is all there is: LLaVA-1.5 style repositories often hold both.
        found = snapshot_download(spec.hub, revision=spec.revision, allow_patterns=FILES, local_files_only=offline)  # type: ignore[arg-type]
        if not any(Path(found).rglob("*.safetensors")):
            found = snapshot_download(
                spec.hub,  # type: ignore[arg-type]
                revision=spec.revision,
                allow_patterns=[*FILES, "*.bin"],
                local_files_only=offline,
            )
        return Path(found)
    except GatedRepoError:
        raise VgError(
            f"{spec.hub} is gated ({spec.license}).",
            f"Accept its terms at https://huggingface.co/{spec.hub}, run `hf auth login`, then "
            f"`{fetch_command(spec)}`.",
        ) from None
    except (RevisionNotFoundError, RepositoryNotFoundError, HFValidationError) as error:
        said = f"No {spec.hub} at revision '{spec.revision}': {reason_of(error)}."
        raise VgError(said, "Check hub and revision.") from None
    except (OSError, ValueError) as error:  # no network, no cache, a full disk: all mean that the files are not here
        if getattr(error, "errno", None) == 28:
            raise VgError(f"No room on disk for {spec.hub} ({_size(spec)}).", "Set HF_HOME to a larger disk.") from None
        raise VgError(
            f"{spec.hub} ({_size(spec)}, {spec.license or 'license not stated'}) is not on disk"
            + (", and offline use forbids fetching it." if offline else f" and was not fetched: {reason_of(error)}."),
            f"Fetch it with `{fetch_command(spec)}`.",
        ) from None


def _size(spec: ModelSpec) -> str:
    return f"{spec.size_gb:g} GB" if spec.size_gb else "size unknown"
