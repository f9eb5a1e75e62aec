"""A zipped Hugging Face folder becomes an ONNX graph. No code from the upload runs, and none of a model library."""
