"""Run and train an ONNX graph with PyTorch operations. Knows no technique and no data format."""
