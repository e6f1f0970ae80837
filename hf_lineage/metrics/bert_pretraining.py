"""How well BERT guesses masked words and next sentences of held-out text."""

import math
from collections import Counter
from dataclasses import asdict, dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_lineage.data.collators import PackingCollator
from hf_lineage.data.packing import IGNORED
from hf_lineage.metrics.perplexity import exponential


@dataclass(frozen=True)
class BERTPretraining:
    """Sums over the examples: negative log-likelihoods in nats, right answers, and the counts to divide them by.

    frequency_nll: of the masked words under their own frequencies, the best guess without context;
    num_most_frequent: how often the most frequent masked word was masked.
    """

    word_nll: float
    words_right: int
    num_words: int
    sentence_nll: float
    sentences_right: int
    num_sentences: int
    num_random: int
    frequency_nll: float
    num_most_frequent: int

    @property
    def word_loss(self) -> float:
        return self.word_nll / self.num_words

    @property
    def word_accuracy(self) -> float:
        return self.words_right / self.num_words

    @property
    def sentence_loss(self) -> float:
        return self.sentence_nll / self.num_sentences

    @property
    def sentence_accuracy(self) -> float:
        return self.sentences_right / self.num_sentences

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always giving the more frequent answer; short documents have more random pairs than others."""
        return max(self.num_random, self.num_sentences - self.num_random) / self.num_sentences

    def as_dict(self) -> dict[str, float]:
        """Counts and derived numbers, ready for JSON."""
        return asdict(self) | {
            "masked_word_loss": self.word_loss,
            "masked_word_perplexity": exponential(self.word_loss),
            "masked_word_accuracy": self.word_accuracy,
            "masked_word_majority": self.num_most_frequent / self.num_words,
            "masked_word_frequency_perplexity": exponential(self.frequency_nll / self.num_words),
            "next_sentence_loss": self.sentence_loss,
            "next_sentence_accuracy": self.sentence_accuracy,
            "next_sentence_majority": self.majority_accuracy,
        }


@torch.no_grad()
def measure_bert_pretraining(
    model: PreTrainedModel, data: Dataset, *, batch_size: int = 32, show_progress: bool = True
) -> BERTPretraining:
    """Scores a BERTForPreTraining on every example of `data` (`SentencePairs`), packed `batch_size` at a time."""
    was_training = model.training
    model.eval()
    sums, num_random, masked = torch.zeros(6, dtype=torch.float64), 0, Counter()
    for batch in tqdm(
        DataLoader(data, batch_size, collate_fn=PackingCollator()), desc="BERT", disable=not show_progress
    ):
        batch = {name: value.to(model.device) for name, value in batch.items()}
        outputs = model(**batch)
        words, sentences = batch["labels"][batch["labels"] != IGNORED], batch["next_sentence_label"]
        num_random += int(sentences.sum())
        masked.update(words.tolist())
        scores = ((outputs.prediction_logits, words), (outputs.seq_relationship_logits, sentences))
        for place, (logits, labels) in enumerate(scores):
            nll = cross_entropy(logits.float(), labels, reduction="sum")
            right = (logits.argmax(1) == labels).sum()
            found = torch.stack([nll.double(), right.double(), nll.new_tensor(len(labels)).double()])
            sums[3 * place : 3 * place + 3] += found.cpu()
    model.train(was_training)
    word_nll, words_right, num_words, sentence_nll, sentences_right, num_sentences = sums.tolist()
    return BERTPretraining(
        word_nll,
        int(words_right),
        int(num_words),
        sentence_nll,
        int(sentences_right),
        int(num_sentences),
        num_random,
        frequency_nll=-sum(count * math.log(count / num_words) for count in masked.values()),
        num_most_frequent=max(masked.values(), default=0),
    )
