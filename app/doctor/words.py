"""How findings are written."""

from app.contracts.operations import Finding


def ok(about: str, finding: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(level="ok", about=about, finding=finding)


def warning(about: str, finding: str, cure: str) -> Finding:
    """Return that something will do, and what is better."""
    return Finding(level="warning", about=about, finding=finding, cure=cure)


def problem(about: str, finding: str, cure: str) -> Finding:
    """Return that something keeps work from being done, and the cure."""
    return Finding(level="problem", about=about, finding=finding, cure=cure)


def gib(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / (1 << 30):,.1f} GiB"


def span(seconds: float) -> str:
    """Return a time for people."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"
