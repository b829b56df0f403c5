"""Which traces are recorded, by the names that OpenTelemetry gives to samplers. Pure."""

from dataclasses import dataclass

PARENT_BASED = "parentbased_"
LOW_BITS = 1 << 64


@dataclass(frozen=True)
class Sampler:
    """Decides once per request, where it arrives; everybody behind goes by the flag in the trace's header."""

    name: str
    """One of the choices of the setting `trace.sampler`."""
    ratio: float = 1.0
    """Share of traces that `traceidratio` takes."""

    def wants(self, trace_id: str, parent_sampled: bool | None) -> bool:
        """Whether to record a trace; `parent_sampled` is what the caller decided, None where there is no caller.

        A ratio goes by the trace's id, so that all who use the same ratio take the same traces.
        """
        if self.name.startswith(PARENT_BASED) and parent_sampled is not None:
            return parent_sampled
        match self.name.removeprefix(PARENT_BASED):
            case "always_off":
                return False
            case "traceidratio":
                return int(trace_id[16:], 16) < round(self.ratio * LOW_BITS)
            case _:
                return True
