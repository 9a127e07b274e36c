"""Where a benchmark's folder is: below --data-root, or in the Hugging Face cache; and fetching it there.

Fetching takes the files of the entry only, through huggingface_hub, which resumes what was cut off and shows progress.
Archives stay packed. Nothing is fetched unless it is asked for.
"""

from fnmatch import fnmatchcase
from pathlib import Path

from vgtool import cached
from vgtool.benchmarks.sources import Files
from vgtool.errors import StorageError, VgError, reason_of
from vgtool.registry import BenchmarkSpec


def locate(spec: BenchmarkSpec, data_root: Path | None) -> Path | None:
    """The folder with a benchmark's rows: --data-root/NAME, --data-root itself, or what --fetch left in the cache.
    Where none has them, the place they should be in; None for nothing at all. No network."""
    places = []
    if data_root is not None:
        if not data_root.is_dir():
            raise VgError(f"--data-root '{data_root}' is not a folder.", "Name the folder with the benchmarks' files.")
        places = [folder for folder in (data_root / spec.name, data_root) if folder.is_dir()]
    with_data = next((folder for folder in places if has_data(spec, folder)), None)
    return with_data or _cached(spec) or (places[0] if places else None)


def has_data(spec: BenchmarkSpec, folder: Path) -> bool:
    """Whether any data file of the entry is in a folder, or else in an archive there: images alone hide no rows."""
    if any(next(folder.glob(pattern), None) for patterns in spec.data.values() for pattern in patterns):
        return True
    files = Files([folder], spec.folders, spec.archives)
    return any(files.data(patterns) for patterns in spec.data.values())


def rows_on_disk(spec: BenchmarkSpec, data_root: Path | None) -> int | None:
    """How many rows the data files hold, all splits together; None where there are none."""
    from vgtool.benchmarks.tables import count_rows

    root = locate(spec, data_root)
    if root is None:
        return None
    files = Files([root], spec.folders, spec.archives)
    found = {str(path): path for patterns in spec.data.values() for path in files.data(patterns)}
    return sum(count_rows(path) for path in found.values()) if found else None


def _cached(spec: BenchmarkSpec) -> Path | None:
    if spec.hub is None or not cached.holds("datasets", spec.hub):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec.hub, repo_type="dataset", revision=spec.revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no well-formed hub id, which --fetch explains
        return None


def fetch(spec: BenchmarkSpec, *, split: str | None, data_root: Path | None, offline: bool) -> Path:
    """Fetch the files of a split (its default one when not given) to --data-root/NAME, or to the Hugging Face cache."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    wanted = spec.of_split(spec.files, split or spec.default_split)
    if spec.hub is None or not wanted:
        hint = spec.notes[0] if spec.notes else "Put its files below --data-root yourself."
        raise VgError(f"Benchmark '{spec.name}' has nothing to fetch.", hint)
    offline = offline or constants.HF_HUB_OFFLINE
    try:
        folder = Path(
            snapshot_download(
                spec.hub,
                repo_type="dataset",
                revision=spec.revision,
                allow_patterns=wanted,
                local_dir=None if data_root is None else data_root / spec.name,
                local_files_only=offline,
            )
        )
    except GatedRepoError:
        where = f"https://huggingface.co/datasets/{spec.hub}"
        raise VgError(
            f"{spec.hub} is gated.", f"Accept its terms at {where}, run `hf auth login`, then again."
        ) from None
    except (RevisionNotFoundError, RepositoryNotFoundError) as error:
        said = f"No {spec.hub} at revision '{spec.revision}': {reason_of(error)}."
        raise VgError(said, "Check hub and revision.") from None
    except (OSError, ValueError) as error:  # no network, no cache, a full disk: all mean that the files are not here
        if getattr(error, "errno", None) in (28, 122):
            hint = "Set HF_HOME or --data-root to a larger disk; the same command goes on from here."
            raise StorageError(f"No room on disk for {', '.join(wanted)} of {spec.hub}.", hint) from None
        lost = f"could not be fetched: {reason_of(error)}"
        why = "is not on disk, and offline use forbids fetching it" if offline else lost
        hint = f"Fetch it elsewhere: `hf download --repo-type dataset {spec.hub}`, and name it with --data-root."
        raise VgError(f"{spec.hub} {why}.", hint) from None
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    missing = [pattern for pattern in wanted if not any(fnmatchcase(path, pattern) for path in found)]
    if missing:
        why = "is not on disk, and offline use forbids fetching it" if offline else "is not in the repository"
        raise VgError(f"'{missing[0]}' of {spec.hub} {why}.", "Check 'files' of its entry, or fetch without --offline.")
    return folder
