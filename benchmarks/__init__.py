"""Speed and memory beside named baselines; ``python -m benchmarks.all --out FILE`` runs all."""
