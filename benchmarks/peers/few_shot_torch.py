"""MAML with ``torch.func`` and with TorchOpt: the sinusoid, and convolutions on small images.

``sinusoid`` gets ``w0``, ``b0``, ``w1`` ... and the sizes, and runs ``torch`` meta-steps, sampling
included.  The others get ``support_x`` f[tasks, images, side, side, channels], ``support_y``,
``query_x``, ``query_y`` and the parameters as ``benchmarks/_few_shot_images.py`` names them, and
run one meta-step from these with Adam; ``torch_func`` batches over tasks as torchbench's
``functorch_maml_omniglot`` does, ``torch_loop`` and ``torchopt`` take one after another.
"""

import math
import os

import torch
import torch.nn.functional as F
import torchopt
from serve import serve
from torch.func import grad, vmap

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def sinusoid(arrays):
    torch.set_num_threads(1)  # products this small gain nothing from a second thread
    steps, rounds, tasks, shots, queries = (
        int(arrays[name]) for name in ("steps", "torch", "tasks", "shots", "queries")
    )
    inner_rate = float(arrays["inner_rate"])
    params = {k: torch.as_tensor(v).to(DEVICE) for k, v in arrays.items() if k[1:].isdigit()}
    params = {k: v.requires_grad_() for k, v in params.items()}
    layers = len(params) // 2
    adam = torch.optim.Adam(params.values(), lr=float(arrays["meta_rate"]))

    def sample():
        amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, 1, device=DEVICE)
        phase = math.pi * torch.rand(tasks, 1, 1, device=DEVICE)
        x = 10.0 * torch.rand(tasks, shots + queries, 1, device=DEVICE) - 5.0
        y = amplitude * torch.sin(x - phase)
        return x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:]

    def error(params, x, y):
        for i in range(layers):
            x = x @ params[f"w{i}"] + params[f"b{i}"]
            x = torch.relu(x) if i < layers - 1 else x
        return ((x - y) ** 2).mean()

    def loss(params, x, y, query_x, query_y):
        for _ in range(steps):
            grads = grad(error)(params, x, y)
            params = {k: p - inner_rate * grads[k] for k, p in params.items()}
        return error(params, query_x, query_y)

    def run():
        for _ in range(rounds):
            adam.zero_grad()
            value = vmap(loss, in_dims=(None, 0, 0, 0, 0))(params, *sample()).mean()
            value.backward()
            adam.step()
        wait()
        return {"loss": value.detach().cpu().numpy()}

    return run


def network(params, x):
    """Convolutions without padding, norms of the batch, ReLU, pooling; then a dense layer."""
    layer = 0
    while f"conv{layer}.kernel" in params:
        x = F.conv2d(x, params[f"conv{layer}.kernel"], params[f"conv{layer}.bias"])
        scale, shift = params[f"norm{layer}.scale"], params[f"norm{layer}.bias"]
        x = F.batch_norm(x, None, None, scale, shift, training=True)
        x = F.max_pool2d(F.relu(x), 2, 2)
        layer += 1
    return F.linear(x.flatten(1), params["head.kernel"], params["head.bias"])


def to_torch(name, value):
    """Kernels from [height, width, in, out] and [in, out] to torch's order."""
    tensor = torch.as_tensor(value).to(DEVICE)
    if name.endswith("kernel"):
        tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
    return tensor.contiguous()


def to_jax(name, grad):
    if name.endswith("kernel"):
        grad = grad.permute(2, 3, 1, 0) if grad.ndim == 4 else grad.T
    return grad.cpu().numpy()


def episodes(arrays):
    """Images with the channels first, labels as torch wants them."""
    x, query_x = (
        torch.as_tensor(arrays[name]).movedim(-1, 2).contiguous().to(DEVICE)
        for name in ("support_x", "query_x")
    )
    y, query_y = (
        torch.as_tensor(arrays[name]).long().to(DEVICE) for name in ("support_y", "query_y")
    )
    return x, y, query_x, query_y


def loss(params, x, y):
    return F.cross_entropy(network(params, x), y)


def by_func(params, episode, steps, rate):
    """The query loss after gradient descent, with ``torch.func`` alone."""
    x, y, query_x, query_y = episode
    for _ in range(steps):
        grads = grad(loss)(params, x, y)
        params = {k: p - rate * grads[k] for k, p in params.items()}
    return loss(params, query_x, query_y)


def by_torchopt(params, episode, steps, rate):
    """The same with TorchOpt's functional optimiser, as its tutorials have it."""
    x, y, query_x, query_y = episode
    names, values = list(params), tuple(params.values())
    optimizer = torchopt.sgd(lr=rate)
    state = optimizer.init(values)
    for _ in range(steps):
        value = loss(dict(zip(names, values, strict=True)), x, y)
        grads = torch.autograd.grad(value, values, create_graph=True)
        updates, state = optimizer.update(grads, state, params=values, inplace=False)
        values = torchopt.apply_updates(values, updates, inplace=False)
    return loss(dict(zip(names, values, strict=True)), query_x, query_y)


def batched(params, data, steps, rate):
    losses = vmap(lambda *episode: by_func(params, episode, steps, rate))(*data)
    losses.mean().backward()


def one_by_one(method):
    def descend(params, data, steps, rate):
        tasks = len(data[0])
        for i in range(tasks):
            (method(params, [part[i] for part in data], steps, rate) / tasks).backward()

    return descend


def images(descend):
    def case(arrays):
        torch.set_num_threads(CORES)
        data = episodes(arrays)
        steps, rate = int(arrays["steps"]), float(arrays["inner_rate"])
        start = {k: to_torch(k, v) for k, v in arrays.items() if "." in k}

        def run():
            params = {k: v.clone().requires_grad_() for k, v in start.items()}
            adam = torch.optim.Adam(params.values(), lr=float(arrays["meta_rate"]))
            descend(params, data, steps, rate)
            adam.step()
            wait()
            return {k: to_jax(k, v.grad) for k, v in params.items()}

        return run

    return case


CASES = {
    "sinusoid": sinusoid,
    "torch_func": images(batched),
    "torch_loop": images(one_by_one(by_func)),
    "torchopt": images(one_by_one(by_torchopt)),
}

if __name__ == "__main__":
    serve(CASES, "cpu" if DEVICE == "cpu" else "gpu")
