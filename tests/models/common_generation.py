"""What must hold for every causal language model: its test table inherits `CausalLMTests`."""

import copy

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from tests.models.common import ModelTests


HEAD = "AutoModelForCausalLM"
WAYS = {
    "greedy": {"do_sample": False},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 0},
    "beam sampling": {"do_sample": True, "num_beams": 2, "top_k": 0},
}


class CausalLMTests(ModelTests):
    """`ModelTests`, the cache, and generation."""

    no_cache = None
    no_tying = None

    def prompts(self, side: str = "left", lengths=(7, 5, 2, 1)) -> dict[str, torch.Tensor]:
        return self.padded(self.inputs(HEAD), list(lengths), side)[0]

    def generate(self, model, inputs: dict, **options) -> torch.Tensor:
        transformers.set_seed(7)
        return model.generate(**inputs, **{"max_new_tokens": 8, **options})

    # the loss

    def test_loss_predicts_the_next_token(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        labels = inputs["input_ids"].masked_fill(torch.rand(4, 7) < 0.3, -100)
        outputs = model(**inputs, labels=labels)
        expected = cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(outputs.loss, expected)

        ahead = torch.cat([labels[:, 1:], labels[:, :1]], dim=1)
        loss = model(**inputs, labels=labels, shift_labels=ahead).loss
        torch.testing.assert_close(loss, cross_entropy(outputs.logits.flatten(0, 1), ahead.flatten()))

    def test_logits_to_keep(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        logits = model(**inputs).logits
        for kept, expected in ((1, logits[:, -1:]), (3, logits[:, -3:]), (torch.tensor([0, 4]), logits[:, [0, 4]])):
            torch.testing.assert_close(model(**inputs, logits_to_keep=kept).logits, expected)

    def test_logits_do_not_see_the_future(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        vectors = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        for t in range(7):
            (gradient,) = torch.autograd.grad(model(inputs_embeds=vectors).logits[:, t].sum(), vectors)
            assert gradient[:, t + 1 :].abs().sum() == 0
            assert (gradient[:, : t + 1].abs().sum((0, 2)) > 0).all()

    # the cache

    @ModelTests.unless("no_cache")
    @pytest.mark.parametrize("chunks", [[1] * 7, [3, 1, 3], [7]])
    def test_cache_is_the_past(self, side, chunks):
        for seed in range(3):
            model, inputs = self.model(HEAD, seed), self.prompts(side)
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            expected = model(**inputs).logits
            for cache in (None, DynamicCache(config=model.config)):
                logits, seen = [], 0
                for length in chunks:
                    chunk = slice(seen, seen + length)
                    outputs = model(ids[:, chunk], mask[:, : seen + length], past_key_values=cache, use_cache=True)
                    cache, seen = outputs.past_key_values, seen + length
                    logits.append(outputs.logits)
                    assert cache.get_seq_length() == seen
                tokens = mask.bool()
                torch.testing.assert_close(torch.cat(logits, 1)[tokens], expected[tokens], rtol=1e-5, atol=1e-5)
