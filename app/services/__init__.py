"""What can be done, one file per noun. Knows no HTTP: speaks contracts and raises `app.errors`."""
