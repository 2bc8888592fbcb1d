"""Implicit hypergradients with TorchOpt; the arrays and cases are those of ``implicit_jax.py``."""

import os

import torch
import torch.nn.functional as F
import torchopt
from serve import serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def data_loss(kind, w, x, y):
    if kind == "ridge":
        return ((x @ w - y) ** 2).mean() / 2
    return F.softplus(-y * (x @ w)).mean()


def inner_loss(kind, w, log_l2, x, y):
    return data_loss(kind, w, x, y) + (log_l2.exp() * w**2).sum() / 2


def case(kind):
    def start(arrays):
        torch.set_num_threads(CORES)
        t = {key: torch.as_tensor(value).to(DEVICE) for key, value in arrays.items()}
        log_l2 = t["log_l2"].requires_grad_()
        support = t["support_x"], t["support_y"]
        slope = torch.func.grad(lambda w, l2, x, y: inner_loss(kind, w, l2, x, y))
        linear = torchopt.linear_solve.solve_cg(rtol=float(t["tolerance"]))

        @torchopt.diff.implicit.custom_root(slope, argnums=1, solve=linear)
        def train(w, log_l2, x, y):
            with torch.no_grad():
                for _ in range(int(t["steps"])):
                    w = w - t["rate"] * slope(w, log_l2, x, y)
            return w.requires_grad_()

        def run():
            w = train(torch.zeros_like(log_l2), log_l2, *support)
            loss = data_loss(kind, w, t["query_x"], t["query_y"])
            (grad,) = torch.autograd.grad(loss, [log_l2])
            return {"log_l2": grad.cpu().numpy()}

        return run

    return start


if __name__ == "__main__":
    cases = {f"torchopt_gd_{kind}": case(kind) for kind in ("ridge", "logistic")}
    serve(cases, "cpu" if DEVICE == "cpu" else "gpu")
