"""A network in an ONNX file as a pure function."""

from pathlib import Path
from typing import Any, NamedTuple

import chex
import numpy as np

from metahpo._extras import require
from metahpo.problems.surrogate.operators import OPERATORS, Attributes, operate

OLDEST_OPSET = 13


class Node(NamedTuple):
    """One operator: ``""`` among the inputs is one that is left out."""

    operator: str
    attributes: Attributes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph(NamedTuple):
    """A network: operators in the order in which they are computed."""

    nodes: tuple[Node, ...]
    constants: dict[str, np.ndarray]
    inputs: tuple[str, ...]
    output: str


def read_graph(path: Path) -> Graph:
    """Reads a network with one output.

    Raises:
        ImportError: without onnx (extra ``surrogate``).
        ValueError: if the file is no such network, is older than opset 13, or uses an operator
            that is not among ``OPERATORS``.
    """
    onnx = require("onnx", "surrogate")
    try:
        model = onnx.load(path)
    except Exception as error:  # what protobuf raises has no name of its own
        raise ValueError(f"{path} is no network in the format ONNX: {error}") from error
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if min(versions, default=0) < OLDEST_OPSET:
        raise ValueError(f"{path} must have opset {OLDEST_OPSET} or newer, got {versions}")
    if unknown := sorted({node.op_type for node in model.graph.node} - set(OPERATORS)):
        raise ValueError(
            f"{path}: operators must be among {', '.join(sorted(OPERATORS))}; got {unknown[0]}"
        )
    outputs = [output.name for output in model.graph.output]
    if len(outputs) != 1:
        raise ValueError(f"{path} must have one output, got {outputs}")
    constants = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    inputs = tuple(x.name for x in model.graph.input if x.name not in constants)
    return Graph(tuple(_node(onnx, n) for n in model.graph.node), constants, inputs, outputs[0])


def _node(onnx: Any, node: Any) -> Node:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant":
        if "value" not in attributes:
            raise ValueError(f"a Constant must be a tensor, got {sorted(attributes)}")
        attributes["value"] = onnx.numpy_helper.to_array(attributes["value"])
    if node.op_type == "Cast":
        attributes["to"] = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    return Node(node.op_type, attributes, tuple(node.input), tuple(node.output))


def evaluate(graph: Graph, inputs: dict[str, chex.Array]) -> chex.Array:
    """The output for a batch of inputs; may be jitted, vmapped and differentiated."""
    values: dict[str, Any] = {"": None, **graph.constants, **inputs}
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        (name,) = node.outputs
        values[name] = operate(node.operator, node.attributes, given)
    return values[graph.output]
