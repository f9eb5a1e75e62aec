"""The whole corpus, in the order in which it is sent."""

from tests.hostile import calls, jobs, kernel_rows, uploads
from tests.hostile.rows import Row


def corpus() -> list[Row]:
    """Return every row."""
    return [*uploads.rows(), *kernel_rows.rows(), *calls.rows(), *jobs.rows()]
