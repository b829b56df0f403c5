"""Sessions: conversations whose requests go to one slot until they have been idle for too long."""

from dataclasses import dataclass

from appliance.core.identity import WorkerId
from appliance.routing.index_events import Holder

SWEEP_EVERY_S = 30.0


@dataclass(slots=True)
class _Binding:
    holder: Holder
    ttl_s: float
    active: int
    """Requests that run; the session does not end before they do."""
    idle_since: float
    closing: bool = False


class Sessions:
    """Which slot each session is bound to. Times come from the caller and never go back."""

    def __init__(self) -> None:
        self._bound: dict[str, _Binding] = {}
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._bound)

    def find(self, session: str, now: float) -> Holder | None:
        """The slot of a session; None when there is none, or its idle time is over."""
        found = self._bound.get(session)
        if found is None:
            return None
        if _is_over(found, now):
            del self._bound[session]
            return None
        return found.holder

    def start(self, session: str, holder: Holder, ttl_s: float, now: float) -> bool:
        """A request of the session runs on `holder` now. False when it belongs to no session.

        A session that is bound elsewhere moves. One that is not bound begins when `ttl_s` is above 0.
        """
        found = self._bound.get(session)
        if found is not None and not _is_over(found, now) and found.holder == holder:
            found.active += 1
            found.ttl_s = ttl_s or found.ttl_s
            return True
        if ttl_s <= 0:
            return False
        self._bound[session] = _Binding(holder, ttl_s, 1, now)
        self._sweep(now)
        return True

    def end(self, session: str, holder: Holder, now: float) -> None:
        """A request that `start` took has ended; the idle time begins anew with the last one."""
        found = self._bound.get(session)
        if found is None or found.holder != holder or not found.active:
            return  # closed, lost or moved meanwhile
        found.active -= 1
        found.idle_since = now
        if found.closing and not found.active:
            del self._bound[session]

    def close(self, session: str) -> None:
        """Forget the session when its last request has ended. An unknown one changes nothing."""
        found = self._bound.get(session)
        if found is not None and found.active:
            found.closing = True
        elif found is not None:
            del self._bound[session]

    def forget(self, session: str) -> None:
        """Forget the session at once: its slot failed a request."""
        self._bound.pop(session, None)

    def forget_worker(self, worker: WorkerId) -> None:
        """Forget the sessions of a worker that is gone."""
        for session in [name for name, one in self._bound.items() if one.holder.worker == worker]:
            del self._bound[session]

    def _sweep(self, now: float) -> None:
        if now - self._swept >= SWEEP_EVERY_S:
            self._swept = now
            for session in [name for name, one in self._bound.items() if _is_over(one, now)]:
                del self._bound[session]


def _is_over(binding: _Binding, now: float) -> bool:
    return not binding.active and now - binding.idle_since >= binding.ttl_s
