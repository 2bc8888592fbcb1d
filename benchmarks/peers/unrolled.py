"""Hypergradients through training with torch alone, TorchOpt and higher.

The problem is that of ``benchmarks/_reference.py``.  Arrays: ``support_x``, ``support_y``,
``query_x``, ``query_y``, ``w0``, ``b0``, ``w1`` ..., ``weights``, ``l2``, ``lr`` and ``steps``;
with a leading axis of tasks on data and parameters for the cases that end in ``_tasks``.
"""

import os

import higher
import torch
import torch.nn.functional as F
import torchopt
from serve import serve

NAMES = ("weights", "l2", "lr")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def tensors(arrays):
    """Everything as tensors, the hyperparameters with a gradient."""
    made = {key: torch.as_tensor(value).to(DEVICE) for key, value in arrays.items()}
    for key in ("support_y", "query_y"):
        made[key] = made[key].long()
    return {k: v.requires_grad_() if k in NAMES else v for k, v in made.items()}


def parameters(t):
    layers = sum(key.startswith("w") and key[1:].isdigit() for key in t)
    arrays = (t[f"{kind}{i}"] for i in range(layers) for kind in "wb")
    return tuple(array.detach().clone().requires_grad_() for array in arrays)


def apply(params, x):
    for weight, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
        x = torch.tanh(x @ weight + bias)
    return x @ params[-2] + params[-1]


def train_loss(params, t):
    losses = F.cross_entropy(apply(params, t["support_x"]), t["support_y"], reduction="none")
    squares = sum((p**2).sum() for p in params)
    return (t["weights"] * losses).mean() + t["l2"] / 2 * squares


def gradients(params, t):
    """Of the outer loss with respect to the hyperparameters."""
    loss = F.cross_entropy(apply(params, t["query_x"]), t["query_y"])
    found = torch.autograd.grad(loss, [t[name] for name in NAMES])
    return {name: grad.cpu().numpy() for name, grad in zip(NAMES, found, strict=True)}


def by_torch(t):
    params = parameters(t)
    for _ in range(int(t["steps"])):
        grads = torch.autograd.grad(train_loss(params, t), params, create_graph=True)
        params = tuple(p - t["lr"] * g for p, g in zip(params, grads, strict=True))
    return gradients(params, t)


def by_torchopt(t):
    params = parameters(t)
    optimizer = torchopt.sgd(lr=t["lr"])
    state = optimizer.init(params)
    for _ in range(int(t["steps"])):
        grads = torch.autograd.grad(train_loss(params, t), params, create_graph=True)
        updates, state = optimizer.update(grads, state, params=params, inplace=False)
        params = torchopt.apply_updates(params, updates, inplace=False)
    return gradients(params, t)


class Network(torch.nn.Module):
    """What higher patches."""

    def __init__(self, params):
        super().__init__()
        self.layers = torch.nn.ParameterList(params)

    def forward(self, x):
        return apply(list(self.layers), x)


def by_higher(t):
    network = Network([torch.nn.Parameter(p.detach()) for p in parameters(t)])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    override = {"lr": [t["lr"]]}
    with higher.innerloop_ctx(network, optimizer, override=override) as (net, inner):
        for _ in range(int(t["steps"])):
            inner.step(train_loss(list(net.parameters()), t))
        return gradients(list(net.parameters()), t)


def one(method):
    """A case of one task."""

    def case(arrays):
        # Matrix products of small networks gain nothing from a second thread.
        torch.set_num_threads(CORES if arrays["w0"].size >= 2**14 else 1)
        t = tensors(arrays)
        return lambda: method(t)

    return case


def tasks(method):
    """A case of many tasks, one after another; they are too small for more than one thread."""

    def case(arrays):
        torch.set_num_threads(1)
        t = tensors(arrays)
        shared = {key: t[key] for key in (*NAMES, "steps")}
        rest = [key for key in t if key not in shared]
        each = [{**shared, **{key: t[key][i] for key in rest}} for i in range(len(t["w0"]))]

        def run():
            found = [method(task) for task in each]
            return {name: [grads[name] for grads in found] for name in NAMES}

        return run

    return case


METHODS = {"torch": by_torch, "torchopt": by_torchopt, "higher": by_higher}

if __name__ == "__main__":
    single = {name: one(method) for name, method in METHODS.items()}
    many = {f"{name}_tasks": tasks(method) for name, method in METHODS.items()}
    serve(single | many, "cpu" if DEVICE == "cpu" else "gpu")
