"""Say in words why a model is not smaller or faster, and which steps did nothing. Pure: every fact is passed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.contracts.benchmark import OperatorTime
from app.contracts.report import Change, Environment, Measurement, StepReport, TensorReport
from workers.compute.environment import INT8_FLAGS
from workers.compute.report import times
from workers.compute.tracing import Fallback

_MANY_ZEROS = 0.3
_MUCH_CONVERTING = 0.2
_MUCH_DISTURBED = 0.05
_TOLD_OPERATORS = 3  # those that take most of a call
# Operators whose arithmetic is integer; QuantizeLinear marks a graph whose other operators the runtime makes integer.
_INTEGER = frozenset(
    {
        *("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm"),
        *("DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QuantizeLinear"),
    }
)
_CONVERTING = frozenset({"Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
# What the profile cannot tell apart, because the runtime has fused it.
_UNSEEN = {
    "DynamicQuantizeMatMul": ", which also finds its inputs' range and converts them in every call",
    "DynamicQuantizeLSTM": ", which also finds its inputs' range and converts them in every call",
}
_X86_FLAGS = frozenset({"avx2", "avx512f", "avx512bw"})


@dataclass(frozen=True)
class Facts:
    """What there is to explain.

    `operators` counts the graph's nodes by type. `profile` tells where a call's time goes, and `fallback` what of it
    goes to weights in floating point.
    """

    changes: Sequence[Change]
    after: Measurement
    steps: Sequence[StepReport]
    tensors: Sequence[TensorReport]
    operators: Mapping[str, int]
    place: Environment
    profile: Sequence[OperatorTime] = ()
    fallback: Fallback | None = None

    def change(self, figure: str) -> Change | None:
        """Return one figure's change."""
        return next((change for change in self.changes if change.figure == figure), None)

    @property
    def speeds(self) -> list[Change]:
        """The changes in latency, by batch size."""
        return [change for change in self.changes if change.figure.startswith("p50_ms@")]

    @property
    def faster(self) -> bool:
        """Whether any batch size is measurably faster."""
        return any(change.verdict == "better" for change in self.speeds)

    @property
    def integer(self) -> bool:
        """Whether anything calculates in integers."""
        return not _INTEGER.isdisjoint(self.operators)


def notes(facts: Facts) -> list[str]:
    """Return the findings, one sentence or two each."""
    return [
        *_idle(facts.steps),
        *_large(facts),
        *_slow(facts),
        *_fallen_back(facts),
        *_loading(facts),
        *_saturation(facts),
        *_disturbed(facts),
    ]


def _idle(steps: Sequence[StepReport]) -> list[str]:
    told = [f"Step {step.index + 1} ({step.technique}) changed nothing." for step in steps if not step.changed]
    return told + [
        f"Step {step.index + 1} ({step.technique}) made the file larger: "
        f"{step.measurement.file_bytes:,} bytes after {last.measurement.file_bytes:,}."
        for last, step in pairwise(steps)
        if step.measurement.file_bytes > last.measurement.file_bytes
    ]


def _large(facts: Facts) -> list[str]:
    size = facts.change("file_bytes")
    if size is None or size.verdict == "better":
        return []
    if not facts.tensors:
        return ["The file is not smaller: its tensors are so small that the operators to unpack them would take more."]
    if all(tensor.encoding == "dense" for tensor in facts.tensors):
        return ["The file is not smaller: no tensor has repeated, zero or few distinct values that could be packed."]
    saved = sum(tensor.dense_bytes - tensor.packed_bytes for tensor in facts.tensors)
    return [f"The file is not smaller: packing saved {saved:,} bytes, too few beside what the rest of it takes."]


def _slow(facts: Facts) -> list[str]:
    if facts.faster or not facts.speeds:
        return []
    told = [*_zeros(facts), *(_integers(facts) if facts.integer else _stored(facts))]
    return told or [_same(facts)]


def _zeros(facts: Facts) -> list[str]:
    share = 1 - facts.after.nonzeros / max(1, facts.after.parameters)
    if share <= _MANY_ZEROS:
        return []
    size = facts.change("file_bytes")
    shrunk = "They shrink the file, but " if size is not None and size.verdict == "better" else ""
    runtime = "ONNX Runtime multiplies by them all the same."
    return [f"{share:.0%} of the weights are zero. {shrunk}{runtime}"]


def _integers(facts: Facts) -> list[str]:
    told = [_dot_products(facts)]
    if facts.profile:
        told.append(f"Of the time in operators most goes to {_spent(facts)}.")
    if "ConvInteger" in facts.operators:
        told.append("ConvInteger has no fast kernel in ONNX Runtime; static quantisation avoids it.")
    return told


def _fallen_back(facts: Facts) -> list[str]:
    """Tell what int8 did not reach, also where it made the whole faster."""
    if not facts.integer or facts.fallback is None:
        return []
    dynamic = "QuantizeLinear" not in facts.operators
    convolutions = any("Conv" in operator for operator in facts.fallback.operators)
    cure = " Static mode makes convolutions integer." if dynamic and convolutions else ""
    return [f"{facts.fallback}{cure}"]


def _dot_products(facts: Facts) -> str:
    flags = " ".join(facts.place.cpu_flags) or "none that we know"
    if not INT8_FLAGS & set(facts.place.cpu_flags):
        return (
            "Int8 is not faster here: this processor has no int8 dot product such as avx512_vnni, avx_vnni, amx_int8 "
            f"or i8mm (its flags: {flags}). The same file may be faster where there is one."
        )
    macs = facts.after.macs
    size = "layers of this size" if macs is None else f"{macs:,} multiply-accumulates a row"
    why = "the integer operators are not faster than the floating-point ones"
    if _converting(facts) > _MUCH_CONVERTING:
        why = "changing types costs as much as integer products save"
    return f"Int8 is not faster here although the processor has int8 dot products ({flags}): with {size}, {why}."


def _converting(facts: Facts) -> float:
    return sum(time.share for time in facts.profile if time.operator in _CONVERTING)


def _spent(facts: Facts) -> str:
    return ", ".join(
        f"{time.operator} ({time.share:.0%}{_UNSEEN.get(time.operator, '')})"
        for time in facts.profile[:_TOLD_OPERATORS]
    )


def _stored(facts: Facts) -> list[str]:
    if not any(step.technique.startswith("quantize_int") for step in facts.steps):
        return []
    return ["The weights are stored as integers, but every operator calculates in floating point: smaller, not faster."]


def _same(facts: Facts) -> str:
    macs = facts.change("macs")
    if macs is not None and macs.verdict == "better" and macs.ratio is not None:
        call = facts.speeds[0].after
        return (
            f"A row takes {times(macs.ratio)} fewer multiply-accumulates, yet it is not measurably faster: "
            f"arithmetic is not what a call of {call:.2g} ms spends its time on."
        )
    return (
        "It is not measurably faster: the graph runs the same operators on the same shapes; "
        "prune layers or neurons, or quantise to int8, to save time."
    )


def _loading(facts: Facts) -> list[str]:
    load = facts.change("load_ms")
    if load is None or load.verdict != "worse":
        return []
    told = f"Loading takes {load.after:.0f} ms instead of {load.before:.0f} ms"
    packed = sum(tensor.encoding != "dense" for tensor in facts.tensors)
    if packed:
        return [f"{told}: {packed} packed tensors are decoded then."]
    return [f"{told}: the integer graph is prepared then." if facts.integer else f"{told}."]


def _saturation(facts: Facts) -> list[str]:
    """Warn of answers that depend on the processor: 8-bit products of an x86 without VNNI saturate at 16 bits."""
    narrow = any(step.options.get("reduce_range") for step in facts.steps)
    if not facts.integer or narrow or not _X86_FLAGS & set(facts.place.cpu_flags):
        return []
    here = "as on this one" if not INT8_FLAGS & set(facts.place.cpu_flags) else "unlike this one"
    told = f"On x86 processors without VNNI ({here}) sums of int8 products can saturate and give other answers"
    return [f"{told}; reduce_range avoids that."]


def _disturbed(facts: Facts) -> list[str]:
    """Warn of times from a busy machine: what is left out is known, but not whose threads got which processor."""
    share = max((timing.disturbed for timing in facts.after.latency), default=0.0)
    if share <= _MUCH_DISTURBED:
        return []
    told = f"Other processes held the processors during up to {share:.0%} of the timed calls"
    return [f"{told}, so speeds are uncertain beyond their intervals; time the artifact again on a quiet machine."]
