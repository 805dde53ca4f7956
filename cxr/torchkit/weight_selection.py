"""Which of a training's weights are kept: of the best watched epoch, or the mean over the best few."""

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


class TopCheckpoints:
    """The weights of the `count` best epochs so far; the first of two equals stays."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epochs: list[dict] = []
        """epoch, score, weights; best first"""

    def add(self, epoch: int, score: float, model: nn.Module) -> None:
        """Keep the model's weights where they are among the best; on the CPU, as those of a checkpoint are.

        epoch: from 0.
        score: validation score, higher is better.
        model: whose weights are copied.
        """
        if len(self.epochs) == self.count and not score > self.epochs[-1]["score"]:
            return
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        self.epochs.append({"epoch": epoch, "score": score, "weights": weights})
        self.epochs = sorted(self.epochs, key=lambda entry: -entry["score"])[: self.count]

    @property
    def mean_weights(self) -> Weights | None:
        """The mean of the kept weights, batch norm's statistics among them; None where none are kept."""
        if not self.epochs:
            return None
        best_weights, *other_weights = [weights["weights"] for weights in self.epochs]
        return {
            name: _mean_tensor(value, [weights[name] for weights in other_weights])
            for name, value in best_weights.items()
        }


def _mean_tensor(best: torch.Tensor, other_tensors: list[torch.Tensor]) -> torch.Tensor:
    if not other_tensors or not best.is_floating_point():
        return best
    return torch.stack([best, *other_tensors]).mean(0)
