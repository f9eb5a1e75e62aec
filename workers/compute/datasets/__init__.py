"""Turn an uploaded data set into samples that fit a model's inputs."""
