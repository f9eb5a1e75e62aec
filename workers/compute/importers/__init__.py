"""Turn an upload into one checked ONNX model."""
