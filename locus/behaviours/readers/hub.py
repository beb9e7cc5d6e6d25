"""A file of a data set on the hub, at a pinned commit; no code is run, and what was fetched before needs no network.

The file is named by its path in the repository, or by a split, which has to be a word in the path of exactly one file.
"""

import re
from pathlib import Path, PurePosixPath

from locus.behaviours import lines
from locus.behaviours.readers.files import FORMATS
from locus.errors import UserError, others

COMMIT = re.compile("[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
REMEDY = "Check the name, revision and network, or download it and give `file`."


def fetched(name: str, revision: str, split: str = "", file: str = "", config: str = "") -> Path:
    """Where a file of a data set lies on this machine, fetched if it is not there.

    Args:
        name: owner/name.
        revision: a commit, all 40 digits.
        split: train, test ...; a word of the file's path.
        file: the path in the repository, where it is known.
        config: another word of the path, where a split has several files.

    Raises:
        UserError: if it is no such name or commit, cannot be had, is too large, or is not one file.
    """
    if not REPOSITORY.fullmatch(name) or ".." in name:
        raise UserError("a data set's name on the hub, owner/name", repr(name[:120]), "Write it as the hub does.")
    if not COMMIT.fullmatch(revision):
        remedy = "Branches and tags move: give the commit, as the hub's page of files shows it."
        raise UserError(
            f"a pinned revision of {name}, 40 digits of a commit", repr(revision[:80]) if revision else "none", remedy
        )
    if not file:
        file = _only(_listed(name, revision), name, split, config)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    held = try_to_load_from_cache(name, file, revision=revision, repo_type="dataset")
    if isinstance(held, str):
        return Path(held)
    with others(f"{file} of the data set {name} on the hub", f"{name}@{revision[:12]}", REMEDY):
        _bounded(name, revision, file)
        return Path(hf_hub_download(name, file, revision=revision, repo_type="dataset"))


def _bounded(name: str, revision: str, file: str) -> None:
    """Refuse to fetch what would not be read.

    Raises:
        UserError: if it is too large.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    size = get_hf_file_metadata(hf_hub_url(name, file, revision=revision, repo_type="dataset")).size
    if size is not None and size > lines.FILE_BYTES:
        raise UserError(
            "a file of questions", f"{file} of {size:,} bytes; {lines.FILE_BYTES:,} at most are read", "Give a smaller one."
        )


def _listed(name: str, revision: str) -> list[str]:
    """The files of a data set: of what was fetched before where there is no network."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        return list(HfApi().list_repo_files(name, revision=revision, repo_type="dataset"))
    except Exception:  # whatever the network does; what was fetched may serve
        with others(f"the data set {name} from the hub", f"{name}@{revision[:12]}", REMEDY):
            folder = Path(snapshot_download(name, revision=revision, repo_type="dataset", local_files_only=True))
        return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _only(files: list[str], name: str, split: str, config: str) -> str:
    """The one file of a split.

    Raises:
        UserError: if there is none, or several.
    """
    if not split:
        raise UserError(f"a split or a file of {name}", "neither", 'Add split = "train", or file = "PATH".')
    readable = [one for one in files if PurePosixPath(one).suffix.lower() in FORMATS]
    found = [one for one in readable if all(_word(word, one) for word in (split, config) if word)]
    if len(found) != 1:
        shown = ", ".join((found or readable)[:8]) or "none that can be read"
        raise UserError(
            f"one file of the split {split!r}" + (f" and config {config!r}" if config else ""),
            f"{len(found)} in {name}; {'of these' if found else 'there are'}: {shown:.400}",
            'Say which: file = "PATH".',
        )
    return found[0]


def _word(word: str, path: str) -> bool:
    """Whether a path has a word, at no letter's or digit's side."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", path) is not None
