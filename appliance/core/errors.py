"""The one error tree: each class carries a code, an HTTP status, the OpenAI error type and whether a retry may help.

Messages say what cannot be done, in one line, and never hold an engine's own text or a path of a client's request.
"""

from typing import ClassVar


class ApplianceError(Exception):
    """Something the appliance cannot do; `str()` of it is one line that a user may see."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    """The `type` member of an OpenAI error body."""
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    """What the command line exits with."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InternalError(ApplianceError):
    """A state that our own code should have made impossible."""


class UsageError(ApplianceError):
    """A command line or a settings file that cannot be understood."""

    code, status, kind, exit_code = "usage", 400, "invalid_request_error", 2


class NotRunning(ApplianceError):
    """No appliance answers at the admin socket."""

    code, status, exit_code = "not_running", 503, 3


class InvalidRequest(ApplianceError):
    """A request whose body, field or combination of fields is wrong; `param` names the field."""

    code, status, kind = "invalid_request", 400, "invalid_request_error"


class BodyTooLarge(ApplianceError):
    """A request body over the configured limit."""

    code, status, kind = "body_too_large", 413, "invalid_request_error"


class UnsupportedMediaType(ApplianceError):
    """A request body whose content type or encoding is not accepted."""

    code, status, kind = "unsupported_media_type", 415, "invalid_request_error"


class MethodNotAllowed(ApplianceError):
    """A known path, asked with a method it does not have; `allow` names those that it has."""

    code, status, kind = "method_not_allowed", 405, "invalid_request_error"

    def __init__(self, message: str, *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allow = allow


class NotImplementedHere(ApplianceError):
    """A published feature that this server does not offer."""

    code, status, kind = "not_implemented", 501, "invalid_request_error"


class Unauthorized(ApplianceError):
    """A missing or unknown API key."""

    code, status, kind = "invalid_api_key", 401, "authentication_error"


class Forbidden(ApplianceError):
    """A caller that may not do this, such as a foreign web page."""

    code, status, kind = "forbidden", 403, "permission_error"


class NotFound(ApplianceError):
    """An object, path or file that does not exist."""

    code, status, kind = "not_found", 404, "not_found_error"


class ModelNotFound(NotFound):
    """A model name that nothing serves; the message names the models that exist."""

    code = "model_not_found"


class Conflict(ApplianceError):
    """A write that was based on an old version of the object."""

    code, status, kind, retryable = "conflict", 409, "invalid_request_error", True


class Unprocessable(ApplianceError):
    """An object that was read but breaks a rule; the message holds the field path."""

    code, status, kind = "invalid_object", 422, "invalid_request_error"


class ModelNotReady(ApplianceError):
    """A model that is wanted but had no ready worker within the hold time."""

    code, status, retryable = "model_not_ready", 503, True


class Overloaded(ApplianceError):
    """A request turned away because every worker is busy or the server is draining."""

    code, status, kind, retryable = "overloaded", 503, "rate_limit_error", True


class WorkerLost(ApplianceError):
    """The worker's connection ended before its last chunk."""

    code, status, retryable = "worker_lost", 503, True


class WorkerTimeout(ApplianceError):
    """The worker gave no answer within the deadline."""

    code, status, retryable = "worker_timeout", 504, True


class EngineFailed(ApplianceError):
    """An engine that could not load its model or could not go on with a request."""

    code = "engine_failed"


class ModelFileBad(EngineFailed):
    """A model file that is missing, truncated or of a kind the engine cannot run; starting it again will not help."""

    code = "bad_model"


class ModelUnavailable(ApplianceError):
    """A hub model that cannot be had: missing, gated, refused, offline, no room on the disk; a retry will not help."""

    code = "model_unavailable"


class HubUnreachable(ApplianceError):
    """A hub that does not answer, or breaks off; trying again later may help."""

    code, status, retryable = "hub_unreachable", 503, True


class LinkBroken(ApplianceError):
    """A peer that sent bytes which are no frame of ours, or too large a one; the link is closed."""

    code, status, retryable = "link_broken", 503, True


class StateUnavailable(ApplianceError):
    """The state store cannot be opened or written: locked by another appliance, disk full, read-only, newer schema."""

    code, status = "state_unavailable", 503


class BackupFailed(ApplianceError):
    """A backup that could not be made to its end."""

    code = "backup_failed"


class CannotStart(ApplianceError):
    """A process that the system would not start: no such file, no permission, no memory, no descriptors."""

    code, status, retryable = "cannot_start", 503, True
