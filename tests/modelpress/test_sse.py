from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelpress.sse import ServerSentEvent, lines, parse

STREAM = (
    'id: 1\r\nevent: progress\r\ndata: {"a":\u2028 1}\r\n\r\n'  # U+2028 is no line end here
    ": keep-alive\n\ndata: x\ndata: y\rid: 7\r\rdata: cut"
).encode()


def test_parse_when_line_ends_are_mixed() -> None:
    found = list(parse(lines([STREAM])))
    assert found == [ServerSentEvent("progress", '{"a":\u2028 1}', "1"), ServerSentEvent("message", "x\ny", "7")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_parse_when_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(edges)]
    assert list(parse(lines(chunks))) == list(parse(lines([STREAM])))
