"""The audit log: a line `audit` for each change, whoever made it and by whichever way. Knows no HTTP and no command."""

import structlog

_FIRST_REFUSAL, _FIRST_FAULT = 400, 500
_log = structlog.get_logger("audit")


def write(action: str, target: str | None, status: int, **who: str | None) -> None:
    """Write a line; `status` as HTTP has it, `who`: tenant, key_id, address and request_id. No line holds a secret."""
    told = {name: who.get(name) for name in ("tenant", "key_id", "address", "request_id")}
    _log.info("audit", action=action, target=target, outcome=_outcome(status), status=status, **told)


def _outcome(status: int) -> str:
    if status >= _FIRST_FAULT or not status:
        return "failed"
    return "refused" if status >= _FIRST_REFUSAL else "done"
