"""The words that gateway, workers and client share. Pydantic only: nothing here opens, sends or stores."""
