"""Alembic's scripts; run them with `python -m app.stores.migrate`."""
