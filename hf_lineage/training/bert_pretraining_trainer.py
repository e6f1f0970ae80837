"""BERT's pre-training, which averages over two kinds of labels: masked words and pairs of sentences."""

import torch
from torch.nn.functional import cross_entropy

from hf_lineage.data.packing import IGNORED
from hf_lineage.training.trainer import LineageTrainer, number_scored


class BERTPretrainingTrainer(LineageTrainer):
    """LineageTrainer whose evaluation loss is the mean over all masked words plus the mean over all pairs."""

    def loss_parts(self, loss, outputs, inputs):
        pairs = inputs["next_sentence_label"].flatten()
        of_pairs = cross_entropy(outputs.seq_relationship_logits.float(), pairs).double()
        words = number_scored(self.model, inputs).double().to(loss.device)
        number = pairs.ne(IGNORED).sum().to(words)
        return torch.stack(
            [torch.stack([(loss.double() - of_pairs) * words, words]), torch.stack([of_pairs * number, number])]
        )
