"""A failure that brings its report along."""

from app.contracts.report import Report
from app.errors import ModelpressError


class FailedWithReport(Exception):  # it carries an error, it is not one of the tree
    """The work failed with `error`, but what was measured is worth keeping."""

    def __init__(self, error: ModelpressError, report: Report) -> None:
        """Keep both."""
        super().__init__(error.detail)
        self.error = error
        self.report = report
