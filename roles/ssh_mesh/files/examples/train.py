# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Train a small network with DeepSpeed on all ranks, and prove that they really trained together.

    mesh-run /opt/gpustead/examples/train.py --steps 40

Every rank has data of its own. At the end all ranks must hold the same parameters, to the bit, and these must not
be the ones that a rank gets by itself. Runs on GPUs (NCCL) and without (gloo), downloads nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
from datetime import timedelta

import deepspeed
import torch
from deepspeed import comm as dist
from deepspeed.accelerator import get_accelerator


def say(text: str) -> None:
    """One write for a line, so that the lines of several ranks do not mix."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def network() -> torch.nn.Module:
    torch.manual_seed(1)  # the same start on every rank
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))


def batches(rank: int, steps: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(1000 + rank)
    inputs = [torch.randn(size, 16, generator=random) for _turn in range(steps)]
    weights = torch.linspace(-1, 1, 16).unsqueeze(1)
    return [(x, torch.tanh(x @ weights / 2)) for x in inputs]


def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)  # torch's own: no operator to compile


def alone(data: list[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> torch.nn.Module:
    """The same steps on this rank's data, without the others."""
    model = network().to(device)
    adam = optimizer(model)
    for x, y in data:
        adam.zero_grad()
        torch.nn.functional.mse_loss(model(x.to(device)), y.to(device)).backward()
        adam.step()
    return model


def checksum(tensors: list[torch.Tensor]) -> int:
    """60 bits of a digest over the exact values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return int(digest.hexdigest()[:15], 16)


def from_all(value: float, kind: torch.dtype, device: torch.device) -> list[float]:
    mine = torch.tensor([value], dtype=kind, device=device)
    everyone = [torch.zeros_like(mine) for _turn in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return [tensor.item() for tensor in everyone]


def require(truth: bool, message: str) -> None:
    if not truth:
        raise SystemExit(f"FAILED rank={dist.get_rank()} host={socket.gethostname()}: {message}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--zero-stage", type=int, default=1, choices=(0, 1))
    options, _second = parser.parse_known_args()  # DeepSpeed's launcher adds --local_rank

    torch.set_num_threads(1)
    deepspeed.init_distributed(timeout=timedelta(minutes=3))
    rank, world_size = dist.get_rank(), dist.get_world_size()
    accelerator = get_accelerator()
    device = torch.device(accelerator.device_name(int(os.environ.get("LOCAL_RANK", "0"))))

    data = batches(rank, options.steps, options.batch_size)
    own = checksum([x for x, _second in data])
    say(f"rank={rank} world_size={world_size} host={socket.gethostname()} device={device} data={own:015x}")
    require(len(set(from_all(own, torch.int64, device))) == world_size, "two ranks have the same data")

    model = network()
    engine, *_rest = deepspeed.initialize(
        model=model,
        optimizer=optimizer(model),
        config={
            "train_micro_batch_size_per_gpu": options.batch_size,
            "zero_optimization": {"stage": options.zero_stage},
            "steps_per_print": 10**9,
        },
    )
    losses = []
    for step, (x, y) in enumerate(data):
        loss = torch.nn.functional.mse_loss(engine(x.to(device)), y.to(device))
        engine.backward(loss)
        engine.step()
        everyone = from_all(loss.item(), torch.float32, device)
        losses.append(sum(everyone) / world_size)
        if rank == 0 and (step % 10 == 0 or step == len(data) - 1):
            say(f"step={step} loss={losses[-1]:.4f}")

    together = checksum(list(engine.module.parameters()))
    without = checksum(list(alone(data, device).parameters()))
    say(f"rank={rank} world_size={world_size} parameters={together:015x} alone={without:015x}")
    require(len(set(from_all(together, torch.int64, device))) == 1, "the ranks ended with different parameters")
    require(world_size == 1 or together != without, "the parameters are those of a run without reduction")
    require(losses[-1] < 0.5 * losses[0], f"the loss did not fall: {losses[0]:.4f} to {losses[-1]:.4f}")
    dist.barrier()
    if rank == 0:
        say(
            f"OK world_size={world_size} steps={len(losses)} loss={losses[0]:.4f}->{losses[-1]:.4f} "
            f"parameters={together:015x}"
        )


if __name__ == "__main__":
    main()
