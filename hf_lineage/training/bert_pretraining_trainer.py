"""BERT's pre-training, in which two kinds of labels are averaged: masked words, and pairs of sentences."""

from hf_lineage.training.trainer import LineageTrainer


class BERTPretrainingTrainer(LineageTrainer):
    """Tells the model how many pairs an update has, over all of its batches and processes.

    Trainer counts the masked words alone. With both numbers, 1 process x batch 8, 2 x 4 and 4 accumulated batches of 2
    train the same model.
    """

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.num_pairs = self.over_processes(sum(batch["next_sentence_label"].numel() for batch in batches), device)
        return batches, num_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if num_items_in_batch is not None:
            inputs = {**inputs, "num_pairs_in_batch": self.num_pairs}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
