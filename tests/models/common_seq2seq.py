"""What must hold for every encoder-decoder: its test table inherits `Seq2SeqTests`."""

import copy

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from transformers import DataCollatorForSeq2Seq, DynamicCache, EncoderDecoderCache, GenerationConfig, Trainer

from hf_lineage.inference.generated_alignment import generated_alignments
from hf_lineage.models.cache_argument import CACHE_FIELD, cache_of
from hf_lineage.models.encoder_decoder import shift_right
from tests.models.common import ModelTests, gradients, main_output, unless
from tests.models.reference_decoder import beam_search, greedy


HEAD = "AutoModelForSeq2SeqLM"
WAYS = {
    "greedy": {"do_sample": False},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 0},
    "sampled beams": {"do_sample": True, "num_beams": 2, "top_k": 0},
}
ENDS = [50, 51, 52]


def answer_length(tokens: torch.Tensor, ends: list[int]) -> int:
    """Tokens up to the first end mark, which counts, or all of them."""
    found = torch.isin(tokens, torch.tensor(ends)).nonzero().flatten().tolist()
    return found[0] + 1 if found else len(tokens)


class Seq2SeqTests(ModelTests):
    """`ModelTests`, and the target: its loss, what it sees, the cache and generation.

    Source and target are 7 tokens long. A station without attention to the source gives its reason in
    `no_cross_attention`; one whose target has token vectors of its own overrides `target_embeddings`.
    """

    no_cross_attention = None
    no_tying = None
    num_reference_models = 10

    def inputs(self, head, batch=4, length=7):
        inputs = super().inputs(head, batch, length)
        start = torch.full((batch, 1), self.config().decoder_start_token_id)
        target = torch.cat([start, torch.randint(4, self.tiny["vocab_size"], (batch, length - 1))], dim=1)
        return {**inputs, "decoder_input_ids": target}

    def labels(self, head, inputs):
        if head != HEAD:
            return {}
        return {"labels": inputs["decoder_input_ids"].roll(-1, dims=1)}

    def expected_shape(self, head, config, batch, length):
        return (batch, length, config.vocab_size if head == HEAD else self.output_size(config))

    def output_size(self, config) -> int:
        """Length of the vectors that the output layer reads."""
        return config.hidden_size

    def alone(self, inputs, row, positions):
        return {**super().alone(inputs, row, positions), "decoder_input_ids": inputs["decoder_input_ids"][row][None]}

    def at_tokens(self, output, row, positions):
        # padding of the source is nowhere in the target
        return output[row]

    def target_embeddings(self, model) -> torch.nn.Embedding:
        """The target's matrix of token vectors; by default it is the source's too."""
        return model.get_input_embeddings()

    def source(self, side: str = "right") -> dict[str, torch.Tensor]:
        """Four sentences of 7, 5, 2 and 1 tokens."""
        inputs = self.padded(self.inputs(HEAD), [7, 5, 2, 1], side)[0]
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    def generate(self, model, inputs: dict, **options):
        """Eight tokens or up to one of several end marks, with the same random numbers in every call."""
        transformers.set_seed(7)
        options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": ENDS, **options}
        return model.generate(**inputs, **options)

    # outputs

    def test_hidden_states(self, head):
        model, inputs = self.model(head), self.inputs(head)
        outputs = model(**inputs, output_hidden_states=True)
        assert len(outputs.encoder_hidden_states) == model.config.num_hidden_layers + 1
        assert torch.equal(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
        assert len(outputs.decoder_hidden_states) >= model.config.decoder_layers + 1
        assert torch.equal(outputs.decoder_hidden_states[-1], model.base_model(**inputs).last_hidden_state)
        assert all(state.shape[:2] == (4, 7) for state in outputs.decoder_hidden_states)
        assert model(**inputs).decoder_hidden_states is None

    @unless("no_cross_attention")
    def test_attentions(self, head):
        model = self.model(head, attn_implementation="eager")
        inputs, _ = self.padded(self.inputs(head), [7, 5, 2, 1], "right")
        outputs = model(**inputs, output_attentions=True)
        for weights in outputs.cross_attentions:
            assert weights.shape[0] == 4
            assert weights.shape[-2:] == (7, 7)
            assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
            for row, length in enumerate([7, 5, 2, 1]):
                assert weights[row, ..., length:].abs().sum() == 0
        assert not model(**inputs).cross_attentions

    @unless("no_attention")
    @pytest.mark.parametrize("padding", [False, True])
    def test_eager_is_sdpa(self, head, padding):
        inputs = self.inputs(head)
        if padding:
            inputs, _ = self.padded(inputs, [7, 4, 1, 2], "left")
        results = []
        for implementation in ("eager", "sdpa"):
            # sums of many terms differ in float32 by the order of summation alone
            model = self.model(head, attn_implementation=implementation).double()
            output = main_output(model(**inputs))
            (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
            results.append({"output": output.detach(), **gradients(model)})
        assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)

    # pipelines

    def test_pipeline(self):
        pytest.skip(
            "no pipeline of transformers gives an encoder-decoder its target; ours: test_translation_pipeline.py"
        )

    # the loss

    def test_loss_does_not_shift_again(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        labels = inputs["decoder_input_ids"].roll(-1, dims=1).masked_fill(torch.rand(4, 7) < 0.3, -100)
        outputs = model(**inputs, labels=labels)
        assert_close(outputs.loss, cross_entropy(outputs.logits.flatten(0, 1), labels.flatten()))
        halved = model(**inputs, labels=labels, num_items_in_batch=2 * labels.ne(-100).sum()).loss
        assert_close(halved, outputs.loss / 2)

    def test_labels_alone_are_shifted_right(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        labels = inputs.pop("decoder_input_ids").masked_fill(torch.arange(7) > 4, -100)
        expected = model(**inputs, decoder_input_ids=shift_right(labels, model.config), labels=labels)
        found = model(**inputs, labels=labels)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.loss, expected.loss)

    def test_padded_targets_change_nothing(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        labels = inputs["decoder_input_ids"].masked_fill(torch.arange(7) >= torch.tensor([[7], [5], [2], [1]]), -100)
        losses = [
            model(inputs["input_ids"][row, None], labels=labels[row, None, :length]).loss * length
            for row, length in enumerate([7, 5, 2, 1])
        ]
        assert_close(model(inputs["input_ids"], labels=labels).loss, sum(losses) / 15)

    def test_label_smoothing_of_the_trainer(self, tmp_path):
        """0.9 · loss + 0.1 · mean of −log p over the vocabulary, with the collator's shifted inputs."""
        model = self.model(HEAD)
        rows = [{"input_ids": [5, 6, 7], "labels": [9, 3]}, {"input_ids": [8, 6], "labels": [4, 5, 6, 3]}]

        class Tokenizer:
            padding_side = "right"

            def pad(self, features, **kwargs):
                ids = [torch.tensor(f["input_ids"]) for f in features]
                padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
                mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
                return {"input_ids": padded, "attention_mask": mask}

        batch = DataCollatorForSeq2Seq(Tokenizer(), model=model)(rows)
        batch = {name: torch.as_tensor(value) for name, value in batch.items()}
        assert torch.equal(batch["decoder_input_ids"], shift_right(batch["labels"], model.config))
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, disable_tqdm=True
        )
        loss = Trainer(model, arguments).compute_loss(model, dict(batch))
        scored = batch["labels"].ne(-100)
        log_p = model(**{n: v for n, v in batch.items() if n != "labels"}).logits.log_softmax(-1)[scored]
        picked = log_p.gather(1, batch["labels"][scored][:, None])
        assert_close(loss, -(0.9 * picked.mean() + 0.1 * log_p.mean()))

    # what a target token sees

    def test_logits_see_the_past_and_not_the_future(self):
        model, inputs = self.changed_model(HEAD), self.inputs(HEAD)
        ids = inputs.pop("decoder_input_ids")
        vectors = self.target_embeddings(model)(ids).detach().requires_grad_()
        for t in range(7):
            logits = model(**inputs, decoder_inputs_embeds=vectors).logits[:, t]
            (gradient,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.shape[1])).sum(), vectors)
            assert gradient[:, t + 1 :].abs().sum() == 0
            assert (gradient[:, : t + 1].abs().sum(2) > 0).all()

    def test_logits_see_the_whole_source_and_no_padding(self, side):
        model, inputs = self.changed_model(HEAD), self.inputs(HEAD)
        padded, _ = self.padded(inputs, [7, 5, 2, 1], side)
        vectors = model.get_input_embeddings()(padded.pop("input_ids")).detach().requires_grad_()
        logits = model(**padded, inputs_embeds=vectors).logits[:, 3]
        (gradient,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.shape[1])).sum(), vectors)
        assert torch.equal(gradient.abs().sum(2) > 0, padded["attention_mask"].bool())

    def test_logits_to_keep(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        logits = model(**inputs).logits
        for kept, expected in ((1, logits[:, -1:]), (3, logits[:, -3:]), (torch.tensor([0, 4]), logits[:, [0, 4]])):
            assert_close(model(**inputs, logits_to_keep=kept).logits, expected)

    @pytest.mark.parametrize("target_side", ["left", "right"])
    def test_masked_targets(self, target_side):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        targets, kept = self.padded({"input_ids": inputs["decoder_input_ids"]}, [7, 5, 2, 1], target_side)
        mask = targets["attention_mask"]
        batch = model(**inputs, decoder_attention_mask=mask).logits
        for row, positions in enumerate(kept):
            one = inputs["input_ids"][row, None], inputs["decoder_input_ids"][row, positions][None]
            assert_close(
                batch[row, positions], model(one[0], decoder_input_ids=one[1]).logits[0], rtol=1e-5, atol=1e-5
            )

    # the vocabulary

    @unless("no_tying")
    def test_resizing_keeps_the_tie(self):
        for tied in (True, False):
            model, inputs = self.model(HEAD, tie_word_embeddings=tied), self.inputs(HEAD)
            expected = model(**inputs).logits
            for size in (67, 63):
                model.resize_token_embeddings(size)
                assert model.get_output_embeddings().out_features == model.config.vocab_size == size
            logits = model(**inputs).logits
            assert logits.shape == (4, 7, 63)
            assert_close(logits[..., :60], expected)

    # the cache

    @pytest.mark.parametrize("chunks", [[1] * 7, [3, 1, 3], [7]], ids=str)
    def test_cache_is_the_past(self, side, chunks):
        for seed in range(3):
            model, inputs = self.model(HEAD, seed), {**self.inputs(HEAD), **self.source(side)}
            ids = inputs.pop("decoder_input_ids")
            expected = model(**inputs, decoder_input_ids=ids).logits
            encoded = model.get_encoder()(**inputs)
            logits, seen, cache = [], 0, None
            for length in chunks:
                outputs = model(
                    attention_mask=inputs["attention_mask"],
                    encoder_outputs=encoded,
                    decoder_input_ids=ids[:, seen : seen + length],
                    cache=cache,
                    use_cache=True,
                )
                cache, seen = cache_of(outputs), seen + length
                assert cache.get_seq_length() == seen
                logits.append(outputs.logits)
            assert_close(torch.cat(logits, 1), expected, rtol=1e-5, atol=1e-5)

    def test_no_cache_unless_asked(self):
        model, inputs = self.model(HEAD, use_cache=False), self.inputs(HEAD)
        assert cache_of(model(**inputs)) is None
        assert cache_of(model(**inputs, use_cache=True)).get_seq_length() == 7

    @unless("no_gradient_checkpointing")
    def test_cache_gives_way_to_gradient_checkpointing(self):
        model, inputs = self.model(HEAD).train(), self.inputs(HEAD)
        results = []
        for checkpointing in (False, True):
            if checkpointing:
                model.activation_checkpointing_enable()
            model.zero_grad()
            model(**inputs, labels=inputs["decoder_input_ids"], use_cache=True).loss.backward()
            results.append(gradients(model))
        assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)

    # generation

    @pytest.mark.parametrize("way", WAYS)
    def test_generation_is_the_same_without_cache(self, way):
        found = set()
        for seed in range(10):
            model, source = self.model(HEAD, seed), self.source()
            cached, uncached = (self.generate(model, source, use_cache=use, **WAYS[way]) for use in (True, False))
            assert torch.equal(cached, uncached)
            found.update(cached[:, 1:].flatten().tolist())
        # models that repeat themselves would prove nothing
        assert len(found) > 10

    @pytest.mark.parametrize("way", ["greedy", "beams"])
    def test_generation_does_not_see_padding(self, way, side):
        model, inputs = self.model(HEAD), self.inputs(HEAD)
        padded, kept = self.padded(inputs, [7, 5, 2, 1], side)
        together = self.generate(model, {n: padded[n] for n in ("input_ids", "attention_mask")}, **WAYS[way])
        answers = WAYS[way].get("num_return_sequences", 1)
        for row, positions in enumerate(kept):
            alone = self.generate(model, {"input_ids": inputs["input_ids"][row, positions][None]}, **WAYS[way])
            batch = together[row * answers : (row + 1) * answers]
            assert torch.equal(batch[:, : alone.shape[1]], alone)
            assert torch.isin(batch[:, alone.shape[1] :], torch.tensor([0, ENDS[0]])).all()

    def test_generation_is_the_slow_references(self):
        self.check_generation(range(self.num_reference_models))

    @pytest.mark.slow
    def test_generation_is_the_slow_references_over_200_models(self):
        if self.num_reference_models < 25:
            pytest.skip("the stations' main forms stand for their variants")
        self.check_generation(range(self.num_reference_models, 200))

    def check_generation(self, seeds: range):
        """Greedy, and all hypotheses of every beam with their scores, over random models and sentences."""
        lengths = set()
        for seed in seeds:
            model, source = self.model(HEAD, 100 + seed, vocab_size=60), self.source()
            num_beams, limit = 2 + seed % 3, 3 + seed % 5
            alpha = [1.0, 0.0, 0.6][seed % 3]
            gnmt = seed % 2 == 1
            options = {"gnmt_length_penalty": alpha} if gnmt else {"length_penalty": alpha}
            ends = list(range(40, 60)) if seed % 4 else [3]
            found = self.generate(model, source, max_new_tokens=limit, eos_token_id=ends)
            beams = self.generate(
                model,
                source,
                max_new_tokens=limit,
                eos_token_id=ends,
                num_beams=num_beams,
                num_return_sequences=num_beams,
                return_dict_in_generate=True,
                output_scores=True,
                **options,
            )

            def penalty(length, alpha=alpha, gnmt=gnmt):
                return ((5 + length) / 6) ** alpha if gnmt else length**alpha

            for row, (ids, mask) in enumerate(zip(source["input_ids"], source["attention_mask"], strict=True)):
                sentence = ids[mask.bool()][None]
                with torch.no_grad():
                    expected = greedy(model, sentence, limit, ends)
                    hypotheses = beam_search(model, sentence, num_beams, limit, ends, penalty)
                assert found[row, : len(expected)].tolist() == expected
                assert (found[row, len(expected) :] == 0).all()
                lengths.add(len(expected))
                for rank, hypothesis in enumerate(hypotheses):
                    sequence = beams.sequences[row * num_beams + rank]
                    assert sequence[: len(hypothesis.tokens)].tolist() == hypothesis.tokens
                    # transformers fills up with the first end mark where the padding id is 0
                    assert torch.isin(sequence[len(hypothesis.tokens) :], torch.tensor([0, ends[0]])).all()
                    score = beams.sequences_scores[row * num_beams + rank].item()
                    assert score == pytest.approx(hypothesis.score, abs=1e-4)
        assert len(lengths) > 3

    def test_source_is_read_once(self):
        model, source, calls = self.model(HEAD), self.source(), []
        model.get_encoder().register_forward_hook(lambda *_: calls.append(1))
        expected = self.generate(model, source, num_beams=3)
        assert len(calls) == 1
        encoded = model.get_encoder()(**source)
        given = self.generate(
            model, {"encoder_outputs": encoded, "attention_mask": source["attention_mask"]}, num_beams=3
        )
        assert torch.equal(given, expected)

    def test_generation_takes_a_given_cache(self):
        model, source = self.model(HEAD), self.source()
        cache = EncoderDecoderCache(*(DynamicCache(config=model.config.get_text_config(decoder=True)) for _ in "12"))
        for options in ({}, {"num_beams": 3}):
            expected = self.generate(model, source, use_cache=False, **options)
            assert torch.equal(
                self.generate(model, source, **{CACHE_FIELD: copy.deepcopy(cache)}, **options), expected
            )

    def test_generation_continues_a_given_target(self):
        model, source = self.model(HEAD), self.source()
        options = {"eos_token_id": None}
        whole = self.generate(model, source, **options)
        rest = self.generate(model, {**source, "decoder_input_ids": whole[:, :4]}, **{**options, "max_new_tokens": 5})
        assert torch.equal(rest, whole)

    def test_length_limits(self):
        model, source = self.model(HEAD), self.source()
        ends = list(range(20, 60))
        for options in ({}, {"num_beams": 3}):
            shortest = self.generate(model, source, eos_token_id=ends, min_new_tokens=5, **options)
            assert not torch.isin(shortest[:, 1:5], torch.tensor(ends)).any()
            assert self.generate(model, source, eos_token_id=None, max_new_tokens=3, **options).shape == (4, 4)
        prefix = {**source, "decoder_input_ids": torch.full((4, 3), model.config.decoder_start_token_id)}
        assert self.generate(model, prefix, eos_token_id=None, max_new_tokens=3).shape == (4, 6)

    def test_gnmt_length_penalty_is_saved_and_can_be_overridden(self, tmp_path):
        model, source = self.model(HEAD, 3), self.source()
        options = {
            "num_beams": 3,
            "return_dict_in_generate": True,
            "output_scores": True,
            "eos_token_id": [*range(40, 60)],
        }
        given = self.generate(model, source, gnmt_length_penalty=2.0, **options)
        ids = {name: getattr(model.config, name) for name in ("decoder_start_token_id", "bos_token_id")}
        model.generation_config = GenerationConfig(**ids, gnmt_length_penalty=2.0)
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert loaded.generation_config.gnmt_length_penalty == 2.0
        again = self.generate(loaded, source, **options)
        assert torch.equal(again.sequences, given.sequences)
        assert_close(again.sequences_scores, given.sequences_scores)
        plain = self.generate(loaded, source, length_penalty=0.0, **options)
        sequence = plain.sequences[0]
        length = answer_length(sequence[1:], options["eos_token_id"])
        logits = model(
            source["input_ids"][:1], source["attention_mask"][:1], decoder_input_ids=sequence[None, :length]
        )
        log_p = logits.logits[0].log_softmax(1).gather(1, sequence[1 : length + 1, None]).sum()
        assert plain.sequences_scores[0].item() == pytest.approx(log_p.item(), abs=1e-4)

    def test_two_length_penalties_are_refused(self):
        with pytest.raises(ValueError, match=r"length_penalty 0\.5 and gnmt_length_penalty 0\.6"):
            self.generate(self.model(HEAD), self.source(), num_beams=2, length_penalty=0.5, gnmt_length_penalty=0.6)

    @unless("no_cross_attention")
    def test_generated_alignments_are_those_of_teacher_forcing(self):
        for options in ({}, {"num_beams": 3, "num_return_sequences": 2}):
            model, source = self.model(HEAD, 5, attn_implementation="eager"), self.source()
            outputs = self.generate(
                model, source, return_dict_in_generate=True, output_attentions=True, output_logits=True, **options
            )
            found = generated_alignments(outputs, ENDS)
            answers = options.get("num_return_sequences", 1)
            repeated = {name: value.repeat_interleave(answers, 0) for name, value in source.items()}
            forced = model(**repeated, decoder_input_ids=outputs.sequences[:, :-1], output_attentions=True)
            expected = forced.cross_attentions[-1]
            expected = expected.mean(1) if expected.dim() == 4 else expected
            assert found.shape == expected.shape == (4 * answers, outputs.sequences.shape[1] - 1, 7)
            for row, sequence in enumerate(outputs.sequences):
                length = answer_length(sequence[1:], ENDS)
                assert_close(found[row, :length], expected[row, :length], rtol=1e-4, atol=1e-5)
                assert found[row, length:].abs().sum() == 0
