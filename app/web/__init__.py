"""Pages for people. They hold no data: their scripts read the same REST API that everybody uses."""
