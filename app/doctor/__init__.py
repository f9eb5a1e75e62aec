"""What is wrong with this installation, and the cure. Changes nothing but an object of its own in the blob store."""
