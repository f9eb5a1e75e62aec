"""The ONNX graph as data: weights, constraints, spans, costs. Knows no torch and no runtime."""
