"""Settings that contradict one another. Pure: opens nothing."""

from collections.abc import Iterator

from app.contracts.operations import Finding
from app.doctor.words import gib, ok, problem, warning
from app.settings import Settings

_ABOUT = "settings"
_LEAST_LEASE_S = 5.0  # a heartbeat looks once a second; a shorter lease ends while a busy machine pauses
_LAST_CHECKPOINT_S = 8.0
_GRACE_OF_UP_S = 30.0  # `modelpress up` kills a worker after this


def look(settings: Settings) -> Iterator[Finding]:
    """Yield what contradicts, or that nothing does."""
    found = [*_access(settings), *_sizes(settings), *_times(settings), *_production(settings)]
    yield from found or [ok(_ABOUT, f"profile {settings.profile}; nothing contradicts")]


def _access(settings: Settings) -> Iterator[Finding]:
    if settings.lets_anybody_in:
        yield problem(
            _ABOUT,
            f"no API keys, with profile {settings.profile} and host {settings.host}: the gateway does not start",
            'set MODELPRESS_API_KEYS to a JSON object such as {"<key>": "<tenant>"}, or bind 127.0.0.1',
        )


def _sizes(settings: Settings) -> Iterator[Finding]:
    model, unpacked = settings.max_model_bytes, settings.max_unpacked_model_bytes
    if settings.max_upload_bytes < model:
        yield warning(
            _ABOUT,
            f"uploads may have {gib(settings.max_upload_bytes)}, models {gib(model)}: the larger ones never arrive",
            "raise MODELPRESS_MAX_UPLOAD_BYTES, or lower MODELPRESS_MAX_MODEL_BYTES",
        )
    if settings.child_file_bytes < max(model, unpacked):
        yield problem(
            _ABOUT,
            f"a child may write files of {gib(settings.child_file_bytes)}, and models may have "
            f"{gib(max(model, unpacked))}: their jobs fail",
            f"set MODELPRESS_CHILD_FILE_BYTES to {max(model, unpacked)} or more",
        )
    if settings.child_memory_bytes < model:
        yield problem(
            _ABOUT,
            f"a child may use {gib(settings.child_memory_bytes)} of memory, and models may have {gib(model)}",
            "raise MODELPRESS_CHILD_MEMORY_BYTES to several times that, or lower MODELPRESS_MAX_MODEL_BYTES",
        )
    if settings.max_stored_bytes_per_tenant < settings.max_upload_bytes:
        yield warning(
            _ABOUT,
            f"a tenant may store {gib(settings.max_stored_bytes_per_tenant)}, less than one upload may have",
            "raise MODELPRESS_MAX_STORED_BYTES_PER_TENANT, or lower MODELPRESS_MAX_UPLOAD_BYTES",
        )


def _times(settings: Settings) -> Iterator[Finding]:
    if settings.lease_s < _LEAST_LEASE_S:
        yield warning(
            _ABOUT,
            f"leases of {settings.lease_s:g} s end while a busy machine pauses: workers that are well lose their work",
            "set MODELPRESS_LEASE_S to 30",
        )
    stops_within_s = settings.drain_s + _LAST_CHECKPOINT_S + settings.kill_grace_s
    if settings.profile == "embedded" and stops_within_s > _GRACE_OF_UP_S:
        yield warning(
            _ABOUT,
            f"a worker may take {stops_within_s:g} s to stop, and `modelpress up` kills it after {_GRACE_OF_UP_S:g}: "
            "its job would count a lost worker",
            f"set MODELPRESS_DRAIN_S to {_GRACE_OF_UP_S - _LAST_CHECKPOINT_S - settings.kill_grace_s:g} or less",
        )
    if settings.max_losses < 1:
        yield problem(_ABOUT, "no worker may be lost: the first loss sets work aside", "set MODELPRESS_MAX_LOSSES to 3")


def _production(settings: Settings) -> Iterator[Finding]:
    addresses = (("DATABASE_URL", settings.database_url), ("BROKER_URL", settings.broker_url))
    missing = [name for name, given in (*addresses, ("BLOB_URL", settings.blob_url)) if not given]
    if settings.profile == "production" and missing:
        yield warning(
            _ABOUT,
            f"{', '.join(missing)} not set: kept in the data folder, which other machines do not see",
            f"set {', '.join(missing)}; on one machine alone this may stay",
        )
