"""An ONNX graph as a PyTorch module: what is trained is the graph that is shipped. Knows no losses and no data."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.errors import DatasetMismatch
from workers.compute.autograd.builder import Target, build
from workers.compute.autograd.checkpointing import Segment, counted, run_segments, segments_of
from workers.compute.autograd.dtypes import TORCH_TYPES, from_numpy, to_numpy, widen
from workers.compute.autograd.fusions import FUSIONS
from workers.compute.autograd.parametrization import Parametrization, carried, parametrize, stored
from workers.compute.autograd.plan import Plan, run
from workers.compute.graph.constraints import Constraint
from workers.compute.graph.model import Model

# Positions of float inputs that are settings, not weights: statistics, scales of a resize or of a quantizer.
_SETTINGS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "GatherBlockQuantized": (2, 3),
    "GroupQueryAttention": (7, 8),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3),
    "OneHot": (2,),
    "Pad": (2,),
    "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2),
    "RotaryEmbedding": (1, 2, 3),
    "Upsample": (1,),
}
# Operators from bytes to bytes: all their floats are scales.
_BYTES_ONLY = ("QLinear", "QEmbed")
_STATISTICS = _SETTINGS["BatchNormalization"]
# Of the memory that a device has free, the share that activations may take: the rest is for the kernels' own needs.
_SHARE = 0.8
# A gradient and AdamW's two moments come on top of each weight.
_PER_WEIGHT = 3
# Larger numbers are stand-ins for infinity in an attention mask.
_LARGEST_WEIGHT = 1e30


class Executor(nn.Module):
    """Runs a model's graph under autograd.

    Weights are trained through their constraints. `dtype` is the type that narrower floating types are computed in;
    inputs and wider types stay as they are. A forward pass that would keep more than `activation_bytes` for its
    gradient keeps a few activations and computes the others again (None: more than is free on CUDA, any on the CPU).
    Raises ModelUnsupported for an operator without a rule.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "cpu",
        trainable: bool = True,
        dtype: torch.dtype = torch.float32,
        activation_bytes: int | None = None,
    ) -> None:
        """Resolve every operator and copy the weights; the model is not changed until `write_back`."""
        super().__init__()
        self.model = model
        self.device = torch.device(device)
        self.precision = dtype
        # Grows when the set of constraints changes: a state saved before does not keep them.
        self.revision = 0
        # Whether batch normalization in training goes by the running statistics, and leaves them as they are.
        self.fixed_statistics = False
        self.activation_bytes = activation_bytes
        # Whether activations are computed again, and the most input numbers that are known to fit without.
        self.recomputes = False
        self._fitting = 0
        self._learning = False
        self.trained: dict[str, Parametrization] = {}
        self._places = nn.ModuleList()
        self._statistics = _statistics_of(model)
        for position, name in enumerate(self._statistics):
            self.register_buffer(f"statistic{position}", self._tensor(name))
        for name in _weights_of(model) if trainable else ():
            self.trained[name] = parametrize(model.constraints.get(name), self._tensor(name))
            self._places.append(self.trained[name])
        self._declared = {
            value.name: TORCH_TYPES[value.dtype] for value in model.graph.inputs if value.dtype in TORCH_TYPES
        }
        self._plans: dict[frozenset[str], Plan] = {}
        self._segments: dict[frozenset[str], tuple[Segment, ...]] = {}
        self._plan(frozenset())

    def anew(self) -> "Executor":
        """Return an executor of a copy of the model, as it was before any training here; neither changes the other."""
        found = Executor(
            self.model.clone(),
            device=str(self.device),
            trainable=bool(self.trained),
            dtype=self.precision,
            activation_bytes=self.activation_bytes,
        )
        found.fixed_statistics, found.recomputes, found._fitting = self.fixed_statistics, self.recomputes, self._fitting
        return found

    def _tensor(self, name: str) -> Tensor:
        found = from_numpy(self.model.read(name))
        return found.to(self.device, widen(found.dtype, self.precision))

    def _plan(self, capture: frozenset[str]) -> Plan:
        if capture not in self._plans:
            buffers = dict(self.named_buffers(recurse=False))
            state = {name: buffers[f"statistic{at}"] for at, name in enumerate(self._statistics)}
            learns = tuple(self.trained)
            target = Target(self.device, self.precision, self._learns_statistics, learns, state, FUSIONS)
            self._plans[capture] = build(self.model.ir, target, capture)
        return self._plans[capture]

    def _learns_statistics(self) -> bool:
        return self._learning

    @property
    def statistics(self) -> tuple[Tensor, ...]:
        """The running means and variances of every batch normalization."""
        return tuple(self.buffers(recurse=False))

    @property
    def written(self) -> tuple[str, ...]:
        """The initializers that `write_back` replaces."""
        return (*self.trained, *self._statistics)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names that `forward` needs."""
        return tuple(self._plan(frozenset()).inputs)

    def forward(self, inputs: Mapping[str, Tensor], capture: Collection[str] = ()) -> dict[str, Tensor]:
        """Return the graph's outputs, and the inner values named in `capture`, by name.

        Raises DatasetMismatch for a missing input, RuntimeRefused for inputs that do not fit a node.
        """
        kept, self._learning = frozenset(capture), self.training and not self.fixed_statistics
        plan = self._plan(kept)
        values = self._run(inputs, kept)
        found = {name: values[plan.names[name]] for name in (*plan.outputs, *capture)}
        return {name: value for name, value in found.items() if value is not None}

    def _run(self, inputs: Mapping[str, Tensor], capture: frozenset[str]) -> Sequence[Tensor | None]:
        """Run the plan, with all activations if they fit; return the values of its slots."""
        plan, values = self._plan(capture), self._filled(inputs, capture)
        limited = self.activation_bytes is not None or self.device.type == "cuda"
        size = sum(tensor.numel() for tensor in inputs.values())
        if not (limited and torch.is_grad_enabled() and self.trained):
            run(plan.steps, values)
        elif self.recomputes:
            again = partial(self._in_mode, learning=self._learning)
            run_segments(plan, self._segmented(capture), values, again)
        elif size <= self._fitting:
            run(plan.steps, values)
        elif self._fits(plan, values):
            self._fitting = size
        else:
            self.recomputes = True
            return self._run(inputs, capture)
        return values

    def _filled(self, inputs: Mapping[str, Tensor], capture: frozenset[str]) -> list[Tensor | None]:
        """Return the slots' values before the first step."""
        plan = self._plan(capture)
        values = list(plan.template)
        for name, slot in plan.inputs.items():
            if name not in inputs:
                raise DatasetMismatch(f"the model's input {name} is missing; there are: {', '.join(sorted(inputs))}")
            values[slot] = self._received(name, inputs[name])
        for name, slot in plan.weights.items():
            values[slot] = self.trained[name]()
        return values

    def _segmented(self, capture: frozenset[str]) -> tuple[Segment, ...]:
        if capture not in self._segments:
            plan = self._plan(capture)
            states = {id(statistic) for statistic in self.statistics}
            statistics = [slot for slot, tensor in enumerate(plan.template) if id(tensor) in states]
            wanted = [plan.names[name] for name in (*plan.outputs, *capture)]
            self._segments[capture] = segments_of(plan, wanted, statistics)
        return self._segments[capture]

    @contextmanager
    def _in_mode(self, *, learning: bool) -> Iterator[None]:
        """Let batches count or not as they did when a pass began, whatever the mode is by now."""
        current, self._learning = self._learning, learning
        try:
            yield
        finally:
            self._learning = current

    def _limit(self) -> float:
        """Return the bytes that activations may take."""
        if self.activation_bytes is not None:
            return self.activation_bytes
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + held
        weights = sum(weight.nbytes for weight in self.parameters() if weight.grad is None)
        return _SHARE * (free - _PER_WEIGHT * weights)

    def _fits(self, plan: Plan, values: list[Tensor | None]) -> bool:
        """Run the plan and measure what it keeps; if that is too much, leave the statistics as they were."""
        limit, before = self._limit(), [statistic.clone() for statistic in self.statistics]
        known = [tensor for tensor in (*values, *self.parameters()) if isinstance(tensor, Tensor)]
        try:
            with counted(known) as kept:
                run(plan.steps, values)
            size: float = kept.size
        except torch.OutOfMemoryError:
            size = math.inf
        if size <= limit:
            return True
        with torch.no_grad():
            for statistic, value in zip(self.statistics, before, strict=True):
                statistic.copy_(value)
        return False

    def _received(self, name: str, tensor: Tensor) -> Tensor:
        """Return an input on the device, in the type that the graph declares (widened to what is computed in)."""
        kind = self._declared.get(name, tensor.dtype)
        return tensor.to(self.device, widen(kind, self.precision), non_blocking=True)

    def set_constraint(self, name: str, constraint: Constraint | None) -> None:
        """Replace a weight's constraint, here and in the model; free and masked weights keep their parameter object."""
        current = self.trained[name]
        value = getattr(current, "value", None)
        replaced = parametrize(constraint, current().detach().clone() if value is None else value)
        position = list(self.trained).index(name)
        self.trained[name] = self._places[position] = replaced
        if constraint is None:
            self.model.constraints.pop(name, None)
        else:
            self.model.constraints[name] = constraint
        self.revision += 1

    def write_back(self) -> None:
        """Store weights and statistics in the model's initializers, in the file's types, constraints kept exactly."""
        with torch.no_grad():
            for name, weight in self.trained.items():
                kind, constraint = self.model.read(name).dtype, self.model.constraints.get(name)
                if constraint is not None:
                    constraint = self.model.constraints[name] = carried(weight, constraint)
                self.model.write(name, stored(weight(), constraint, kind))
            for position, name in enumerate(self._statistics):
                kind = self.model.read(name).dtype
                self.model.write(name, to_numpy(self.get_buffer(f"statistic{position}")).astype(kind))


def _statistics_of(model: Model) -> tuple[str, ...]:
    """Return the initializers that are running statistics of a batch normalization."""
    return tuple(
        name for name, value in model.weights().items() if _positions(value, "BatchNormalization", _STATISTICS)
    )


def _positions(value: ir.Value, op_type: str, positions: Collection[int]) -> bool:
    return any(use.node.op_type == op_type and use.idx in positions for use in value.uses())


def _is_setting(op_type: str, position: int) -> bool:
    return op_type.startswith(_BYTES_ONLY) or position in _SETTINGS.get(op_type, ())


def _largest(array: NDArray[np.generic]) -> float:
    values = array.astype(np.float32, copy=False)
    return float(max(values.max(), -values.min()))


def _weights_of(model: Model) -> tuple[str, ...]:
    """Return the initializers to train: float weights that are not settings of an operator or attention masks."""
    chosen = []
    for name, value in model.weights().items():
        fixed = any(_is_setting(use.node.op_type, use.idx) for use in value.uses())
        if not fixed and _largest(model.read(name)) < _LARGEST_WEIGHT:
            chosen.append(name)
    return tuple(chosen)
