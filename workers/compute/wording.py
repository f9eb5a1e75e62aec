"""How names from a stranger's file may appear in our details."""

NAME_LIMIT = 200


def shown(name: str | bytes) -> str:
    """Return `name` cut to 200 characters, with control and direction characters escaped."""
    name = name if isinstance(name, str) else name.decode("utf-8", "replace")
    cut = name if len(name) <= NAME_LIMIT else name[: NAME_LIMIT - 1] + "…"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)
