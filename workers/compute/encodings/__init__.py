"""How a tensor is written in the file: constants and a decode subgraph of standard ONNX operators."""
