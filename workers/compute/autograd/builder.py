"""Turns an ONNX graph into a plan: resolves rules, opens functions, folds constants. Knows no training."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from app.errors import ModelUnsupported
from workers.compute.autograd.dtypes import from_numpy, widen
from workers.compute.autograd.functions import default_attributes, function_body
from workers.compute.autograd.operators import DOMAINS
from workers.compute.autograd.operators.base import Kernel, Node, unsupported
from workers.compute.autograd.placement import HOST_INPUTS, move
from workers.compute.autograd.plan import ABSENT, Plan, Step, is_random, prune, run, with_releases

_STANDARD = frozenset({"", "ai.onnx"})
_HOST = torch.device("cpu")
_NESTED = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})

Fusion = Callable[[Sequence[Step], Sequence[Tensor | None], Collection[int]], list[Step]]


@dataclass(frozen=True)
class Target:
    """Where and how a plan is to run. `weights` are the initializers that it is given at each run."""

    device: torch.device
    precision: torch.dtype
    training: Callable[[], bool]
    weights: Collection[str] = ()
    state: Mapping[str, Tensor] = field(default_factory=dict)
    fusions: Sequence[Fusion] = ()


@dataclass(frozen=True)
class _Scope:
    """The opset versions that hold here, and the attributes that a function body refers to."""

    opsets: Mapping[str, int]
    bound: Mapping[str, ir.Attr]


@dataclass
class _Builder:
    """The slots given out so far."""

    model: ir.Model
    target: Target
    slots: dict[ir.Value, int] = field(default_factory=dict)
    template: list[Tensor | None] = field(default_factory=lambda: [None])
    steps: list[Step] = field(default_factory=list)
    host: set[int] = field(default_factory=set)
    outer: "_Builder | None" = None
    captured: list[ir.Value] = field(default_factory=list)
    types: dict[int, ir.DataType] = field(default_factory=dict)

    def slot(self, value: ir.Value | None) -> int:
        """Return the value's slot; a value of the enclosing graph becomes a capture."""
        if value is None or (value.name == "" and value.producer() is None):
            return ABSENT
        if value in self.slots:
            return self.slots[value]
        if self.outer is not None:
            return self.capture(value)
        return self.fresh(value)

    def fresh(self, value: ir.Value) -> int:
        """Give the value a new empty slot."""
        self.template.append(None)
        self.slots[value] = len(self.template) - 1
        if value.dtype is not None:
            self.types[self.slots[value]] = value.dtype
        return self.slots[value]

    def capture(self, value: ir.Value) -> int:
        """Give a value of the enclosing graph a slot here: its constant, or a place that each run fills."""
        assert self.outer is not None  # noqa: S101 - told by the caller; mypy cannot see it
        constant = self.outer.template[self.outer.slot(value)]
        slot = self.fresh(value)
        self.template[slot] = constant
        if constant is None:
            self.captured.append(value)
        return slot

    def place_initializer(self, value: ir.Value) -> None:
        """Give an initializer its constant, its running state, or an empty slot that each run fills."""
        slot, name = self.fresh(value), value.name or ""
        if name in self.target.weights or value.const_value is None:
            return
        self.template[slot] = self.target.state.get(name)
        if self.template[slot] is None:
            self.template[slot] = self.tensor(value.const_value)

    def tensor(self, constant: ir.TensorProtocol) -> Tensor:
        """Return a constant on the host, in the precision that is computed in."""
        if constant.dtype == ir.DataType.STRING:
            msg = "text tensors are not supported; tokenize outside the model"
            raise ModelUnsupported(msg)
        found = from_numpy(constant.numpy())
        return found.to(widen(found.dtype, self.target.precision))

    def lower_all(self, nodes: Sequence[ir.Node], scope: _Scope) -> None:
        """Lower nodes in order."""
        for node in nodes:
            self.lower(node, scope)

    def lower(self, node: ir.Node, scope: _Scope) -> None:
        """Append the steps of one node, or its constant outputs."""
        if node.op_type == "Constant" and node.domain in _STANDARD:
            self.lower_constant(node, scope)
            return
        function = self.model.functions.get(node.op_identifier())
        described = self.describe(node, scope)
        rule = DOMAINS.get(described.domain, {}).get(node.op_type) if function is None else None
        if rule is None:
            self.open_function(node, described, function, scope)
            return
        inputs = tuple(self.slot(value) for value in node.inputs)
        bodies = [body for body in described.attributes.values() if isinstance(body, Subgraph)]
        for body in bodies:
            body.captures = slice(len(inputs), len(inputs) + len(body.outer_values))
            inputs += tuple(self.slot(value) for value in body.outer_values)
        outputs = tuple(self.fresh(value) for value in node.outputs)
        self.append(Step(self.kernel(rule, described), inputs, outputs, described))

    def kernel(self, rule: Callable[[Node], Kernel], node: Node) -> Kernel:
        """Ask the rule for the kernel; a wrong attribute is a refusal, not a crash."""
        try:
            return rule(node)
        except (KeyError, TypeError, ValueError, IndexError) as fault:
            raise unsupported(node, "an attribute is missing or not valid") from fault

    def append(self, step: Step) -> None:
        """Add a step, or fold it when all that it reads is constant."""
        foldable = not is_random(step) and not self.is_stateful(step)
        if foldable and all(slot == ABSENT or self.template[slot] is not None for slot in step.inputs):
            self.fold(step)
            return
        self.steps.append(step)

    def is_stateful(self, step: Step) -> bool:
        """Whether the step reads running statistics, which training changes."""
        states = {id(tensor) for tensor in self.target.state.values()}
        return any(id(self.template[slot]) in states for slot in step.inputs if slot != ABSENT)

    def fold(self, step: Step) -> None:
        """Compute the step now."""
        values = list(self.template)
        with torch.no_grad():
            run([step], values)
        for slot in step.outputs:
            self.template[slot] = values[slot]

    def placed(self, step: Step) -> Step:
        """Bring what the step reads to one device: shape arithmetic stays on the host."""
        if self.target.device == _HOST:
            return step
        bound_to_host = HOST_INPUTS.get(step.node.op_type, ())
        read = [at for at in range(len(step.inputs)) if at not in bound_to_host and step.inputs[at] != ABSENT]
        on_device = [at for at in read if self.template[step.inputs[at]] is None and step.inputs[at] not in self.host]
        if step.node.op_type in {"Shape", "Size"} or not on_device:
            self.host.update(step.outputs)
            return step
        moved = [at for at in read if at not in on_device]
        return Step(move(step.kernel, moved, self.target.device), step.inputs, step.outputs, step.node)

    def lower_constant(self, node: ir.Node, scope: _Scope) -> None:
        """Give a Constant node's output its value."""
        name, attribute = next(iter(node.attributes.items()))
        attribute = resolve(attribute, scope.bound)
        slot = self.fresh(node.outputs[0])
        if name == "value":
            self.template[slot] = self.tensor(attribute.as_tensor())
            self.types[slot] = attribute.as_tensor().dtype
        elif name in {"value_float", "value_floats"}:
            self.template[slot] = torch.tensor(attribute.value, dtype=torch.float32)
        elif name in {"value_int", "value_ints"}:
            self.template[slot] = torch.tensor(attribute.value, dtype=torch.int64)
        else:
            raise unsupported(self.describe(node, scope), f"attribute {name}")

    def describe(self, node: ir.Node, scope: _Scope) -> Node:
        """Return what rules see of the node."""
        slots = [self.slot(value) for value in node.inputs]
        domain = "" if node.domain in _STANDARD else node.domain
        return Node(
            op_type=node.op_type,
            opset=node.version or scope.opsets.get(domain, 1),
            name=node.name or "",
            domain=domain,
            attributes=self.attributes(node, scope),
            constants=tuple(self.template[slot] for slot in slots),
            present=tuple(slot != ABSENT for slot in slots),
            types=tuple(
                None if value is None else self.types.get(self.slot(value), value.dtype) for value in node.inputs
            ),
            outputs=_used_outputs(node),
            declared=len(node.outputs),
            precision=self.target.precision,
            training=self.target.training,
        )

    def attributes(self, node: ir.Node, scope: _Scope) -> Mapping[str, Any]:
        """Return the attributes as plain values, tensors as tensors, graphs compiled."""
        plain: dict[str, Any] = {}
        for name, given in node.attributes.items():
            if not _is_set(given, scope):
                continue
            attribute = resolve(given, scope.bound)
            if attribute.type == ir.AttributeType.TENSOR:
                plain[name] = self.tensor(attribute.as_tensor())
            elif attribute.type in _NESTED:
                plain[name] = self.nest(attribute.as_graph(), scope)
            else:
                plain[name] = attribute.value
        return MappingProxyType(plain)

    def nest(self, graph: ir.Graph, scope: _Scope) -> "Subgraph":
        """Compile the body of If, Loop or Scan."""
        inner = _Builder(self.model, self.target, outer=self)
        inputs = [inner.fresh(value) for value in graph.inputs]
        for value in graph.initializers.values():
            inner.place_initializer(value)
        inner.lower_all(list(graph), scope)
        outputs = [inner.slot(value) for value in graph.outputs]
        steps = with_releases([inner.placed(step) for step in prune(inner.steps, outputs)], outputs)
        return Subgraph(
            steps, tuple(inner.template), inputs, outputs, inner.captured, [inner.slots[v] for v in inner.captured]
        )

    def open_function(self, node: ir.Node, described: Node, function: ir.Function | None, scope: _Scope) -> None:
        """Lower the body of a function: the model's own, or the standard's for an operator without a rule."""
        set_here = {name: resolve(attr, scope.bound) for name, attr in node.attributes.items() if _is_set(attr, scope)}
        body = function or function_body(node, described, set_here)
        if body is None:
            raise unsupported(described)
        given = [*(self.slot(value) for value in node.inputs), *([ABSENT] * len(body.inputs))]
        # A body may be opened many times: its values get new slots each time.
        for value, slot in zip(body.inputs, given, strict=False):
            self.slots[value] = slot
        own = {name: attribute for name, attribute in body.attributes.items() if attribute.value is not None}
        bound = {**default_attributes(described), **own, **set_here}
        self.lower_all(list(body), _Scope(_opsets(body.opset_imports), bound))
        for mine, inner in zip(node.outputs, body.outputs, strict=False):
            self.slots[mine] = self.slots[inner]


@dataclass
class Subgraph:
    """The compiled body of a control-flow node; `captures` says where in the node's inputs its outer values are."""

    steps: tuple[Step, ...]
    template: tuple[Tensor | None, ...]
    inputs: Sequence[int]
    outputs: Sequence[int]
    outer_values: Sequence[ir.Value]
    outer_slots: Sequence[int]
    captures: slice = field(default_factory=lambda: slice(0, 0))

    @property
    def count(self) -> int:
        """The number of outputs."""
        return len(self.outputs)

    def __call__(self, inputs: Sequence[Tensor | None], captured: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Run the body once."""
        values = list(self.template)
        for slot, value in zip((*self.inputs, *self.outer_slots), (*inputs, *captured), strict=True):
            values[slot] = value
        run(self.steps, values)
        return tuple(values[slot] for slot in self.outputs)  # type: ignore[misc] # every output has been computed


def _used_outputs(node: ir.Node) -> int:
    """Return the number of outputs up to the last one that is read or named as a graph output."""
    used = [at for at, value in enumerate(node.outputs) if value.uses() or value.is_graph_output()]
    return max(used, default=0) + 1


def _is_set(attribute: ir.Attr, scope: _Scope) -> bool:
    """Whether an attribute has a value: one that refers to the caller's may have none."""
    return not attribute.is_ref() or attribute.ref_attr_name in scope.bound


def _opsets(imports: Mapping[str, int]) -> dict[str, int]:
    return {("" if domain in _STANDARD else domain): version for domain, version in imports.items()}


def resolve(attribute: ir.Attr, bound: Mapping[str, ir.Attr]) -> ir.Attr:
    """Return the attribute itself, or the caller's that it refers to."""
    return bound[attribute.ref_attr_name or ""] if attribute.is_ref() else attribute


def build(model: ir.Model, target: Target, capture: Collection[str] = ()) -> Plan:
    """Compile the main graph; `capture` names inner values that the plan must keep.

    Raises ModelUnsupported naming the operator, domain, opset and node that has no rule.
    """
    builder, graph = _Builder(model, target), model.graph
    inputs = {value.name or "": builder.fresh(value) for value in graph.inputs}
    for value in graph.initializers.values():
        if value not in builder.slots:
            builder.place_initializer(value)
    builder.lower_all(list(graph), _Scope(_opsets(graph.opset_imports), {}))
    named = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    names = {value.name: builder.slots[value] for value in named if value.name}
    outputs = tuple(value.name or "" for value in graph.outputs)
    wanted = {names[name] for name in (*outputs, *capture)}
    steps = prune(builder.steps, wanted)
    for fuse in target.fusions:
        steps = prune(fuse(steps, builder.template, wanted), wanted)
    steps = [builder.placed(step) for step in steps]
    read = wanted.union(*(step.inputs for step in steps))
    template = tuple(tensor if slot in read else None for slot, tensor in enumerate(builder.template))
    weights = {name: names[name] for name in target.weights}
    given = (*inputs.values(), *weights.values())
    return Plan(with_releases(steps, wanted, given), template, inputs, weights, names, outputs)
