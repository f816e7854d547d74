"""Errors of mmflow's own functions in a plan, found again in the text of DataFusion's error around them."""

from __future__ import annotations

from mmflow.errors import PlanError

__all__ = ["refusal", "refusal_in"]

_BEGIN, _END = "mmflow refuses: ", " :refused"


def refusal(message: str) -> PlanError:
    """Return an error to raise in a function that DataFusion calls."""
    return PlanError(f"{_BEGIN}{message}{_END}")


def refusal_in(text: str) -> str | None:
    """Return the message of a `refusal` from the text of DataFusion's error; None: it is about something else."""
    _, begin, rest = text.partition(_BEGIN)
    message, end, _ = rest.partition(_END)
    return message.replace("\\'", "'").replace("\\\\", "\\") if begin and end else None
