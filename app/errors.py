"""One tree of everything that can go wrong for a user, each with its HTTP status and stable problem type.

Both sides raise these: the gateway renders them as `application/problem+json` (RFC 9457), the compute child
prints them as JSON and the supervisor stores them on the job. Knows no web framework and no library of the workers.

    ModelpressError
    ├── BadInput         the user must change what was sent
    ├── Conflict         the request does not fit the present state
    ├── LimitReached     a budget, quota or deadline of ours
    └── ServiceFault     the service must act; the same request may work later
"""

from collections.abc import Sequence
from typing import ClassVar

PROBLEM_BASE = "https://modelpress.dev/problems/"


class ModelpressError(Exception):
    """A refusal with a stable name.

    `detail` is for people and never holds a server path or a library's own text. `errors` are `(JSON pointer,
    message)` pairs into the request body.
    """

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on our side"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    at_fault: ClassVar[str] = "service"
    cure: ClassVar[str] = "Try again; if it persists, report the request id."

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[tuple[str, str]] = (),
        retry_after_s: int | None = None,
    ) -> None:
        """Keep the detail (default: the title), the pointers, and how long a client should wait."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s


class BadInput(ModelpressError):
    """What was sent cannot be used as it is."""

    slug, title, status, at_fault = "validation-error", "The request is not valid", 422, "user"
    cure = "Correct the fields that `errors` points at; GET /v1/techniques lists every option."


class Conflict(ModelpressError):
    """The request is well formed but does not fit the present state of the resource."""

    slug, title, status, at_fault = "conflict", "The resource is not in a state that allows this", 409, "user"
    cure = "Read the resource again and act on its present state."


class LimitReached(ModelpressError):
    """A budget, quota or deadline was reached."""

    slug, title, status, at_fault = "resource-limit-exceeded", "A resource limit was reached", 422, "user"
    cure = "Send a smaller model or batch, or ask the operator to raise the limit."


class ServiceFault(ModelpressError):
    """The service could not do its part; the request itself is fine."""

    slug, title, status, retryable = "internal-error", "Something went wrong on our side", 500, True


class NotFound(BadInput):
    """No resource with this id is visible to this key."""

    slug, title, status = "not-found", "Not found", 404
    cure = "Check the id; ids of other tenants answer as unknown ones."


class Unauthorized(BadInput):
    """The API key is missing or unknown."""

    slug, title, status = "unauthorized", "A valid API key is needed", 401
    cure = "Send `Authorization: Bearer <key>`."


class ScopeMissing(BadInput):
    """The API key is known, but may not do this."""

    slug, title, status = "scope-missing", "The API key may not do this", 403
    cure = "Use a key with the scope that the detail names; `modelpress keys create --scope` makes one."


class SignatureInvalid(BadInput):
    """A webhook's signature, timestamp or id does not verify."""

    slug, title, status = "signature-invalid", "The webhook signature does not verify", 401
    cure = "Sign `id.timestamp.body` with the trigger's secret; keep the clock within 300 s."


class CrossSiteRefused(BadInput):
    """A page of another site, or a name that is not this machine's, tried to use a gateway without keys."""

    slug, title, status = "cross-site-refused", "Requests from other sites are refused", 403
    cure = "Open the service by its own address; to serve other names or sites, set MODELPRESS_API_KEYS."


class MethodNotAllowed(BadInput):
    """The path exists, but not with this method."""

    slug, title, status = "method-not-allowed", "This method is not allowed here", 405
    cure = "See the `Allow` header."


class LengthRequired(BadInput):
    """The length of an upload must be known before its first byte."""

    slug, title, status = "length-required", "The length is needed", 411
    cure = "Send Content-Length or Upload-Length."


class PayloadTooLarge(BadInput):
    """The body is larger than this service accepts or than the upload announced."""

    slug, title, status = "payload-too-large", "The body is too large", 413
    cure = "Send less, or ask the operator to raise MODELPRESS_MAX_UPLOAD_BYTES."


class HeadersTooLarge(BadInput):
    """Request line and headers together are larger than any call of this service needs."""

    slug, title, status = "headers-too-large", "The headers are too large", 431
    cure = "Send shorter headers and query parameters; long values belong into the body."


class UnsupportedEncoding(BadInput):
    """The body's media type or content encoding is not accepted."""

    slug, title, status = "unsupported-encoding", "This encoding is not accepted", 415
    cure = "Send JSON for JSON calls, and raw bytes without Content-Encoding for uploads."


class RangeNotSatisfiable(BadInput):
    """The requested range lies outside the content."""

    slug, title, status = "range-not-satisfiable", "The range lies outside the content", 416
    cure = "Ask for a range below the content's length."


class NotAcceptable(BadInput):
    """None of the accepted media types can be made."""

    slug, title, status = "not-acceptable", "None of the accepted types can be made", 406
    cure = "Accept one of the types that the detail names."


class FormatUnsafe(BadInput):
    """The format can carry code (pickle, .pt, .pt2, .bin, joblib)."""

    slug, title, status = "format-unsafe", "This format can carry code", 415
    cure = "Upload ONNX, or a Hugging Face folder with safetensors weights."


class ModelMalformed(BadInput):
    """The bytes are not a readable model of the stated format."""

    slug, title = "model-malformed", "The model cannot be read"
    cure = "Check that the file is complete and of the stated format; `onnx.checker` must accept it."


class ModelTooComplex(BadInput):
    """The graph is over the node, depth or tensor budget."""

    slug, title = "model-too-complex", "The model is over a complexity budget"
    cure = "Inline or simplify local functions and nested subgraphs."


class ModelExternalData(BadInput):
    """A model refers to weights in files that did not come with it, or came with files that it does not name."""

    slug, title = "model-external-data", "The model keeps weights in other files"
    cure = (
        "Send a zip of the .onnx file and the data files that it names, side by side and nothing else; "
        "below 2 GiB, onnx.save(model, path, save_as_external_data=False) keeps the weights inside."
    )


class ModelUnsupported(BadInput):
    """The model uses an operator, opset, type or architecture that is not supported here."""

    slug, title = "model-unsupported", "The model uses something that is not supported"
    cure = "The detail names the operator; export with standard operators of opset 7 to 25."


class ModelNonfinite(BadInput):
    """A weight is NaN or infinite."""

    slug, title = "model-nonfinite", "The model holds NaN or infinite weights"
    cure = "Find where training diverged; the detail names the tensor."


class RemoteCodeRefused(BadInput):
    """The folder asks for code from the upload or a hub to be run."""

    slug, title = "remote-code-refused", "The model asks to run its own code"
    cure = "Remove `auto_map`, `*_implementation*` keys and Python files; only built-in architectures are read."


class ArchiveUnsafe(BadInput):
    """The archive holds a member that escapes, links, repeats or hides."""

    slug, title = "archive-unsafe", "The archive holds an unsafe member"
    cure = "Zip plain files with plain relative names."


class ArchiveBomb(BadInput):
    """The archive unpacks to far more than its size or the budget allows."""

    slug, title = "archive-bomb", "The archive unpacks to too much"
    cure = "Send the files with less compression, or a smaller set."


class ArchiveMalformed(BadInput):
    """The archive cannot be read."""

    slug, title = "archive-malformed", "The archive cannot be read"
    cure = "Zip the files again and check the archive with `unzip -t`."


class DatasetMalformed(BadInput):
    """The bytes are not a readable data set of the stated format."""

    slug, title = "dataset-malformed", "The data set cannot be read"
    cure = "Check the file against its format; npz arrays must be plain numbers, no objects."


class DatasetMismatch(BadInput):
    """The data set does not fit the model: columns, shapes, types or labels."""

    slug, title = "dataset-mismatch", "The data set does not fit the model"
    cure = "Name the npz arrays after the model's inputs, or map columns with `columns`."


class DatasetTooWide(BadInput):
    """The data set has more columns than the limit."""

    slug, title = "dataset-too-wide", "The data set has too many columns"
    cure = "Send wide features as one npz array."


class DigestMismatch(BadInput):
    """The bytes received do not have the stated digest."""

    slug, title, status, retryable = "digest-mismatch", "The bytes do not match their digest", 422, True
    cure = "Send the part again."


class EventMalformed(BadInput):
    """A delivery is no CloudEvent of version 1.0, or is a batch of them."""

    slug, title = "event-malformed", "The delivery is no CloudEvent"
    cure = "Send one event: application/cloudevents+json with id, source, specversion 1.0 and type, or ce- headers."


class IdempotencyKeyReused(BadInput):
    """The Idempotency-Key was used before with another body."""

    slug, title = "idempotency-key-reused", "This Idempotency-Key belongs to another request"
    cure = "Use a fresh key for a new request."


class TechniqueNotApplicable(BadInput):
    """A step cannot be applied to this model, or not at this place in the recipe."""

    slug, title = "technique-not-applicable", "The technique cannot be applied here"
    cure = "The detail says why and what would work."


class NothingToCompress(BadInput):
    """The model has no floating-point weights."""

    slug, title = "nothing-to-compress", "The model has no weights to compress"
    cure = "Upload a model with floating-point initializers."


class GuardNotMet(BadInput):
    """The compressed model lost more than its guard allows, or nothing tried meets the goal; the report is kept."""

    slug, title = "guard-not-met", "The result does not keep to its guard or goal"
    cure = "Train longer, compress less, or allow more; the report says what is missed, by how much, and why."


class UrlForbidden(BadInput):
    """An address may not be contacted from here."""

    slug, title = "url-forbidden", "This address may not be contacted"
    cure = "Use a public https address, or ask the operator to allow the host."


class SourceRefused(BadInput):
    """The source of a model or a data set answered that it does not give it, or names something that is not there."""

    slug, title = "source-refused", "The source does not give this"
    cure = "Check the name, the address and the access; the operator names the stores and servers that may be asked."


class OffsetMismatch(Conflict):
    """The part does not start where the upload stands."""

    slug, title = "offset-mismatch", "The part does not start where the upload stands"
    cure = "HEAD the upload and continue at its Upload-Offset."


class IdempotencyKeyInFlight(Conflict):
    """A request with this Idempotency-Key is still being handled."""

    slug, title, retryable = "idempotency-key-in-flight", "A request with this key is in flight", True
    cure = "Wait a second and send it again."


class TimeLimitExceeded(LimitReached):
    """The work ran longer than its time limit."""

    slug, title = "time-limit-exceeded", "The time limit was reached"
    cure = "Raise limits.max_run_s, or train for fewer epochs."


class QuotaExceeded(LimitReached):
    """The tenant has too much open at once, or sends too many calls."""

    slug, title, status, retryable = "quota-exceeded", "The quota is used up", 429, True
    cure = "Send it again after Retry-After, when running work has ended; or ask for a larger quota."


class StorageQuotaExceeded(LimitReached):
    """The tenant stores as much as it may."""

    slug, title, status = "storage-quota-exceeded", "The room for this tenant is used up", 429
    cure = "Delete models, data sets or uploads that are not needed, or ask the operator for more room."


class RuntimeCrashed(ServiceFault):
    """The compute child died without an answer."""

    slug, title, retryable, at_fault = "runtime-crashed", "The runtime crashed on this input", False, "user"
    status = 422
    cure = "The model or a data row makes the runtime crash; check divisions and index inputs."


class RuntimeRefused(BadInput):
    """ONNX Runtime refuses or fails to run the model."""

    slug, title = "runtime-error", "ONNX Runtime cannot run the model"
    cure = "Run the model in ONNX Runtime with the same inputs; the detail names the node."


class PoisonQuarantined(ServiceFault):
    """The job lost its worker too often and was set aside."""

    slug, title, retryable = "poison-quarantined", "The job was set aside after losing several workers", False
    cure = "Ask the operator to look at the worker's memory; then submit it again."


class WorkerLost(ServiceFault):
    """The worker vanished; the attempt ended without a result."""

    slug, title = "worker-lost", "The worker was lost"
    cure = "The job is retried by itself; submit it again if it has failed for good."


class ArtifactCorrupt(ServiceFault):
    """The stored bytes do not have the digest that was recorded."""

    slug, title, status, retryable = "artifact-corrupt", "The stored bytes are corrupt", 502, False
    cure = "Restore the blob from backup, or run the job again: same request, same bytes."


class ArtifactMissing(ServiceFault):
    """The record is there but its bytes are gone."""

    slug, title, status, retryable = "artifact-missing", "The stored bytes are gone", 410, False
    cure = "Restore the blob from backup, or run the job again."


class InsufficientStorage(ServiceFault):
    """There is no room left for these bytes."""

    slug, title, status = "insufficient-storage", "There is no room left", 507
    cure = "Delete models or artifacts, or ask the operator for more space."


class DependencyUnavailable(ServiceFault):
    """The database, broker or blob store does not answer."""

    slug, title, status = "dependency-unavailable", "A part of the service does not answer", 503
    cure = "Try again in a few seconds."


class ServiceBusy(ServiceFault):
    """More work waits, of all tenants together, than the service takes in."""

    slug, title, status = "service-busy", "The service has too much to do", 503
    cure = "Send the request again after the seconds that Retry-After names."


class SourceUnreachable(ServiceFault):
    """The source of a model or a data set did not answer, or broke off again and again."""

    slug, title, status = "source-unreachable", "The source does not answer", 502
    cure = "See whether the source is up, then ask for it again; what was tried stands in the detail."
