"""One module per kind of work: how its order is made of stored inputs, and how what the child left is published."""
