"""How well BERT guesses masked words and next sentences of held-out text."""

import math
from collections import Counter

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_lineage.data.collators import PackingCollator
from hf_lineage.data.packing import IGNORED
from hf_lineage.metrics.perplexity import exponential


@torch.no_grad()
def measure_bert_pretraining(
    model: PreTrainedModel, data: Dataset, *, batch_size: int = 32, show_progress: bool = True
) -> dict[str, float]:
    """Scores a BERTForPreTraining on every example of `data` (`SentencePairs`), packed `batch_size` at a time.

    Returns
    - sums over the examples: word_nll and sentence_nll in nats, words_right, sentences_right, num_words,
      num_sentences and num_random, the number of pairs with a random second sentence;
    - derived from them: masked_word_loss, masked_word_perplexity, masked_word_accuracy, next_sentence_loss and
      next_sentence_accuracy;
    - baselines: masked_word_majority and next_sentence_majority, the accuracy of always giving the most frequent
      answer, and masked_word_frequency_perplexity, the perplexity of the masked words under their own frequencies,
      which is the best guess without context.
    """
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
    frequency_nll = -sum(count * math.log(count / num_words) for count in masked.values())
    return {
        "word_nll": word_nll,
        "words_right": int(words_right),
        "num_words": int(num_words),
        "sentence_nll": sentence_nll,
        "sentences_right": int(sentences_right),
        "num_sentences": int(num_sentences),
        "num_random": num_random,
        "masked_word_loss": word_nll / num_words,
        "masked_word_perplexity": exponential(word_nll / num_words),
        "masked_word_accuracy": words_right / num_words,
        "masked_word_majority": max(masked.values()) / num_words,
        "masked_word_frequency_perplexity": exponential(frequency_nll / num_words),
        "next_sentence_loss": sentence_nll / num_sentences,
        "next_sentence_accuracy": sentences_right / num_sentences,
        "next_sentence_majority": max(num_random, num_sentences - num_random) / num_sentences,
    }
