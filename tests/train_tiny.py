"""Train a tiny model in a process of its own: OUT STEPS [ARCHITECTURE]; prints the sha256 of its weights."""

import sys

import torch
from places import know_plain, make_config, make_place

from mapper.training.curves import Row
from mapper.training.trainer import train

torch.set_num_threads(1)


def train_tiny(out, steps, **changes):
    config = make_config(
        out,
        steps=int(steps),
        model={"architecture": changes.pop("architecture", "plain"), "options": changes.pop("options", {})},
        loss=changes.pop("loss", "nll"),
        augment={"guide_jitter": 0.1, "source_noise": 0.5, "date_dropout": 0.3},
        **({"validate_every": 10, "checkpoint_every": 5} | changes),
    )
    places = [make_place(seed, edge=6, dates=2) for seed in (0, 1)]
    with know_plain():
        return train(config, samples=places, validation=[make_place(2, edge=6, dates=2)], watch=show)


def show(row: Row) -> None:
    sys.stdout.write(f"step {row.step}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    changes = {"architecture": sys.argv[3], "loss": "mse", "options": {"width": 4}} if sys.argv[3:] else {}
    sys.stdout.write(f"{train_tiny(*sys.argv[1:3], **changes).sha256}\n")
