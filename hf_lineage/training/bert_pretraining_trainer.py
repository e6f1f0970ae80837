"""The name under which BERT's pre-training had a trainer of its own."""

from hf_lineage.training.trainer import LineageTrainer


class BERTPretrainingTrainer(LineageTrainer):
    """LineageTrainer, whose evaluation loss is the mean over all masked words plus the mean over all pairs."""
