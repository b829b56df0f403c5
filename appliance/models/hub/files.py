"""The files of a repository, as a hub lists them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RepoFile:
    """One file at one commit."""

    path: str
    size: int
    """Bytes."""
    sha256: str | None = None
    """Of large files."""
    git_sha1: str | None = None
    """Of the git blob: of small files."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[RepoFile, ...]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The files of a repository that one engine needs."""

    main: str
    """The GGUF file to load (of shards the first); empty when the whole folder is the model."""
    files: tuple[RepoFile, ...]
    why: str
    """One sentence for the user."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)
