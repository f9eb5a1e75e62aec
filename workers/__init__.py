"""The workers: claim a job, supervise a sandboxed child, publish what it made."""
