"""Operators of ai.onnx.ml that scikit-learn's converters write around a network."""

import torch
from torch import Tensor

from workers.compute.autograd.operators.base import Kernel, Node, Rule, plain


def _scaler(node: Node) -> Kernel:
    offset = torch.tensor(node.attributes.get("offset", [0.0]))
    scale = torch.tensor(node.attributes.get("scale", [1.0]))

    def kernel(x: Tensor) -> Tensor:
        return (x.float() - offset.to(x.device)) * scale.to(x.device)

    return kernel


def _extract(x: Tensor, places: Tensor) -> Tensor:
    found = x[..., places.reshape(-1).to(torch.int64)]
    return found if found.ndim > 1 else found[None]


RULES: dict[str, Rule] = {"ArrayFeatureExtractor": plain(_extract), "Scaler": _scaler}
