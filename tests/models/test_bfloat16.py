"""Under bfloat16 autocast every station's gradient is near that in float32."""

import pytest
import torch

import hf_lineage


WORDS = 200
SHAPE = {"vocab_size": WORDS, "hidden_size": 96}
BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}
ELMO = {"vocab_size": WORDS, "token_layer": "words", "hidden_size": 96, "projection_size": 48}
# station, head, fields of the configuration; a rounding that turns a ReLU on, or makes another one of a maxout's pair
# the larger, moves a whole gradient: GELU in place of the Transformer's ReLU stays below 0.01
CASES = [
    ("NNLM", "CausalLM", SHAPE | {"embedding_size": 48}, 0.01),
    ("RNN", "CausalLM", SHAPE, 0.01),
    ("LSTM", "CausalLM", SHAPE, 0.01),
    ("LSTM", "CausalLM", SHAPE | {"peephole": "diagonal"}, 0.01),
    ("GRU", "CausalLM", SHAPE, 0.01),
    ("GRU", "CausalLM", SHAPE | {"reset_mode": "before"}, 0.01),
    ("Seq2Seq", "ConditionalGeneration", SHAPE, 0.01),
    ("RNNSearch", "ConditionalGeneration", SHAPE, 0.05),
    ("Luong", "ConditionalGeneration", SHAPE, 0.01),
    ("Transformer", "ConditionalGeneration", SHAPE | BLOCKS | {"decoder_layers": 2}, 0.05),
    ("Transformer", "ConditionalGeneration", SHAPE | BLOCKS | {"decoder_layers": 2, "hidden_act": "gelu"}, 0.01),
    ("ELMo", "PreTraining", ELMO | {"output_layer": "softmax"}, 0.01),
    ("GPT", "CausalLM", SHAPE | BLOCKS, 0.01),
    ("BERT", "PreTraining", SHAPE | BLOCKS, 0.01),
]
GPU = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded left"])
@pytest.mark.parametrize(
    ("station", "head", "fields", "limit"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_gradient_in_bfloat16(station, head, fields, limit, padded, device):
    torch.manual_seed(0)
    config = getattr(hf_lineage, f"{station}Config")(**fields)
    model = getattr(hf_lineage, f"{station}For{head}")(config).train().to(device)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    ids, targets = (torch.randint(3, WORDS, (16, 12)) for _ in "12")
    batch = {"input_ids": ids, "labels": targets if config.is_encoder_decoder else ids}
    if station == "BERT":
        batch["next_sentence_label"] = torch.arange(16) % 2
    if padded:
        # rows of 1 to 12 tokens behind their padding
        mask = (torch.arange(12) >= torch.arange(16)[:, None] * 11 // 15).long()
        batch["attention_mask"] = mask
        if not config.is_encoder_decoder:
            batch["labels"] = ids.masked_fill(mask == 0, -100)
    batch = {name: value.to(device) for name, value in batch.items()}
    found = []
    for is_low in (False, True):
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=is_low):
            loss = model(**batch).loss
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (found[1] - found[0]).norm() < limit * found[0].norm()
