"""SGD that averages the weights once validation stalls (NT-ASGD; Merity et al., 2017, algorithm 1)."""

from torch import nn

from hf_lineage.training.weight_averages import WeightAverage


class NonMonotonicAverage(WeightAverage):
    """Averages the weights once an evaluation is worse than the best one more than `patience` evaluations earlier.

    Without such a stall there is no mean, and nothing changes.

    Raises:
        ValueError: `patience` is below 1.
    """

    def __init__(self, model: nn.Module, patience: int):
        if patience < 1:
            raise ValueError(f"patience is {patience}; it must be at least 1 evaluation")
        super().__init__(model, f"average_after is {patience}")
        self.patience = patience
        self.losses = []

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        loss = metrics["eval_loss"]
        earlier = self.losses[: -self.patience]
        self.losses.append(loss)
        # with n = patience: t > n and v_t > min(v_0, …, v_{t − n − 1})
        if self.mean is None and earlier and loss > min(earlier):
            self.mean = {}

    def update(self):
        if self.mean is None:
            return
        self.num_averaged += 1
        self.move(1 / self.num_averaged)

    def facts(self):
        return super().facts() | {"losses": " ".join(map(repr, self.losses))}

    def take(self, facts):
        super().take(facts)
        self.losses = [float(loss) for loss in facts["losses"].split()]
