"""Tests that every station inherits: give a configuration class and its tiny sizes, and the rest follows.

A station's table is a class `TestX(ModelTests)`, or `(CausalLMTests, ModelTests)` if it generates text. What does not
apply is switched off by an attribute that says why.
"""

import json
import math

import datasets
import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoConfig, DynamicCache, Trainer, TrainingArguments, default_data_collator


VOCAB_SIZE = 60


def random_ids(batch: int = 3, length: int = 7, seed: int = 0) -> torch.Tensor:
    """Token ids [B, T], never 0, which the tests pad with."""
    return torch.randint(1, VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(seed))


def ragged_mask(batch: int = 3, length: int = 7, side: str = "right") -> torch.Tensor:
    """A mask [B, T] whose rows have length, length − 2, length − 4, ... tokens."""
    mask = torch.ones(batch, length, dtype=torch.long)
    for row in range(1, batch):
        padding = slice(length - 2 * row, None) if side == "right" else slice(0, 2 * row)
        mask[row, padding] = 0
    return mask


def quiet_arguments(folder, **settings) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", **settings
    )


class ModelTests:
    """Tests of every head in `config_class.auto_classes`."""

    config_class = None
    tiny = {}
    has_attention = False
    supports_checkpointing = True

    def pytest_generate_tests(self, metafunc):
        if "head" in metafunc.fixturenames:
            metafunc.parametrize("head", list(self.config_class.auto_classes))

    def config(self, **changes):
        return self.config_class(**({"vocab_size": VOCAB_SIZE} | self.tiny | changes))

    def model(self, head, seed=0, **changes):
        torch.manual_seed(seed)
        return getattr(transformers, head).from_config(self.config(**changes)).eval()

    def labels(self, head, input_ids):
        if "SequenceClassification" in head:
            return torch.arange(len(input_ids)) % 2
        return input_ids % 2 if "TokenClassification" in head else input_ids.clone()

    def output(self, model, *args, **kwargs):
        """The head's own tensor: logits, or the last hidden state."""
        outputs = model(*args, **kwargs)
        return outputs.logits if "logits" in outputs else outputs.last_hidden_state

    def loss(self, model, head, input_ids, **kwargs):
        return model(input_ids, labels=self.labels(head, input_ids), **kwargs).loss

    def token_output(self, model, head, *args, **kwargs):
        """A head's output with one vector a token [B, T, ...], or one a text as [B, 1, ...]."""
        output = self.output(model, *args, **kwargs)
        return output[:, None] if "SequenceClassification" in head else output

    def hidden_size(self, config):
        return config.hidden_size

    # shapes and forms

    def test_output_shapes(self, head):
        model, ids = self.model(head), random_ids()
        config = model.config
        expected = {
            "AutoModel": (3, 7, self.hidden_size(config)),
            "AutoModelForCausalLM": (3, 7, config.vocab_size),
            "AutoModelForSequenceClassification": (3, config.num_labels),
            "AutoModelForTokenClassification": (3, 7, config.num_labels),
        }
        assert self.output(model, ids).shape == expected[head]
        assert self.output(model, ids[:0]).shape == (0, *expected[head][1:])

    def test_tuple_and_dict_outputs_agree(self, head):
        model, ids = self.model(head), random_ids()
        as_tuple, as_dict = model(ids, return_dict=False), model(ids)
        assert isinstance(as_tuple, tuple)
        assert_close(as_tuple[0], next(iter(as_dict.values())))

    def test_hidden_states(self, head):
        model, ids = self.model(head), random_ids()
        states = model(ids, output_hidden_states=True).hidden_states
        assert len(states) == model.config.num_hidden_layers + 1
        assert all(state.shape[:2] == ids.shape for state in states)
        assert_close(states[-1], model.base_model(ids).last_hidden_state)

    def test_inputs_embeds_replace_input_ids(self, head):
        model, ids = self.model(head), random_ids()
        vectors = model.get_input_embeddings()(ids)
        assert_close(self.output(model, inputs_embeds=vectors), self.output(model, ids))

    # padding

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padding_changes_nothing(self, head, side):
        model, ids, mask = self.model(head), random_ids(), ragged_mask(side=side)
        padded = self.token_output(model, head, ids, attention_mask=mask)
        for row in range(len(ids)):
            alone = self.token_output(model, head, ids[row : row + 1, mask[row].bool()])[0]
            tokens = padded[row] if padded.shape[1] == 1 else padded[row, mask[row].bool()]
            assert_close(tokens, alone, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_content_of_padding_is_never_read(self, head, side):
        model, ids, mask = self.model(head), random_ids(), ragged_mask(side=side)
        other = torch.where(mask.bool(), ids, 1 + (ids + 5) % (VOCAB_SIZE - 1))
        first = self.token_output(model, head, ids, attention_mask=mask)
        second = self.token_output(model, head, other, attention_mask=mask)
        if first.shape[1] > 1:
            first, second = first[mask.bool()], second[mask.bool()]
        assert torch.equal(first, second)

    def test_row_of_padding_alone_is_finite(self, head):
        if head == "AutoModel":
            pytest.skip("the base model has no loss")
        model, ids, mask = self.model(head).train(), random_ids(), ragged_mask()
        mask[0] = 0
        loss = self.loss(model, head, ids, attention_mask=mask)
        loss.backward()
        assert loss.isfinite()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

    # saving and loading

    def test_save_and_load_are_exact(self, head, tmp_path):
        model, ids = self.model(head), random_ids()
        model.save_pretrained(tmp_path)
        loaded, info = getattr(transformers, head).from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is type(model)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        before = dict(model.named_parameters()) | dict(model.named_buffers())
        after = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert torch.equal(self.output(model, ids), self.output(loaded.eval(), ids))

    def test_every_head_opens_every_checkpoint(self, head, tmp_path):
        model, ids = self.model(head), random_ids()
        model.save_pretrained(tmp_path)
        expected = model.base_model(ids).last_hidden_state
        for other in self.config_class.auto_classes:
            loaded = getattr(transformers, other).from_pretrained(tmp_path).eval()
            assert torch.equal(loaded.base_model(ids).last_hidden_state, expected), other

    def test_loads_in_another_dtype(self, head, tmp_path):
        self.model(head).save_pretrained(tmp_path)
        loaded = getattr(transformers, head).from_pretrained(tmp_path, dtype=torch.float64)
        stored = load_file(tmp_path / "model.safetensors")
        assert all(parameter.dtype == torch.float64 for parameter in loaded.parameters())
        assert all(torch.equal(dict(loaded.named_parameters())[name], t.double()) for name, t in stored.items())
        assert self.output(loaded.eval(), random_ids()).isfinite().all()

    def test_config_survives_json(self):
        config = self.config()
        again = self.config_class.from_dict(json.loads(config.to_json_string(use_diff=False)))
        assert again.to_dict() == config.to_dict()
        assert type(AutoConfig.for_model(config.model_type, **self.tiny)) is self.config_class

    def test_initialisation_follows_the_seed(self, head):
        first, same, other = self.model(head, seed=1), self.model(head, seed=1), self.model(head, seed=2)
        state = first.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in same.state_dict().items())
        assert any(not torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())

    def check_initial(self, name, parameter, config):
        """Asserts that a fresh parameter is drawn as the station's paper says."""
        raise NotImplementedError

    def test_initialisation_follows_the_config(self, head):
        model = self.model(head, initializer_range=0.05)
        for name, parameter in model.named_parameters():
            self.check_initial(name, parameter, model.config)

    # training

    def test_every_parameter_gets_a_gradient(self, head):
        model, ids = self.model(head), random_ids()
        self.output(model, ids).square().sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_overfits_one_batch(self, head):
        if head == "AutoModel":
            pytest.skip("the base model has no loss")
        model, ids = self.model(head), random_ids()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(800):
            loss = self.loss(model, head, ids)
            if loss < 0.1:
                return
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pytest.fail(f"the loss is still {loss.item():.3f} after 800 steps")

    def test_gradient_checkpointing_changes_nothing(self, head):
        if not self.supports_checkpointing or head == "AutoModel":
            pytest.skip("no loss, or no layers to checkpoint")
        gradients = []
        for checkpointing in (False, True):
            model = self.model(head)
            if checkpointing:
                model.activation_checkpointing_enable()
            model.train()
            loss = self.loss(model, head, random_ids(), attention_mask=ragged_mask())
            loss.backward()
            gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
        assert_close(*gradients)

    def test_accumulating_4_times_2_trains_like_1_times_8(self, head, tmp_path):
        if head == "AutoModel":
            pytest.skip("the base model has no loss")
        ids = random_ids(batch=8)
        labels = self.labels(head, ids)
        if labels.dim() == 2:
            labels = labels.masked_fill(ragged_mask(batch=8, length=7) == 0, -100)[:, : ids.shape[1]]
            labels[4:] = labels[:4]
        rows = datasets.Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()})
        runs = []
        for batch_size, accumulation in ((8, 1), (2, 4)):
            arguments = quiet_arguments(
                tmp_path,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=accumulation,
                max_steps=2,
                optim="sgd",
                learning_rate=0.5,
                max_grad_norm=0.0,
                logging_steps=1,
                train_sampling_strategy="sequential",
            )
            model = self.model(head)
            trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=default_data_collator)
            trainer.train()
            losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
            runs.append((losses, dict(model.named_parameters())))
        (losses, parameters), (accumulated_losses, accumulated) = runs
        assert losses == pytest.approx(accumulated_losses, abs=1e-5)
        assert_close(parameters, accumulated, atol=1e-6, rtol=1e-5)

    def test_resizing_embeddings(self, head):
        model, ids = self.model(head), random_ids()
        before = self.output(model, ids)
        model.resize_token_embeddings(VOCAB_SIZE + 5)
        assert model.config.vocab_size == VOCAB_SIZE + 5 == model.get_input_embeddings().num_embeddings
        after = self.output(model, ids)
        assert_close(after[..., :VOCAB_SIZE] if head == "AutoModelForCausalLM" else after, before)
        if head == "AutoModelForCausalLM":
            assert after.shape[-1] == VOCAB_SIZE + 5
            assert model(ids, labels=ids).loss.isfinite()

    # attention and compilation

    def test_eager_equals_sdpa(self, head):
        if not self.has_attention:
            pytest.skip("no attention")
        results = []
        for implementation in ("eager", "sdpa"):
            model = self.model(head, attn_implementation=implementation)
            assert model.config._attn_implementation == implementation
            output = self.token_output(model, head, random_ids(), attention_mask=ragged_mask())
            output = output[ragged_mask().bool()] if output.shape[1] > 1 else output
            output.square().sum().backward()
            results.append([output, *(p.grad for p in model.parameters())])
        assert_close(*results, atol=1e-4, rtol=1e-4)

    def test_attentions_are_distributions(self, head):
        if not self.has_attention:
            pytest.skip("no attention")
        model = self.model(head, attn_implementation="eager")
        attentions = model(random_ids(), attention_mask=ragged_mask(), output_attentions=True).attentions
        assert len(attentions) == model.config.num_hidden_layers
        for weights in attentions:
            assert weights.shape == (3, model.config.num_attention_heads, 7, 7)
            assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
            assert not weights[1, :, :5, 5:].any()  # row 1 holds 5 tokens: nothing looks at its padding

    def test_torch_compile_changes_nothing(self, head):
        model, ids, mask = self.model(head), random_ids(), ragged_mask()
        expected = self.output(model, ids, attention_mask=mask)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager")
        assert_close(self.output(compiled, ids, attention_mask=mask), expected)

    # bad input

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"input_ids": torch.tensor([[1, VOCAB_SIZE]])}, rf"\[0, 1\] is {VOCAB_SIZE}.*0 and {VOCAB_SIZE - 1}"),
            ({"input_ids": torch.tensor([[-1, 1]])}, r"\[0, 0\] is -1"),
            ({"input_ids": torch.tensor([1, 2])}, r"\[batch, time\], not torch.int64 \[2\]"),
            ({"input_ids": torch.tensor([[1.0, 2.0]])}, "not torch.float32"),
            ({"input_ids": [[1, 2]]}, "integer tensor"),
            ({}, "exactly one of input_ids and inputs_embeds"),
            ({"inputs_embeds": torch.zeros(1, 2, 3)}, r"\[batch, time, \d+\], not \[1, 2, 3\]"),
            ({"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 3)}, "covers 3 tokens"),
        ],
    )
    def test_bad_inputs_are_named(self, inputs, message):
        model = self.model(next(iter(self.config_class.auto_classes)))
        with pytest.raises(ValueError, match=message):
            model(**inputs)

    @pytest.mark.parametrize(
        "changes",
        [
            {"vocab_size": -5},
            {"vocab_size": 100_000_000_000},
            {"hidden_size": "thirty"},
            {"num_hidden_layers": 1_000_000},
            {"dropout": 1.5},
        ],
    )
    def test_bad_configs_are_refused(self, changes):
        with pytest.raises(StrictDataclassError, match=next(iter(changes))):
            self.config(**changes)


class CausalLMTests:
    """Tests of `AutoModelForCausalLM`: the loss, the cache and generate()."""

    generation_settings = {
        "greedy": {},
        "beams": {"num_beams": 3, "num_return_sequences": 2},
        "sampling": {"do_sample": True},
    }

    def causal(self, seed=0, **changes):
        # a wide initialisation: logits that lie apart, so that no rounding decides between two tokens
        return self.model("AutoModelForCausalLM", seed, **({"initializer_range": 0.4} | changes))

    def generate(self, model, ids, seed=0, **settings):
        torch.manual_seed(seed)
        return model.generate(ids, max_new_tokens=10, pad_token_id=0, **settings)

    def test_loss_is_the_mean_over_the_next_tokens(self):
        model, ids = self.causal(), random_ids()
        log_probabilities = model(ids).logits.log_softmax(-1)
        expected = [-log_probabilities[b, t, ids[b, t + 1]] for b in range(3) for t in range(6)]
        assert_close(model(ids, labels=ids).loss, torch.stack(expected).mean())
        shifted = ids.roll(-1, dims=1)
        last = [-log_probabilities[b, 6, shifted[b, 6]] for b in range(3)]
        assert_close(model(ids, labels=ids, shift_labels=shifted).loss, torch.stack([*expected, *last]).mean())

    def test_no_token_sees_its_future(self):
        model, ids = self.causal(), random_ids()
        vectors = model.get_input_embeddings()(ids).detach().requires_grad_()
        model(inputs_embeds=vectors).logits[:, 3].sum().backward()
        assert vectors.grad[:, :4].any(dim=2).all()
        assert not vectors.grad[:, 4:].any()

    @pytest.mark.parametrize("chunk", [1, 2, 3])
    @pytest.mark.parametrize("side", [None, "left"])
    def test_reading_in_pieces_with_a_cache(self, chunk, side):
        model, ids = self.causal(), random_ids()
        mask = torch.ones_like(ids) if side is None else ragged_mask(side=side)
        expected = model(ids, attention_mask=mask).logits
        cache, pieces = DynamicCache(config=model.config), []
        for start in range(0, ids.shape[1], chunk):
            seen = mask[:, : start + chunk]
            outputs = model(ids[:, start : start + chunk], attention_mask=seen, past_key_values=cache, use_cache=True)
            pieces.append(outputs.logits)
        assert outputs.past_key_values.get_seq_length() == 7
        assert_close(torch.cat(pieces, dim=1)[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("settings", generation_settings)
    @pytest.mark.parametrize("side", [None, "left"])
    def test_generating_with_a_cache_equals_without(self, settings, side):
        settings = self.generation_settings[settings]
        for seed in range(10):
            model, ids = self.causal(seed), random_ids(seed=seed)
            mask = torch.ones_like(ids) if side is None else ragged_mask(side=side)
            settings = settings | {"attention_mask": mask, "seed": seed}
            cached = self.generate(model, ids, use_cache=True, **settings)
            assert torch.equal(cached, self.generate(model, ids, use_cache=False, **settings))
            assert torch.equal(
                cached, self.generate(model, ids, past_key_values=DynamicCache(config=model.config), **settings)
            )

    def test_left_padded_batch_generates_what_each_row_does_alone(self):
        for seed in range(5):
            model, ids, mask = self.causal(seed), random_ids(seed=seed), ragged_mask(side="left")
            together = self.generate(model, ids, attention_mask=mask)[:, 7:]
            for row in range(3):
                alone = ids[row : row + 1, mask[row].bool()]
                assert torch.equal(together[row], self.generate(model, alone)[0, alone.shape[1] :])

    def test_prefill_in_chunks(self):
        model, ids = self.causal(), random_ids()
        assert torch.equal(self.generate(model, ids, prefill_chunk_size=3), self.generate(model, ids))

    def test_going_on_from_a_returned_cache(self):
        model, ids = self.causal(), random_ids()
        whole = self.generate(model, ids)
        first = model.generate(ids, max_new_tokens=4, pad_token_id=0, return_dict_in_generate=True)
        rest = model.generate(first.sequences, max_new_tokens=6, pad_token_id=0, past_key_values=first.past_key_values)
        assert torch.equal(rest, whole)

    def test_tied_embeddings_stay_tied(self, tmp_path):
        model = self.causal(tie_word_embeddings=True)
        assert model.lm_head.weight is model.get_input_embeddings().weight
        model.save_pretrained(tmp_path)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
        loaded.resize_token_embeddings(VOCAB_SIZE + 3)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
        assert loaded(random_ids()).logits.shape[-1] == VOCAB_SIZE + 3

    def test_text_generation_pipeline(self, tiny_tokenizer):
        from hf_lineage.tokenization import causal_tokenizer

        tokenizer = causal_tokenizer(tiny_tokenizer)
        model = self.causal(vocab_size=len(tokenizer), eos_token_id=None)
        generate = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
        prompts = ["The baker", "Every brave dog"]
        together = generate(prompts, max_new_tokens=5, do_sample=False, batch_size=2)
        for prompt, answers in zip(prompts, together, strict=True):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            expected = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.pad_token_id)
            text = tokenizer.decode(expected[0, ids.shape[1] :], skip_special_tokens=True)
            assert answers[0]["generated_text"] == prompt + text


def uniform_within(parameter: torch.Tensor, bound: float):
    """Asserts that a parameter looks drawn uniformly from ±bound."""
    assert parameter.abs().max() <= bound
    if parameter.numel() >= 100:
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)


def normal_with(parameter: torch.Tensor, std: float):
    """Asserts that a parameter looks drawn from a normal distribution of mean 0."""
    assert parameter.std().item() == pytest.approx(std, rel=0.25)
    assert abs(parameter.mean().item()) < 5 * std / math.sqrt(parameter.numel())
