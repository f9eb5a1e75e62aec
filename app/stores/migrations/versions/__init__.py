"""One file per change of the schema, oldest first by number; a change keeps the version before it working."""
