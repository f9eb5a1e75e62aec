"""The `modelpress` command: a terminal face of the client. Holds no knowledge of its own about models or jobs."""
