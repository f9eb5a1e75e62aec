"""Which deliveries start a trigger's job, and on which model."""

import re

from app.contracts.trigger import TagMatch, TriggerMatch
from app.events import Event

_MODEL_ID = re.compile(r"mdl_[0-9a-z]{26}")


def mismatch(match: TriggerMatch, event: Event) -> str:
    """Return why the event does not match, or an empty text."""
    if match.events and event.name not in match.events:
        return "the event is none of those that the trigger matches"
    if match.name is not None and event.data.get("name") != match.name:
        return "the registered model has another name than the trigger matches"
    if match.alias is not None and event.data.get("alias") != match.alias:
        return "the alias is another one than the trigger matches"
    if match.source is not None and event.source != match.source:
        return "the event has another source than the trigger matches"
    if match.subject is not None and event.subject != match.subject:
        return "the event has another subject than the trigger matches"
    if match.tag is not None and not _sets(match.tag, event):
        return "the event sets no tag that the trigger matches"
    return ""


def model_of(event: Event) -> str | None:
    """Return the model of ours that the event names, if it does."""
    named = event.data.get("model")
    return named if isinstance(named, str) and _MODEL_ID.fullmatch(named) else None


def _sets(tag: TagMatch, event: Event) -> bool:
    """Return whether an event of MLflow sets the tag, or creates a model version with it."""
    if event.name == "model_version_tag.set":
        return (event.data.get("key"), event.data.get("value")) == (tag.key, tag.value)
    tags = event.data.get("tags") if event.name == "model_version.created" else None
    return isinstance(tags, dict) and tags.get(tag.key) == tag.value
