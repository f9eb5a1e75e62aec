"""The gateway, and the words that gateway, workers and client share."""
