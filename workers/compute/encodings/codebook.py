"""Shared values: a table of the distinct ones and, for every weight, its row in the table (Deep Compression, 2016)."""

from workers.compute.encodings import streams
from workers.compute.encodings.base import Contents, Decoder, Encoded


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return table and indices, or None for more than 256 distinct values or operators that are too old."""
    stream = streams.digits_of(contents, opset)
    if stream is None:
        return None
    decoder = Decoder(contents, opset)
    return decoder.finish(decoder.shaped(stream.write(decoder), contents.values.shape))
