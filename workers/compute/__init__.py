"""The child's side: opens models and data, computes, writes results. Knows no job, queue, store or network."""
