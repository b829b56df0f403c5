"""References to models on a hub: `org/name[@revision][:file]`. Pure text work."""

import re
from dataclasses import dataclass, replace

from appliance.core.errors import UsageError

PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
SHAPE = re.compile(rf"(?P<repo>{PART}/{PART})(?:@(?P<revision>[^:]*))?(?::(?P<file>.*))?", re.DOTALL)
REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO_LIMIT = 96  # characters; the hub's own rule
MODEL_FILES = (".gguf", ".safetensors", ".bin", ".pt")


@dataclass(frozen=True, kw_only=True)
class HubReference:
    """One model of a hub; `str()` gives the text back."""

    repo: str
    """`org/name`."""
    revision: str | None = None
    """Branch, tag or commit; None: the main branch, or what lies here of it."""
    file: str | None = None
    """A file of the repository, or a quantisation such as `Q4_K_M`; None: chosen to fit."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}" + (f":{self.file}" if self.file else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> "HubReference":
        """The same, pinned."""
        return replace(self, revision=commit)


def parse_reference(text: str) -> HubReference | None:
    """The reference in a text; None when it has not the shape of one (a path, a plain name).

    Whether a path of the same name exists is the caller's to ask first. Raises `UsageError` for a text that can only be
    a reference but names an impossible repository, revision or file.
    """
    match = SHAPE.fullmatch(text)
    if match is None or (match["file"] is None and text.lower().endswith(MODEL_FILES)):
        return None
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if len(repo) > REPO_LIMIT or "--" in repo or ".." in repo or repo.endswith((".git", ".ipynb")):
        raise UsageError(f"{repo!r} cannot be the name of a hub repository")
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise UsageError(f"cannot use the revision {revision!r} of {repo}; it is a branch, a tag or a commit")
    if file is not None and not is_safe_path(file):
        raise UsageError(f"cannot use the file {file!r} of {repo}; it is a path inside the repository")
    return HubReference(repo=repo, revision=revision, file=file)


def likely_reference(text: str) -> HubReference | None:
    """The reference in a text; None also for one that is wrong, of which whoever loads it will say why."""
    try:
        return parse_reference(text)
    except UsageError:
        return None


def is_safe_path(path: str) -> bool:
    """Whether a repository's path stays inside the folder it is put into, on every file system."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in parts)
