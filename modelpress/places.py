"""Places that the service pulls from, as people write them: `https://…`, `s3://store/key`, `mlflow:name@alias`.

Knows no server.
"""

import re
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from app.contracts.source import HttpsSource, MlflowSource, ModelSource, S3Source, Source
from modelpress.errors import InvalidInput

SourceLike = str | Mapping[str, object] | Source
_SOURCE: TypeAdapter[Source] = TypeAdapter(ModelSource)
_FORMS = "https://host/path; s3://store/key with a store that the operator named; mlflow:name@alias or mlflow:name/3"
# mlflow:name/3, mlflow:name@alias, mlflow://server/name/3
_VERSION = re.compile(r"mlflow:(//(?P<server>[^/]+)/)?(?P<name>[^/@:]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_STORE = re.compile(r"s3://(?P<store>[^/]+)/(?P<key>.+)")


def is_place(text: str) -> bool:
    """Return whether the text names a place and no file here."""
    return re.match(r"(https?|s3)://|mlflow:", text) is not None


def source_of(place: SourceLike) -> Source:
    """Read a place; raises InvalidInput."""
    if isinstance(place, HttpsSource | S3Source | MlflowSource):
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
    if found := _VERSION.fullmatch(text):
        return {"type": "mlflow", **{name: value for name, value in found.groupdict().items() if value}}
    raise InvalidInput(f"a source is {_FORMS}")


def name_of(source: Source) -> str:
    """Return the last part of the path, which tells the format; of a registered model its name."""
    if isinstance(source, MlflowSource):
        return source.name
    path = source.key if isinstance(source, S3Source) else source.url.path or ""
    return path.rpartition("/")[2]
