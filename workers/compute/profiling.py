"""Where a call's time goes: ONNX Runtime's profile of a file, and the graph that it makes of it. Judges nothing."""

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from app.contracts.benchmark import OperatorTime
from app.errors import RuntimeRefused
from workers.compute import bundles
from workers.compute.datasets.samples import Samples
from workers.compute.feeds import Feed, feeds_for
from workers.compute.graph.model import load, save
from workers.compute.runtime import SessionOptions, open_session, translated
from workers.compute.signature import signature_of

_FEWEST_CALLS, _MOST_CALLS, _MOST_S = 5, 50, 0.5
_MOST_SAVED_BYTES = 2**30  # the runtime writes the weights along with its graph
_SUFFIX = "_kernel_time"
# Their nodes' times are told one by one, and again in theirs.
_CONTAINERS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True)
class NodeTime:
    """One node of the runtime's graph: how often it runs in a call, and for how long in all."""

    name: str
    operator: str
    provider: str
    calls: float
    microseconds: float


@dataclass(frozen=True)
class Profile:
    """The nodes of one call, and the graph that they belong to, without values; None where it was not asked for."""

    nodes: tuple[NodeTime, ...]
    graph: ir.Graph | None = None

    @property
    def microseconds(self) -> float:
        """The time of all nodes."""
        return sum(node.microseconds for node in self.nodes)

    @property
    def operators(self) -> list[OperatorTime]:
        """The time of each kind of operator, longest first."""
        kinds: dict[tuple[str, str], list[NodeTime]] = defaultdict(list)
        for node in self.nodes:
            kinds[node.operator, node.provider].append(node)
        total = self.microseconds or 1.0
        found = [
            OperatorTime(
                operator=operator,
                provider=provider,
                calls=round(sum(node.calls for node in nodes)),
                share=sum(node.microseconds for node in nodes) / total,
                microseconds=sum(node.microseconds for node in nodes),
            )
            for (operator, provider), nodes in kinds.items()
        ]
        return sorted(found, key=lambda time: (-time.microseconds, time.operator))


@dataclass(frozen=True)
class Subject:
    """What is profiled: a file, how it is run, and with which rows (made-up ones where there are none)."""

    path: Path
    options: SessionOptions
    batch_size: int
    rows: Samples | None = None
    seed: int = 0


def profile(subject: Subject, scratch: Path) -> Profile:
    """Return the times of a few calls, the first one left out, within half a second or so.

    Raises what opening and running the file raise.
    """
    folder = scratch / f"profile-{subject.path.stem}"
    folder.mkdir()
    try:
        return Profile(_times(subject, replace(subject.options, profile=folder / "times")))
    finally:
        shutil.rmtree(folder)


def profile_with_graph(subject: Subject, scratch: Path) -> Profile:
    """Return the times of a few calls and the runtime's graph, without that where the file takes more than 1 GiB.

    Also without that where the runtime runs the file but cannot write its graph: times alone are worth having.
    """
    if bundles.size_bytes(subject.path) > _MOST_SAVED_BYTES:
        return profile(subject, scratch)
    try:
        return _with_graph(subject, scratch)
    except RuntimeRefused:
        return profile(subject, scratch)


def _with_graph(subject: Subject, scratch: Path) -> Profile:
    folder = scratch / f"graph-{subject.path.stem}"
    folder.mkdir()
    try:
        named, saved = replace(subject, path=_named(subject.path, folder)), folder / "optimised.onnx"
        options = replace(subject.options, profile=folder / "times", optimised=saved)
        return Profile(_times(named, options), ir.load(saved).graph)
    finally:
        shutil.rmtree(folder)


def _named(path: Path, folder: Path) -> Path:
    """Return a file of the same nodes, each with a name of its own: by that alone the profile tells them apart."""
    model = load(path)
    nodes = list(model.graph.all_nodes())
    known = Counter(node.name for node in nodes)
    unclear = [(place, node) for place, node in enumerate(nodes) if not node.name or known[node.name] > 1]
    if not unclear:
        return path
    for place, node in unclear:
        name = f"{node.name or node.op_type}#{place}"
        while name in known:
            name += f"#{place}"
        node.name = name
    save(model, folder / "named.onnx")
    return folder / "named.onnx"


def _times(subject: Subject, options: SessionOptions) -> tuple[NodeTime, ...]:
    session = open_session(subject.path, options)
    feeds = feeds_for(signature_of(session), subject.batch_size, subject.rows, subject.seed)
    calls = _called(session, feeds)
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return _summed(events, calls)


def _called(session: ort.InferenceSession, feeds: Sequence[Feed]) -> int:
    """Run, and return how often without the first time, which also finds memory."""
    calls, end = 0, time.perf_counter() + _MOST_S
    with translated("run"):
        session.run(None, feeds[0])
        while calls < _FEWEST_CALLS or (calls < _MOST_CALLS and time.perf_counter() < end):
            session.run(None, feeds[calls % len(feeds)])
            calls += 1
    return calls


def _summed(events: Sequence[dict[str, object]], calls: int) -> tuple[NodeTime, ...]:
    first = min((event for event in events if event.get("name") == "model_run"), key=lambda event: _number(event, "ts"))
    start = _number(first, "ts") + _number(first, "dur")
    spent: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        arguments, name = event.get("args"), str(event.get("name", ""))
        if isinstance(arguments, dict) and name.endswith(_SUFFIX) and _number(event, "ts") >= start:
            provider = str(arguments.get("provider", "?")).removesuffix("ExecutionProvider").lower()
            key = (name.removesuffix(_SUFFIX), str(arguments.get("op_name", "?")), provider)
            spent[key].append(_number(event, "dur"))
    return tuple(
        NodeTime(*key, calls=len(times) / calls, microseconds=sum(times) / calls)
        for key, times in spent.items()
        if key[1] not in _CONTAINERS
    )


def _number(event: dict[str, object], name: str) -> float:
    return float(str(event.get(name, 0)))
