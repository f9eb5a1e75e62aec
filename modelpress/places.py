"""Places that the service pulls from, as people write them: `https://…`, `s3://store/key`. Knows no server."""

import re
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from app.contracts.source import HttpsSource, ModelSource, S3Source
from modelpress.errors import InvalidInput

Source = HttpsSource | S3Source
SourceLike = str | Mapping[str, object] | Source
_SOURCE: TypeAdapter[Source] = TypeAdapter(ModelSource)
_FORMS = "https://host/path, or s3://store/key with the name of a store that the operator set up"
_STORE = re.compile(r"s3://(?P<store>[^/]+)/(?P<key>.+)")


def is_place(text: str) -> bool:
    """Return whether the text names a place and no file here."""
    return re.match(r"(https?|s3)://", text) is not None


def source_of(place: SourceLike) -> Source:
    """Read a place; raises InvalidInput."""
    if isinstance(place, HttpsSource | S3Source):
        return place
    fields = _fields(place) if isinstance(place, str) else dict(place)
    try:
        return _SOURCE.validate_python(fields)
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise InvalidInput(f"the source cannot be read ({faults})") from None


def _fields(text: str) -> dict[str, object]:
    if text.startswith(("https://", "http://")):
        return {"type": "https", "url": text}
    if found := _STORE.fullmatch(text):
        return {"type": "s3", **found.groupdict()}
    raise InvalidInput(f"a source is {_FORMS}")


def name_of(source: Source) -> str:
    """Return the last part of the path, which tells the format."""
    path = source.key if isinstance(source, S3Source) else source.url.path or ""
    return path.rpartition("/")[2]
