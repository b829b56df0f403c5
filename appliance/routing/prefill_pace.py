"""How long a prefill should take, learnt from those that have ended: one speed per pool, a moving average."""

LEARN = 0.2  # weight of the newest prefill; a handful of them decides
MIN_TOKENS = 16  # shorter ones say more about the network than about the engine


class PrefillPace:
    """Seconds per prompt token of one pool's workers."""

    def __init__(self) -> None:
        self._s_per_token: float | None = None

    def expect(self, tokens: int) -> float | None:
        """Seconds that so many tokens should take; None until something was learnt."""
        return None if self._s_per_token is None else tokens * self._s_per_token

    def learn(self, tokens: int, seconds: float) -> None:
        """A prefill of so many tokens has taken so long."""
        if tokens < MIN_TOKENS or seconds < 0:
            return
        measured = seconds / tokens
        old = self._s_per_token
        self._s_per_token = measured if old is None else old + LEARN * (measured - old)
