"""The user's side: a typed client and the `modelpress` command, over the REST API only."""
