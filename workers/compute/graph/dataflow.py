"""Who reads what: data paths through the main graph, with the values that subgraphs capture. Knows no shapes."""

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

# These read how large a value is, not what it holds.
SHAPE_READERS = frozenset({"Shape", "Size"})


def reads(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return every value that a node needs: its inputs, and what its subgraphs capture from outside."""
    captured = [value for body in bodies(node) for value in _captured(body)]
    return tuple(value for value in (*node.inputs, *captured) if value is not None)


def data_reads(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return the values whose contents reach the node's outputs."""
    return () if node.op_type in SHAPE_READERS else reads(node)


def live(graph: ir.Graph, replaced: Mapping[ir.Value, ir.Value] | None = None) -> set[ir.Value]:
    """Return the values that the outputs depend on, if every reader of a key of `replaced` read its value instead."""
    swap = replaced or {}
    pending, seen = [swap.get(value, value) for value in graph.outputs], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        if producer is not None:
            pending.extend(swap.get(read, read) for read in reads(producer))
    return seen


def constants(graph: ir.Graph) -> set[ir.Value]:
    """Return the values that depend on no graph input: initializers, and what is computed from them alone."""
    found = set(graph.initializers.values()) - set(graph.inputs)
    for node in graph:
        if all(value in found for value in reads(node)):
            found.update(node.outputs)
    return found


def descendants(nodes: Iterable[ir.Node], root: ir.Value) -> tuple[list[ir.Node], set[ir.Value]]:
    """Return the nodes, in the order given, and values that the contents of `root` reach."""
    reached, values = [], {root}
    for node in nodes:
        if any(value in values for value in data_reads(node)):
            reached.append(node)
            values.update(node.outputs)
    return reached, values


def drop_dead(graph: ir.Graph) -> list[str]:
    """Remove nodes and initializers that no output depends on; return the initializers' names."""
    needed = live(graph)
    dead = [node for node in graph if needed.isdisjoint(node.outputs)]
    for node in reversed(dead):
        graph.remove(node, safe=True)
    names = [name for name, value in graph.initializers.items() if value not in needed]
    for name in names:
        del graph.initializers[name]
    return names


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs inside a node: what If chooses between, what Loop and Scan repeat."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _captured(body: ir.Graph) -> Iterator[ir.Value]:
    for inner in body.all_nodes():
        yield from (value for value in inner.inputs if value is not None and value.graph is not body)
    yield from (value for value in body.outputs if value.graph is not body)
