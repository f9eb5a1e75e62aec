"""LSTM, GRU and RNN: a hidden unit is a row of every gate, a column of the recurrence, an entry of the state."""

from collections.abc import Sequence

from workers.compute.graph.dimensions.ledger import Axis, Labels
from workers.compute.graph.dimensions.site import Rule, Site

HIDDEN = "hidden units"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_PEEPHOLES, _STATES = 7, (5, 6)


def _recurrent(site: Site) -> Sequence[Labels | None]:
    """Inputs: X (steps, batch, input), W (directions, gates·hidden, input), R (…, hidden), B (…, 2·gates·hidden)."""
    data, weight, memory = site.input(0), site.input(1), site.input(2)
    if data is None or weight is None or memory is None or weight[1] is None:
        return site.barrier()
    gates = GATES[site.node.op_type]
    unit = weight[1][: weight[1].size // gates]
    given = [labels for index in (3, *_STATES, _PEEPHOLES) if (labels := site.input(index))]
    for labels in (weight, memory, *given):
        site.freeze(labels[0])
    site.contract(data[2], weight[2], weighted=site.is_weight(1))
    for axis in (weight[1], memory[1], memory[2], *(labels[-1] for labels in given)):
        _repeat(site, unit, axis)
    site.ledger.name(unit, HIDDEN)
    return [_result(site, data, unit, index) for index in range(len(site.node.outputs))]


def _repeat(site: Site, unit: Axis, axis: Axis) -> None:
    """Couple an axis that holds every unit once for each gate."""
    if unit is None or axis is None or axis.size % unit.size:
        site.freeze(unit)
        site.freeze(axis)
        return
    for gate in axis.reshape(-1, unit.size):
        site.ledger.couple(unit, gate)


def _result(site: Site, data: Labels, unit: Axis, index: int) -> Labels | None:
    """Return Y (steps, directions, batch, hidden), or a last state; `layout` 1 puts the batch first."""
    if site.output_size(index) is None:
        return None
    if site.integer("layout", 0):
        return (data[0], data[1], None, unit) if index == 0 else (data[0], None, unit)
    return (data[0], None, data[1], unit) if index == 0 else (None, data[1], unit)


RULES: dict[str, Rule] = dict.fromkeys(GATES, _recurrent)
