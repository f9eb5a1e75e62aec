"""Records (SQL) and blobs (object store) behind small interfaces. Knows no HTTP and no job logic."""
