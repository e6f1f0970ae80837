"""What must hold for every causal language model: its test table inherits `CausalLMTests`."""

import copy

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of
from tests.models.common import ModelTests, gradients, unless


HEAD = "AutoModelForCausalLM"
# not 0, in whose place beam search fills up with an end mark
PAD = 1
WAYS = {
    "greedy": {"do_sample": False},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 0},
    "sampled beams": {"do_sample": True, "num_beams": 2, "top_k": 0},
}


class CausalLMTests(ModelTests):
    """`ModelTests`, and the loss, the cache and generation."""

    no_cache = None
    no_tying = None

    def prompts(self, side: str = "left") -> dict[str, torch.Tensor]:
        return self.padded(self.inputs(HEAD), [7, 5, 2, 1], side)[0]

    def generate(self, model, inputs: dict, **options):
        """Eight tokens or up to one of several end marks, with the same random numbers in every call."""
        transformers.set_seed(7)
        options = {
            "max_new_tokens": 8,
            "do_sample": False,
            "pad_token_id": PAD,
            "eos_token_id": [50, 51, 52],
            **options,
        }
        return model.generate(**inputs, **options)

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

    @unless("no_inputs_embeds")
    def test_logits_see_the_past_and_not_the_future(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        vectors = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        for t in range(7):
            logits = model(inputs_embeds=vectors).logits[:, t]
            weights = torch.linspace(-1, 1, logits.shape[1])
            (gradient,) = torch.autograd.grad((logits * weights).sum(), vectors)
            assert gradient[:, t + 1 :].abs().sum() == 0
            assert (gradient[:, : t + 1].abs().sum(2) > 0).all()

    # the vocabulary

    @unless("no_tying")
    @pytest.mark.parametrize("tied", [True, False])
    def test_resizing_keeps_the_tie(self, tied):
        model, inputs = self.model(HEAD, tie_word_embeddings=tied), self.inputs(HEAD)
        expected = model(**inputs).logits
        for size in (67, 63):
            model.resize_token_embeddings(size)
            embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
            assert (head.weight is embeddings.weight) is tied
            assert head.out_features == embeddings.num_embeddings == model.config.vocab_size == size
            assert head.bias is None or head.bias.shape == (size,)
        logits = model(**inputs).logits
        assert logits.shape == (4, 7, 63)
        torch.testing.assert_close(logits[..., :60], expected)

    @unless("no_tying")
    def test_tied_weights_are_saved_once(self, tmp_path):
        model = self.changed_model(HEAD, tie_word_embeddings=True)
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
        untied = self.model(HEAD, tie_word_embeddings=False)
        assert untied.num_parameters() == loaded.num_parameters() + loaded.lm_head.weight.numel()

    # the cache

    @unless("no_cache")
    @pytest.mark.parametrize("chunks", [[1] * 7, [3, 1, 3], [7]], ids=str)
    def test_cache_is_the_past(self, side, chunks):
        for seed in range(3):
            model, inputs = self.model(HEAD, seed), self.prompts(side)
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            for masked in (True, False):
                expected = model(ids, mask if masked else None).logits
                logits, seen, cache = [], 0, DynamicCache(config=model.config) if masked else None
                for length in chunks:
                    chunk, seen = slice(seen, seen + length), seen + length
                    outputs = model(ids[:, chunk], mask[:, :seen] if masked else None, cache=cache, use_cache=True)
                    cache = cache_of(outputs)
                    assert cache.get_seq_length() == seen
                    logits.append(outputs.logits)
                read = mask.bool() if masked else torch.ones(4, 7, dtype=torch.bool)
                torch.testing.assert_close(torch.cat(logits, 1)[read], expected[read], rtol=1e-5, atol=1e-5)

    @unless("no_cache")
    def test_no_cache_unless_asked(self):
        inputs = self.inputs(HEAD)
        model = self.model(HEAD, use_cache=False)
        assert cache_of(model(**inputs)) is None
        assert cache_of(model(**inputs, use_cache=True)).get_seq_length() == 7

    @unless("no_cache")
    @unless("no_gradient_checkpointing")
    def test_cache_gives_way_to_gradient_checkpointing(self):
        model, inputs = self.model(HEAD).train(), self.inputs(HEAD)
        results = []
        for checkpointing in (False, True):
            if checkpointing:
                model.activation_checkpointing_enable()
            model.zero_grad()
            model(**inputs, labels=inputs["input_ids"], use_cache=True).loss.backward()
            results.append(gradients(model))
        torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)

    # generation

    @unless("no_cache")
    @pytest.mark.parametrize("way", WAYS)
    def test_generation_is_the_same_without_cache(self, way):
        found = set()
        for seed in range(10):
            model, prompts = self.model(HEAD, seed), self.prompts()
            cached, uncached = (self.generate(model, prompts, use_cache=use, **WAYS[way]) for use in (True, False))
            assert torch.equal(cached, uncached)
            found.update(cached[:, 7:].flatten().tolist())
        # models that repeat themselves would prove nothing
        assert len(found) > 10

    @unless("no_cache")
    @pytest.mark.parametrize("way", ["greedy", "beams"])
    def test_generation_takes_a_given_cache_and_prefills_in_chunks(self, way):
        for seed in range(3):
            model, prompts = self.model(HEAD, seed), self.prompts()
            expected = self.generate(model, prompts, use_cache=False, **WAYS[way])
            given = self.generate(model, prompts, **{CACHE_FIELD: DynamicCache(config=model.config)}, **WAYS[way])
            assert torch.equal(given, expected)
            assert torch.equal(self.generate(model, prompts, prefill_chunk_size=3, **WAYS[way]), expected)

    @pytest.mark.parametrize("way", ["greedy", "beams"])
    def test_generation_does_not_see_padding(self, way):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        prompts, kept = self.padded(inputs, [7, 5, 2, 1], "left")
        together = self.generate(model, prompts, **WAYS[way])[:, 7:]
        answers = WAYS[way].get("num_return_sequences", 1)
        for row, positions in enumerate(kept):
            prompt = self.alone(inputs, row, positions)
            # given, since generate() takes tokens equal to pad_token_id for padding
            mask = torch.ones_like(prompt["input_ids"])
            alone = self.generate(model, {**prompt, "attention_mask": mask}, **WAYS[way])[:, len(positions) :]
            batch = together[row * answers : (row + 1) * answers]
            assert torch.equal(batch[:, : alone.shape[1]], alone)
            assert (batch[:, alone.shape[1] :] == PAD).all()

    @unless("no_cache")
    def test_generation_continues_from_a_returned_cache(self):
        for seed in range(3):
            model, prompts = self.model(HEAD, seed), self.prompts()
            options = {"eos_token_id": None}
            expected = self.generate(model, prompts, use_cache=False, max_new_tokens=8, **options)
            first = self.generate(model, prompts, max_new_tokens=3, return_dict_in_generate=True, **options)
            mask = torch.cat([prompts["attention_mask"], torch.ones(4, 3, dtype=torch.long)], dim=1)
            continued = {"input_ids": first.sequences, "attention_mask": mask}
            cache = cache_of(first)
            assert torch.equal(
                self.generate(model, continued, **{CACHE_FIELD: copy.deepcopy(cache)}, max_new_tokens=5, **options),
                expected,
            )
            # the next turn of a conversation
            asked = {
                "input_ids": torch.cat([first.sequences, torch.arange(8).view(4, 2)], dim=1),
                "attention_mask": torch.cat([mask, torch.ones(4, 2, dtype=torch.long)], dim=1),
            }
            assert torch.equal(
                self.generate(model, asked, **{CACHE_FIELD: cache}, **options),
                self.generate(model, asked, use_cache=False, **options),
            )
