"""Real models and data for demos, benchmarks and tests; each script says where its inputs come from."""
