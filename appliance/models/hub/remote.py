"""The hub over HTTP, through `huggingface_hub`; the only module that knows that library. Blocks: for threads only."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from appliance.core.errors import ApplianceError, HubUnreachable, ModelUnavailable
from appliance.models.hub.files import RepoFile, Snapshot
from appliance.models.hub.reference import COMMIT, HubReference, is_safe_path

if TYPE_CHECKING:
    import httpx2

LIBRARY = "dynamo-appliance"
CONNECT_S, READ_S = 10.0, 30.0
TOKEN_CURE = "set HF_TOKEN to a token that may read it, or save one with: hf auth login"


@dataclass(frozen=True, kw_only=True)
class HubAccess:
    """Which hub is asked, and as whom."""

    endpoint: str
    token: str | None = None
    offline: bool = False

    def __repr__(self) -> str:
        """Without the token, which must never reach a log."""
        return f"HubAccess(endpoint={self.endpoint!r}, offline={self.offline})"


@dataclass(frozen=True)
class FileStream:
    """The bytes of a file, from `offset` on; the hub may begin earlier than it was asked to."""

    offset: int
    chunks: Iterator[bytes]


class Hub(Protocol):
    """What pulling needs of a hub. Every call blocks; errors are `ModelUnavailable` or `HubUnreachable`."""

    def snapshot(self, reference: HubReference) -> Snapshot:
        """The repository at the reference's revision, with all its files."""
        ...

    def stream(self, snapshot: Snapshot, file: RepoFile, offset: int) -> "Any":
        """A context manager with the `FileStream` of one file."""
        ...


class HuggingFaceHub:
    """A `Hub` that speaks the API of huggingface.co; proxies and certificates as the environment says."""

    def __init__(self, access: HubAccess) -> None:
        self._access = access
        self._endpoint = access.endpoint.rstrip("/")

    def snapshot(self, reference: HubReference) -> Snapshot:
        """One question to the hub; nothing is kept open."""
        _quieten_library()
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._access.token or False, library_name=LIBRARY)
        with self._explained(reference):
            found = api.model_info(reference.repo, revision=reference.revision, files_metadata=True, timeout=READ_S)
        if not found.sha or not COMMIT.fullmatch(found.sha):
            raise ModelUnavailable(f"{self._endpoint} does not say which commit {reference} is")
        files = (_repo_file(one) for one in found.siblings or [])
        return Snapshot(repo=reference.repo, commit=found.sha, files=tuple(file for file in files if file is not None))

    @contextmanager
    def stream(self, snapshot: Snapshot, file: RepoFile, offset: int) -> Iterator[FileStream]:
        """The file's bytes; leaving the block closes the connection."""
        _quieten_library()
        import httpx2
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # its documented place; it lists no exports
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        url = hf_hub_url(snapshot.repo, file.path, revision=snapshot.commit, endpoint=self._endpoint)
        # identity: of a compressed body neither the length nor a range would mean the file's bytes
        headers = {
            **build_hf_headers(token=self._access.token or False, library_name=LIBRARY),
            "Accept-Encoding": "identity",
        }
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
        reference = HubReference(repo=snapshot.repo, revision=snapshot.commit, file=file.path)
        with self._explained(reference), get_session().stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code == 416 and offset:  # what lies here is longer than the file
                yield FileStream(0, iter(()))
                return
            if answer.is_error:
                answer.read()
                hf_raise_for_status(answer)
            # As it comes: bytes gathered for larger pieces would be lost with the connection.
            yield FileStream(offset if answer.status_code == 206 else 0, answer.iter_raw())

    @contextmanager
    def _explained(self, reference: HubReference) -> Iterator[None]:
        """The library's errors as ours: what the user can do about it, or that a retry may help."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            yield
        except ApplianceError:
            raise
        except OfflineModeIsEnabled:
            raise offline_refusal(reference) from None
        except HFValidationError:
            raise ModelUnavailable(f"{reference.repo!r} cannot be the name of a hub repository") from None
        except HfHubHTTPError as error:
            raise self._refusal(reference, error) from None
        except httpx2.TransportError as error:
            what = str(error) or type(error).__name__
            raise HubUnreachable(f"cannot reach {self._endpoint} for {reference.repo}: {what}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError, KeyError) as error:
            raise ModelUnavailable(
                f"{self._endpoint} gave an answer about {reference.repo} that no hub gives ({type(error).__name__}); "
                "check hub.endpoint"
            ) from None

    def _refusal(self, reference: HubReference, error: Any) -> ApplianceError:
        from huggingface_hub.errors import DisabledRepoError, EntryNotFoundError, GatedRepoError, RevisionNotFoundError

        status = error.response.status_code
        repo, place = reference.repo, self._endpoint
        if isinstance(error, GatedRepoError):
            cure = f"then {TOKEN_CURE}" if self._access.token is None else "with the account of your token"
            return ModelUnavailable(f"{repo} is gated: accept its terms at {place}/{repo}, {cure}")
        if isinstance(error, DisabledRepoError):
            return ModelUnavailable(f"{repo} was disabled on {place}")
        if isinstance(error, RevisionNotFoundError):
            return ModelUnavailable(f"{repo} has no revision {reference.revision} on {place}")
        if isinstance(error, EntryNotFoundError):
            return ModelUnavailable(f"{repo} has no file {reference.file} on {place}")
        if status == 401 and self._access.token is not None:
            return ModelUnavailable(f"{place} refuses the token for {repo}: it is wrong or has expired; {TOKEN_CURE}")
        if status == 403:
            return ModelUnavailable(f"{place} forbids access to {repo}: {TOKEN_CURE}")
        if status in (401, 404):
            private = "" if self._access.token else f"; if it is private, {TOKEN_CURE}"
            return ModelUnavailable(f"{place} has no model {repo}{private}")
        if status == 429 or status >= 500:
            why = "asks for fewer requests" if status == 429 else "has trouble"
            wait = _retry_after(error.response)
            return HubUnreachable(f"{place} {why} (HTTP {status}) at {repo}", retry_after_s=wait)
        return ModelUnavailable(f"{place} refuses {reference} (HTTP {status})")


def _quieten_library() -> None:
    """Before the library is imported: no reports about us to its makers, and no signed addresses in our log."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def offline_refusal(reference: HubReference) -> ModelUnavailable:
    """The error for a model that is not here while the hub must not be asked."""
    return ModelUnavailable(
        f"{reference} does not lie here, and the hub must not be asked (hub.offline is on); "
        f"fetch it where there is a network: dynamo-appliance models pull {reference}"
    )


def _repo_file(sibling: Any) -> RepoFile | None:
    """None for a path that would lead out of the model's folder."""
    if not is_safe_path(sibling.rfilename):
        return None
    lfs = sibling.lfs
    return RepoFile(
        path=sibling.rfilename,
        size=int(lfs.size if lfs else sibling.size or 0),
        sha256=lfs.sha256 if lfs else None,
        git_sha1=None if lfs else sibling.blob_id,
    )


def _retry_after(response: "httpx2.Response") -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
