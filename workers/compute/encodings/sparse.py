"""Mostly one value, as zero in a pruned tensor: where others are, by mask or by gaps, and these, plain or shared."""

from workers.compute.encodings import streams
from workers.compute.encodings.base import Contents, Decoder, Encoded


def encode(contents: Contents, opset: int) -> Encoded | None:
    """Return places and values, or None where no value is common or operators are too old."""
    stream = streams.positions_of(contents, opset)
    if stream is None:
        return None
    decoder = Decoder(contents, opset)
    return decoder.finish(decoder.shaped(stream.write(decoder), contents.values.shape))
