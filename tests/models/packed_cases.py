"""Small models of all stations that read packed texts, and a packed batch for each."""

import torch

from hf_lineage import (
    BERTConfig,
    BERTForPreTraining,
    GPTConfig,
    GPTForCausalLM,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.data import PackingCollator, TranslationPackingCollator


HEADS, SIZE = 2, 8
# GPT reads texts in one row, and documents that restarting positions mark in several
PACKED = ["BERT", "GPT", "GPT documents", "Transformer"]


def packed_case(name: str):
    """A model without dropout, and a batch for it."""
    torch.manual_seed(0)
    shape = {"vocab_size": 30, "hidden_size": HEADS * SIZE, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    shape |= {"intermediate_size": 24, "dropout": 0.0, "attention_dropout": 0.0}
    texts = [torch.randint(3, 30, (n,)) for n in (4, 1, 6)]
    if name == "BERT":
        examples = [{"input_ids": ids, "labels": ids, "next_sentence_label": 1} for ids in texts]
        return BERTForPreTraining(BERTConfig(**shape)), PackingCollator()(examples)
    if name == "Transformer":
        pairs = [
            {"input_ids": ids, "labels": torch.randint(3, 30, (n,))} for ids, n in zip(texts, (5, 2, 3), strict=True)
        ]
        model = TransformerForConditionalGeneration(TransformerConfig(**shape, decoder_layers=1))
        return model, TranslationPackingCollator()(pairs)
    model = GPTForCausalLM(GPTConfig(**shape, embedding_dropout=0.0))
    if name == "GPT":
        return model, PackingCollator()([{"input_ids": ids, "labels": ids} for ids in texts])
    ids = torch.randint(3, 30, (2, 7))
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 0, 1, 2, 3, 4, 0]])
    return model, {"input_ids": ids, "labels": ids, "position_ids": positions, "use_cache": False}


def loss_and_gradients(model, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of a training step."""
    model.zero_grad()
    loss = model.train()(**batch).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
