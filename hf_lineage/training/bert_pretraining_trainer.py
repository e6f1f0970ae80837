"""BERT's pre-training, which averages over two kinds of labels: masked words and pairs of sentences."""

import torch
from torch.nn.functional import cross_entropy

from hf_lineage.data.packing import IGNORED
from hf_lineage.training.trainer import LineageTrainer, number_scored


class BERTPretrainingTrainer(LineageTrainer):
    """Tells the model how many pairs an update has, over all its batches and processes.

    Trainer counts only the masked words. With both numbers, 1 process x batch 8, 2 x 4 and 4 accumulated batches of 2
    train the same model. The evaluation loss is the mean over all masked words plus the mean over all pairs.
    """

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.num_pairs = self.over_processes(sum(batch["next_sentence_label"].numel() for batch in batches), device)
        return batches, num_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if model.training and num_items_in_batch is not None:
            inputs = {**inputs, "num_pairs_in_batch": self.num_pairs}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def loss_parts(self, loss, outputs, inputs):
        pairs = inputs["next_sentence_label"].flatten()
        of_pairs = cross_entropy(outputs.seq_relationship_logits.float(), pairs).double()
        words = number_scored(self.model, inputs).double().to(loss.device)
        number = pairs.ne(IGNORED).sum().to(words)
        return torch.stack(
            [torch.stack([(loss.double() - of_pairs) * words, words]), torch.stack([of_pairs * number, number])]
        )
