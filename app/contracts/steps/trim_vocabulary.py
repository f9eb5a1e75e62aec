"""Options of `trim_vocabulary`."""

from typing import ClassVar, Literal

from pydantic import Field

from app.contracts.steps.base import RetrainedSpec


class TrimVocabulary(RetrainedSpec):
    """Remove the embedding rows that the data never uses; ids are mapped inside the graph."""

    title: ClassVar[str] = "Trim the vocabulary"
    summary: ClassVar[str] = "Remove embedding rows that the training rows hardly use; tokenizer and inputs stay."
    paper: ClassVar[str] = "https://arxiv.org/abs/2010.05609"
    needs_data: ClassVar[bool] = True

    technique: Literal["trim_vocabulary"] = "trim_vocabulary"
    min_count: int = Field(1, ge=1, description="an id stays if the training rows hold it this many times")
    keep: list[int] = Field(
        [0, 1, 2, 3, 100, 101, 102, 103],
        max_length=10_000,
        description="ids that stay in any case; default: where padding, unknown and their like usually are",
    )
    unknown: int | None = Field(
        None, ge=0, description="id whose row stands for all removed ones; default: a new row, the mean of theirs"
    )
    positions: bool = Field(
        False, description="also cut position tables to the length that the model's inputs fix, where they fix one"
    )
