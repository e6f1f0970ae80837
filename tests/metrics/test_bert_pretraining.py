"""Scores of BERT's two objectives against transformers' padded BERT, example by example."""

import math

import datasets
import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn.functional import cross_entropy
from transformers import BertForPreTraining

from hf_lineage import BERTConfig
from hf_lineage import BERTForPreTraining as Ours
from hf_lineage.data import SentencePairs, encode_sentences
from hf_lineage.metrics import measure_bert_pretraining
from tests.models.test_modeling_bert import TestBERT as BERT


def test_scores_are_those_of_transformers_model(tiny_corpus, tiny_tokenizer, tmp_path):
    corpus = datasets.Dataset.from_dict({"text": ["\n".join(tiny_corpus[i : i + 5]) for i in range(0, 60, 5)]})
    data = SentencePairs(encode_sentences(corpus, tiny_tokenizer), tiny_tokenizer, 30, duplicates=2, shuffle=False)
    Ours(BERTConfig(**{**BERT.tiny, "vocab_size": len(tiny_tokenizer)})).save_pretrained(tmp_path)
    ours, theirs = Ours.from_pretrained(tmp_path).train(), BertForPreTraining.from_pretrained(tmp_path).eval()
    found = measure_bert_pretraining(ours, data, batch_size=7, show_progress=False)
    assert ours.training

    nll, right, words, next_nll, next_right, random, masked = 0.0, 0, 0, 0.0, 0, 0, []
    for index in range(len(data)):
        example = data[index]
        labels, is_random = example.pop("labels"), example.pop("next_sentence_label")
        with torch.no_grad():
            outputs = theirs(**{name: value[None] for name, value in example.items()})
        chosen = labels != -100
        logits = outputs.prediction_logits[0, chosen]
        nll += cross_entropy(logits, labels[chosen], reduction="sum").item()
        right += (logits.argmax(1) == labels[chosen]).sum().item()
        words += chosen.sum().item()
        masked += labels[chosen].tolist()
        next_nll += cross_entropy(outputs.seq_relationship_logits, torch.tensor([is_random])).item()
        next_right += outputs.seq_relationship_logits.argmax().item() == is_random
        random += is_random
    assert found["num_words"] == words
    assert found["num_sentences"] == len(data)
    assert found["masked_word_loss"] == pytest.approx(nll / words, rel=1e-5)
    assert found["masked_word_accuracy"] == right / words
    assert found["next_sentence_loss"] == pytest.approx(next_nll / len(data), rel=1e-5)
    assert found["next_sentence_accuracy"] == next_right / len(data)
    # scipy's entropy of the masked words' distribution
    counts = np.unique(masked, return_counts=True)[1]
    assert math.log(found["masked_word_frequency_perplexity"]) == pytest.approx(entropy(counts))
    assert found["masked_word_majority"] == counts.max() / words
    assert found["next_sentence_majority"] == max(random, len(data) - random) / len(data)
