"""Pulls what models and data sets are made of from where it lives. Moves bytes and never opens them; runs no child."""
