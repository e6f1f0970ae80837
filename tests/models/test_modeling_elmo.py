"""ELMo: the common tests over words and over characters, and what only a bidirectional language model has."""

import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from hf_lineage import (
    ELMoConfig,
    ELMoForMultipleChoice,
    ELMoForPreTraining,
    ELMoForSequenceClassification,
    ELMoForTokenClassification,
    ELMoModel,
)
from hf_lineage.models.cache_argument import cache_of
from hf_lineage.models.elmo_layers import CharacterCNN, ScalarMix
from hf_lineage.models.output_layers import sampled_softmax_loss
from hf_lineage.tokenization import elmo_tokenizer, train_word_level
from tests.models.common import BIASES, Distribution, ModelTests, constant, main_output, normal, uniform


SIZES = {
    "vocab_size": 60,
    "character_size": 4,
    "cnn_filters": [[1, 8], [2, 8], [3, 8]],
    "hidden_size": 16,
    "projection_size": 8,
    "num_hidden_layers": 2,
    "task_size": 8,
    "num_labels": 3,
    "dropout": 0.0,
    "elmo_dropout": 0.0,
}
CHOICE = "AutoModelForMultipleChoice"
WORDS = {**SIZES, "token_layer": "words"}


class OpenForgetGate(Distribution):
    """Zero but for the second quarter, which is one; drawn from nothing."""

    def __init__(self):
        super().__init__(0.25, 0.0, 0.75)

    def check(self, name, parameter):
        assert torch.equal(parameter.view(4, -1).mean(1), torch.tensor([0.0, 1.0, 0.0, 0.0])), name


class ELMoTests(ModelTests):
    config_class = ELMoConfig
    no_attention = "recurrent models have no attention"

    def inputs(self, head, batch=4, length=7):
        ids = super().inputs(head, batch, length)["input_ids"]
        if head != CHOICE:
            # nor do two end with the same, from which the backward model begins
            ids[:, -1:] = (torch.arange(batch)[:, None] + 7) % 60
        return {"input_ids": ids}

    def test_accumulated_gradients_are_those_of_the_whole_batch(self, trained_head, tmp_path):
        if trained_head != "AutoModelForPreTraining":
            super().test_accumulated_gradients_are_those_of_the_whole_batch(trained_head, tmp_path)
            return
        # sentences of one to seven words: each direction predicts all but one of them
        inputs = self.inputs(trained_head, batch=16)
        is_word = torch.arange(7) <= torch.arange(16)[:, None] % 7
        labels = self.labels(trained_head, inputs)["labels"].masked_fill(~is_word, -100)
        data = {**inputs, "attention_mask": is_word.long(), "labels": labels}
        self.check_accumulation(lambda: self.model(trained_head), data, tmp_path)

    def word_ids(self, inputs):
        return inputs["input_ids"]

    def labels(self, head, inputs):
        ids = self.word_ids(inputs)
        if head == "AutoModelForPreTraining":
            return {"labels": ids.clone()}
        return super().labels(head, {self.token_input: ids})

    def expected_shape(self, head, config, batch, length):
        return {
            "AutoModel": (batch, length, config.output_size),
            "AutoModelForPreTraining": (batch, length, config.vocab_size),
        }.get(head) or super().expected_shape(head, config, batch, length)

    def initialization(self, name, config):
        part, kind = name.rsplit(".", 2)[-2:]
        size, projection = config.hidden_size, config.projection_size
        if "task_layer" in name:
            size = config.task_size
            read = config.output_size + config.word_vector_size + config.task_size
            return OpenForgetGate() if kind == "bias" else uniform(math.sqrt(6 / (read + 4 * size)))
        if "_layers" in name:
            if kind == "bias":
                return OpenForgetGate()
            sum_of_sides = projection + size if kind == "weight_hr" else 2 * projection + 4 * size
            return uniform(math.sqrt(6 / sum_of_sides))
        if "embed_characters" in name or name.endswith("token_layer.weight") or "word_vectors" in name:
            return uniform(1.0)
        if "convolutions" in name:
            return uniform(0.05) if kind == "weight" else constant(0.0)
        if part == "gate" and kind == "bias":
            return constant(-2.0)
        if kind == "gamma":
            return constant(1.0)
        if "mixes" in name or "crf" in name or kind == "bias":
            return constant(0.0)
        features = 2 * config.task_size
        read = {"lm_head": projection, "qa_outputs": features, "classifier": features}
        read |= {"score": 2 * features, "scorer": 2 * features}
        return normal(read.get(part, config.num_filters) ** -0.5)

    def test_hidden_states(self, head):
        """The layers from the token vectors up; a base model's main output is their mix."""
        model, inputs = self.model(head), self.inputs(head)
        states = model(**inputs, output_hidden_states=True).hidden_states
        base = model.base_model(**self.in_rows(inputs))
        assert len(states) == len(base.hidden_states) == 3
        for state, expected in zip(states, base.hidden_states, strict=True):
            assert state.shape == base.last_hidden_state.shape
            assert torch.equal(state, expected)
        assert torch.equal(states[0][..., :8], states[0][..., 8:])
        torch.testing.assert_close(base.last_hidden_state, sum(states) / 3)

    def test_every_parameter_gets_a_gradient(self, head):
        """But for the mixes in pretraining, which are the tasks'."""
        model = self.changed_model(head).train()
        self.objective(model, head, self.inputs(head)).backward()
        for name, parameter in model.named_parameters():
            if head == "AutoModelForPreTraining" and ".mixes." in name:
                assert not parameter.requires_grad
            else:
                assert parameter.grad.isfinite().all(), name
                assert parameter.grad.abs().max() > 0 or name.endswith(tuple(BIASES)), name

    def test_outputs_over_padding_are_zero(self, side):
        inputs, _ = self.padded(self.inputs("AutoModel"), [7, 5, 2, 0], side)
        outputs = self.model("AutoModel")(**inputs)
        for vectors in (outputs.last_hidden_state, *outputs.hidden_states):
            assert vectors[inputs["attention_mask"] == 0].abs().sum() == 0


class TestELMoWords(ELMoTests):
    tiny = WORDS


class TestELMoCRF(ELMoTests):
    """The chain of labels, and a mix at either end of the task's LSTM."""

    tiny = {**WORDS, "use_crf": True, "num_mixes": 2, "word_vector_size": 5, "mix_l2": 0.01}
    only_heads = ["AutoModelForTokenClassification"]
    no_inputs_embeds = "x is looked up by input_ids"
    test_resized_vocabulary = None
    test_compiled_is_eager_on_padding = None  # the second mix is the head's

    def initialization(self, name, config):
        if name == "classifier.weight":
            return normal((2 * config.task_size + config.output_size) ** -0.5)
        return super().initialization(name, config)


class TestELMoCharacters(ELMoTests):
    """Words of one letter each, whose byte is the word's number."""

    tiny = SIZES
    token_input = "char_ids"
    time_axis = -2
    no_inputs_embeds = "characters have vectors, but a token is made of many"
    no_resizing = "characters spell every word"
    only_heads = ["AutoModel", "AutoModelForPreTraining", "AutoModelForTokenClassification"]

    @pytest.fixture
    def tiny_tokenizer(self, tiny_corpus):
        marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        return elmo_tokenizer(train_word_level(tiny_corpus, special_tokens=marks, lowercase=True, show_progress=False))

    def inputs(self, head, batch=4, length=7):
        ids = super().inputs(head, batch, length)["input_ids"]
        char_ids = torch.full((*ids.shape, 50), 261)
        char_ids[..., 0], char_ids[..., 1], char_ids[..., 2] = 259, ids + 1, 260
        return {"char_ids": char_ids}

    def word_ids(self, inputs):
        return inputs["char_ids"][..., 1] - 1

    def in_rows(self, inputs):
        return inputs

    def padded(self, inputs, lengths, side):
        mask, kept = super().padded({"char_ids": inputs["char_ids"][..., 0]}, lengths, side)
        return {**inputs, "attention_mask": mask["attention_mask"]}, kept

    def test_content_of_padding_is_not_read(self, head, side):
        model = self.model(head)
        inputs, kept = self.padded(self.inputs(head), [7, 5, 2, 1], side)
        other = {**inputs, "char_ids": inputs["char_ids"] * inputs["attention_mask"][..., None]}
        first, second = main_output(model(**inputs)), main_output(model(**other))
        for row, positions in enumerate(kept):
            torch.testing.assert_close(
                self.at_tokens(first, row, positions), self.at_tokens(second, row, positions), rtol=0, atol=1e-6
            )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda ids: ids[..., 0], r"integer tensor of shape \[batch, time, 50\].*int64 \[4, 7\]"),
            (lambda ids: ids.float(), r"integer tensor.*float32 \[4, 7, 50\]"),
            (lambda ids: ids.tolist(), r"integer tensor.*list"),
            (lambda ids: ids[..., :30], "30 characters per token; max_characters is 50"),
            (lambda ids: ids.index_fill(0, torch.tensor(2), 262), r"\[2, 0, 0\] is 262.*0 and 261"),
            (lambda ids: -ids, r"\[0, 0, 0\] is -259"),
        ],
    )
    def test_bad_ids_are_named(self, head, change, message):
        with pytest.raises(ValueError, match=f"char_ids.*{message}"):
            self.model(head)(char_ids=change(self.inputs(head)["char_ids"]))

    def test_ids_must_be_a_tensor(self, head):
        with pytest.raises(ValueError, match="char_ids is missing.*trust_remote_code"):
            self.model(head)(input_ids=torch.zeros(1, 2, dtype=torch.long))

    def test_resizing_is_refused(self):
        with pytest.raises(ValueError, match="token_layer"):
            self.model("AutoModel").resize_token_embeddings(70)

    def test_choices_are_read_one_by_one(self):
        model, (first, second) = self.model(CHOICE), (self.inputs("AutoModel")["char_ids"] for _ in range(2))
        both = model(char_ids=torch.stack([first, second], dim=1)).logits
        for choice, ids in enumerate((first, second)):
            torch.testing.assert_close(model(char_ids=ids[:, None]).logits[:, 0], both[:, choice])
        with pytest.raises(ValueError, match=r"char_ids.*\[batch, choices, time, characters\].*\[4, 7, 50\]"):
            model(char_ids=first)

    def test_token_vectors_may_be_kept(self, head):
        """A vocabulary's vectors, computed once, stand for its characters."""
        model, inputs = self.model(head), self.inputs(head)
        kept = model.base_model.token_vectors(char_ids=inputs["char_ids"].flatten(0, 1)[None])[0]
        outputs = main_output(model(inputs_embeds=kept.view(4, 7, 8)))
        torch.testing.assert_close(outputs, main_output(model(**inputs)), rtol=0, atol=1e-6)


def config(**changes):
    return ELMoConfig(**{**WORDS, **changes})


def test_the_paper_has_93600864_parameters():
    """The released model without its softmax: characters, convolutions, highways, projection and both LSTMs."""
    with torch.device("meta"):
        model = ELMoModel(ELMoConfig())
    mixes = sum(parameter.numel() for parameter in model.mixes.parameters())
    assert mixes == 3 + 1
    assert model.num_parameters() - mixes == 93_600_864


# the character convolutions


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_word_is_the_largest_of_each_filter_over_all_its_places(activation):
    cnn = CharacterCNN(ELMoConfig(**SIZES, cnn_act=activation))
    for parameter in cnn.parameters():
        nn.init.normal_(parameter)
    characters = torch.randint(1, 262, (3, 5, 50))
    characters[1, :, 10:] = 261  # short words, among them some that stand twice
    characters[2] = characters[0]
    found = cnn(characters)
    for row, column in ((0, 0), (1, 3), (2, 4)):
        letters = cnn.embed_characters.weight[characters[row, column]]  # [50, 4]
        values = []
        for convolution in cnn.convolutions:
            width = convolution.kernel_size[0]
            windows = torch.stack([letters[i : i + width].T for i in range(51 - width)])
            largest = (torch.einsum("iew,new->in", windows, convolution.weight) + convolution.bias).amax(0)
            values.append(largest.clamp(min=0) if activation == "relu" else 1 - 2 / (torch.exp(2 * largest) + 1))
        x = torch.cat(values)
        for highway in cnn.highways:
            gate = torch.sigmoid(highway.gate.weight @ x + highway.gate.bias)
            new = torch.relu(highway.transform.weight @ x + highway.transform.bias)
            x = gate * new + (1 - gate) * x
        torch.testing.assert_close(
            found[row, column], cnn.projection.weight @ x + cnn.projection.bias, rtol=1e-5, atol=1e-4
        )


def test_filters_of_tanh_start_by_how_many_numbers_they_read():
    """N(0, 1 / (width · character_size)), as the authors' code draws them for tanh."""
    model = ELMoModel(ELMoConfig(**{**SIZES, "cnn_act": "tanh", "cnn_filters": [[1, 2_000], [3, 2_000]]}))
    for convolution, width in zip(model.token_layer.convolutions, (1, 3), strict=True):
        count = convolution.weight.numel()
        deviation = (width * 4) ** -0.5
        # four standard errors of a mean and of a standard deviation
        assert abs(convolution.weight.mean()) < 4 * deviation * count**-0.5
        assert convolution.weight.std().item() == pytest.approx(deviation, rel=4 * (2 * count) ** -0.5)
        # a normal number is beyond two deviations in 4.6 % of the draws, a uniform one never
        beyond = (convolution.weight.abs() > 2 * deviation).float().mean()
        assert 0.03 < beyond < 0.06


def test_a_word_is_computed_once(monkeypatch):
    model = ELMoModel(ELMoConfig(**SIZES)).eval()
    characters = torch.randint(1, 259, (1, 3, 50))
    seen = []
    original = model.token_layer.vectors
    monkeypatch.setattr(model.token_layer, "vectors", lambda words: seen.append(len(words)) or original(words))
    model(char_ids=characters[:, [0, 1, 2, 0, 0, 1]])
    assert seen == [3]


def test_vocabulary_s_vectors_stand_for_its_words():
    """Read by id where a word is spelled as in the vocabulary, from its characters where it is not."""
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    words = train_word_level(["the cat sat"], special_tokens=marks, lowercase=True, show_progress=False)
    tokenizer = elmo_tokenizer(words)
    model = ELMoModel(ELMoConfig(**{**SIZES, "vocab_size": len(tokenizer)})).eval()
    characters = torch.tensor(tokenizer.vocabulary_characters())
    kept = model.vocabulary_vectors(characters, batch_size=3)
    assert kept.shape == (len(tokenizer), 8)
    assert not kept.requires_grad
    # an unknown word, a known one spelled otherwise, and padding
    batch = tokenizer(["The cat saw", "sat"], padding=True, return_tensors="pt")
    ids, spelled = batch["input_ids"], batch["char_ids"]
    x, other = kept[ids], (characters[ids] != spelled).any(2)
    words = tokenizer.convert_ids_to_tokens(ids[other & batch["attention_mask"].bool()])
    assert words == ["the", "<unk>"]
    with torch.no_grad():
        x[other] = model.token_vectors(char_ids=spelled[other][None])[0]
        found = model(inputs_embeds=x, attention_mask=batch["attention_mask"]).hidden_states
        expected = model(**batch).hidden_states
    for layer, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(layer, reference, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="token_layer is 'words'"):
        ELMoModel(config()).vocabulary_vectors(characters)


# the two language models


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_are_those_of_two_separate_lstms(layers):
    """torch's LSTM with a projection, one layer after the other; each but the first adds what it read."""
    model = ELMoModel(config(num_hidden_layers=layers, cell_clip=None, projection_clip=None)).eval()
    ids = torch.randint(60, (3, 6))
    states = model(ids).hidden_states
    for half, stack, flipped in ((0, model.forward_layers, False), (1, model.backward_layers, True)):
        x = model.token_layer(ids)
        x = x.flip(1) if flipped else x
        for i, layer in enumerate(stack):
            reference = nn.LSTM(8, 16, proj_size=8, batch_first=True)
            cell = layer.cell
            weights = (cell.weight_ih, cell.weight_hh, cell.bias, torch.zeros_like(cell.bias), cell.weight_hr)
            for parameter, weight in zip(reference.parameters(), weights, strict=True):
                parameter.data = weight.data
            y, _ = reference(x)
            x = y + x if i else y
            expected = x.flip(1) if flipped else x
            torch.testing.assert_close(states[i + 1][..., 8 * half : 8 * half + 8], expected)


def test_clips_are_those_of_the_configuration():
    model = ELMoModel(config(cell_clip=0.02, projection_clip=0.01)).eval()
    with torch.no_grad():
        states = model(torch.randint(60, (2, 5))).hidden_states
    assert states[1].abs().max() == pytest.approx(0.01)
    assert states[2].abs().max() <= 0.02 + 1e-6


def test_dropout_acts_on_what_each_layer_reads_and_passes_on():
    model = ELMoModel(config(dropout=0.5)).train()
    read, given = [], []
    for layer in model.forward_layers:
        layer.register_forward_pre_hook(lambda layer, args: read.append(args[0]))
        layer.register_forward_hook(lambda layer, args, output: given.append(output[0]))
    ids = torch.randint(60, (20, 6))
    states = model(ids).hidden_states
    for source, dropped in zip((model.token_layer(ids), given[0]), read, strict=True):
        assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
        torch.testing.assert_close(dropped[dropped != 0], 2 * source[dropped != 0])
    torch.testing.assert_close(states[2][..., :8], given[1] + read[1])


def test_without_a_cache_calls_are_independent():
    model, ids = ELMoModel(config()).eval(), torch.randint(60, (2, 5))
    first = model(ids).last_hidden_state
    model(torch.randint(60, (2, 5)))
    assert torch.equal(model(ids).last_hidden_state, first)
    assert cache_of(model(ids)) is None


def test_cache_carries_both_directions_from_sentence_to_sentence():
    """The forward LSTM reads sentence after sentence; the backward one too, each from its end to its beginning."""
    model = ELMoModel(config()).eval()
    lengths = ((5, 3), (4, 6))  # of each sentence, row by row
    sentences = [[torch.randint(60, (length,)) for length in row] for row in lengths]
    cache = DynamicCache(config=model.config)
    found = []
    for sentence in zip(*sentences, strict=True):
        ids = nn.utils.rnn.pad_sequence(sentence, batch_first=True)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in sentence], batch_first=True)
        states = model(ids, mask, cache=cache).hidden_states[-1]
        found.append([state[: len(row)] for state, row in zip(states, sentence, strict=True)])
    for row, (first, second) in enumerate(sentences):
        whole = torch.cat([first, second])[None]
        mirrored = torch.cat([second, first])[None]  # read from its end: first's end, ..., second's beginning
        forward = model(whole).hidden_states[-1][0, :, :8]
        backward = model(mirrored).hidden_states[-1][0, :, 8:]
        for i, part in enumerate((slice(0, len(first)), slice(len(first), None))):
            torch.testing.assert_close(found[i][row][:, :8], forward[part])
        for i, part in enumerate((slice(len(second), None), slice(0, len(second)))):
            torch.testing.assert_close(found[i][row][:, 8:], backward[part])


def test_foreign_caches_are_named():
    model, ids = ELMoModel(config()).eval(), torch.randint(60, (2, 5))
    cache = cache_of(model(ids, use_cache=True))
    with pytest.raises(ValueError, match=r"cache.*\b2\b.*\b1\b"):
        model(ids[:1], cache=cache)
    with pytest.raises(ValueError, match=r"DynamicCache\(config=model\.config\)"):
        model(ids, cache=DynamicCache())


def test_two_threads_change_nothing():
    model, ids = ELMoModel(config()).eval(), torch.randint(60, (3, 9))
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    with torch.no_grad():
        expected = model(ids, mask.long())
        model.parallel_directions = True
        found = model(ids, mask.long())
    for state, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(state, other)
    assert not found.last_hidden_state.requires_grad
    # a training step is not run in threads, and has its gradient
    model(ids).last_hidden_state.sum().backward()
    assert model.forward_layers[0].cell.weight_ih.grad.abs().sum() > 0


# the mixes


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mix_is_the_paper_s_sum(layer_norm):
    mix = ScalarMix(3, layer_norm)
    nn.init.normal_(mix.weights)
    nn.init.constant_(mix.gamma, 1.7)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    layers = [torch.randn(2, 4, 6) * mask[..., None] for _ in range(3)]
    arrays = [layer.double().numpy() for layer in layers]
    if layer_norm:
        tokens = mask.bool().numpy()
        arrays = [(a - a[tokens].mean()) / np.sqrt(a[tokens].var() + 1e-12) * tokens[..., None] for a in arrays]
    shares = np.exp(mix.weights.detach().double().numpy())
    expected = 1.7 * sum(share * a for share, a in zip(shares / shares.sum(), arrays, strict=True))
    torch.testing.assert_close(mix(layers, mask).double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_several_mixes_come_from_one_run():
    model, ids = ELMoModel(config(num_mixes=3)).eval(), torch.randint(60, (2, 5))
    for i, mix in enumerate(model.mixes):
        nn.init.constant_(mix.gamma, i + 1.0)
    calls = []
    model.forward_layers[0].register_forward_hook(lambda *_: calls.append(1))
    outputs = model(ids)
    assert len(outputs.mixes) == 3
    assert calls == [1]
    for i, mix in enumerate(outputs.mixes):
        torch.testing.assert_close(mix, (i + 1) * outputs.last_hidden_state)
    with pytest.raises(ValueError, match="num_mixes is 3"):
        ELMoForSequenceClassification(config(num_mixes=3))


def test_penalty_is_the_weights_squared_length():
    models = [ELMoForSequenceClassification(config(mix_l2=l2, num_mixes=2)) for l2 in (0.0, 0.5)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        nn.init.constant_(model.model.mixes[0].weights, 2.0)
    ids, labels = torch.randint(60, (2, 5)), torch.tensor([0, 1])
    without, with_penalty = (model.eval()(ids, labels=labels).loss for model in models)
    assert (with_penalty - without).item() == pytest.approx(0.5 * 3 * 4.0, rel=1e-5)


def test_choices_of_kept_layers():
    model = ELMoForMultipleChoice(config()).eval()
    ids, mask = torch.randint(60, (2, 3, 5)), torch.tensor([[[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]] * 2)
    kept = torch.stack(model.model(ids.flatten(0, 1), mask.flatten(0, 1)).hidden_states, dim=2).unflatten(0, (2, 3))
    torch.testing.assert_close(model(attention_mask=mask, elmo_layers=kept).logits, model(ids, mask).logits)


@pytest.mark.parametrize("head", [ELMoForSequenceClassification, ELMoForTokenClassification])
def test_kept_layers_stand_for_the_language_model(head):
    model = head(config(num_mixes=2, mix_layer_norm=True)).eval()
    ids, mask = torch.randint(60, (2, 5)), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    kept = torch.stack(model.model(ids, mask).hidden_states, dim=2)
    expected = model(ids, mask).logits
    model.model.forward_layers = None  # it would fail if it were run
    torch.testing.assert_close(model(attention_mask=mask, elmo_layers=kept).logits, expected)
    with pytest.raises(ValueError, match=r"elmo_layers.*3, 16.*\[2, 5, 2, 16\]"):
        model(attention_mask=mask, elmo_layers=kept[:, :, :2])


@pytest.mark.parametrize("loaded", [False, True])
def test_frozen_language_model_stays_as_it_is(loaded, tmp_path):
    model = ELMoForSequenceClassification(config(freeze_bilm=True, dropout=0.5)).train()
    if loaded:
        model.save_pretrained(tmp_path)
        model = ELMoForSequenceClassification.from_pretrained(tmp_path).train()
    assert {n.split(".")[1] for n, p in model.named_parameters() if not p.requires_grad} == {
        "token_layer",
        "forward_layers",
        "backward_layers",
    }
    ids = torch.randint(60, (2, 5))
    states = [model.model(ids).hidden_states for _ in range(2)]
    for first, second in zip(*states, strict=True):
        assert torch.equal(first, second)
        assert not first.requires_grad
    model(ids, labels=torch.tensor([0, 1])).loss.backward()
    learns = {name.removeprefix("model.").split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learns == {"mixes", "task_layer", "score"}
    # pretraining starts from the same configuration and trains it
    assert all(p.requires_grad for n, p in ELMoForPreTraining(model.config).named_parameters() if "mixes" not in n)


# pretraining


def test_each_direction_has_its_targets():
    model, ids = ELMoForPreTraining(config()).eval(), torch.randint(60, (2, 6))
    labels = ids.clone()
    labels[1, 4:] = -100
    outputs = model(ids, labels=labels)
    after, before = ids[:, 1:].clone(), ids[:, :-1].clone()
    after[1, 3:] = before[1, 4:] = -100
    forward = cross_entropy(outputs.logits[:, :-1].flatten(0, 1), after.flatten())
    backward = cross_entropy(outputs.backward_logits[:, 1:].flatten(0, 1), before.flatten())
    torch.testing.assert_close(outputs.forward_loss, forward)
    torch.testing.assert_close(outputs.backward_loss, backward)
    torch.testing.assert_close(outputs.loss, (forward + backward) / 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_neither_read_nor_predicted(side):
    model = ELMoForPreTraining(config()).eval()
    ids = torch.randint(60, (1, 4))
    alone = model(ids, labels=ids).loss
    padding = torch.zeros(1, 3, dtype=torch.long)
    mask = [padding, torch.ones_like(ids)]
    parts = [padding, ids]
    order = slice(None) if side == "left" else slice(None, None, -1)
    padded, mask = torch.cat(parts[order], 1), torch.cat(mask[order], 1)
    torch.testing.assert_close(model(padded, mask, labels=padded).loss, alone)


@pytest.mark.parametrize("token_layer", ["words", "characters"])
def test_streams_are_read_as_sentences_are(token_layer):
    """The backward stream holds the sentence from its end."""
    model = ELMoForPreTraining(config(token_layer=token_layer)).eval()
    ids, characters = torch.randint(60, (2, 6)), torch.randint(1, 262, (2, 6, 50))
    whole = model(ids, char_ids=characters, labels=ids)
    streamed = model(
        ids[:, :-1],
        char_ids=characters[:, :-1],
        shift_labels=ids[:, 1:],
        backward_input_ids=ids[:, 1:].flip(1),
        backward_char_ids=characters[:, 1:].flip(1),
        backward_shift_labels=ids[:, :-1].flip(1),
        use_cache=True,
    )
    for name in ("loss", "forward_loss", "backward_loss"):
        torch.testing.assert_close(streamed[name], whole[name])
    assert len(cache_of(streamed).layers) == 4


def test_sampled_softmax_is_for_training_only():
    model = ELMoForPreTraining(config(output_layer="sampled"))
    ids, negatives = torch.randint(60, (2, 6)), torch.randint(60, (9,))
    outputs = model.train()(ids, labels=ids, negative_ids=negatives)
    states = model.model(ids).hidden_states[-1]
    expected = sampled_softmax_loss(
        states[:, :-1, :8].flatten(0, 1), ids[:, 1:].flatten(), model.lm_head.weight, model.lm_head.bias, negatives
    )
    torch.testing.assert_close(outputs.forward_loss, expected.mean())
    backward = sampled_softmax_loss(
        states[:, 1:, 8:].flatten(0, 1), ids[:, :-1].flatten(), model.lm_head.weight, model.lm_head.bias, negatives
    )
    torch.testing.assert_close(outputs.backward_loss, backward.mean())
    torch.testing.assert_close(outputs.loss, (expected.mean() + backward.mean()) / 2)
    assert outputs.logits is None
    assert model(ids, negative_ids=negatives).loss is None
    full = model.eval()(ids, labels=ids, negative_ids=negatives)
    torch.testing.assert_close(
        full.forward_loss, cross_entropy(full.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )


def test_adaptive_softmax_is_exact():
    model = ELMoForPreTraining(config(output_layer="adaptive", adaptive_cutoffs=[10]))
    ids = torch.randint(60, (2, 6))
    trained, evaluated = model.train()(ids, labels=ids), model.eval()(ids, labels=ids)
    torch.testing.assert_close(trained.loss, evaluated.loss)
    torch.testing.assert_close(evaluated.logits.exp().sum(-1), torch.ones(2, 6))
    for wrong in ([], [30, 10], [10, 60]):
        with pytest.raises(StrictDataclassError, match="adaptive_cutoffs"):
            config(output_layer="adaptive", adaptive_cutoffs=wrong)


# the tasks


def test_chain_runs_over_labelled_tokens():
    model = ELMoForTokenClassification(config(use_crf=True)).eval()
    for parameter in model.crf.parameters():
        nn.init.normal_(parameter)
    ids = torch.randint(60, (1, 6))
    labels = torch.tensor([[-100, 1, -100, 2, 0, -100]])
    outputs = model(ids, labels=labels)
    kept = outputs.logits[:, [1, 3, 4]]
    expected = model.crf(kept, torch.tensor([[1, 2, 0]]), torch.tensor([3]))
    torch.testing.assert_close(outputs.loss, -expected[0] / 3)
    decoded = model.decode(outputs.logits, labels != -100)
    assert decoded[0, [1, 3, 4]].tolist() == model.crf.decode(kept, torch.tensor([3]))[0].tolist()
    assert decoded[0, [0, 2, 5]].tolist() == [-100] * 3


def test_words_have_vectors_of_their_own_beside_elmo():
    model = ELMoForTokenClassification(config(word_vector_size=5)).eval()
    ids = torch.randint(60, (2, 4))
    read = []
    model.task_layer.register_forward_pre_hook(lambda layer, args: read.append(args[0]))
    model(ids)
    assert torch.equal(read[0][..., :5], model.word_vectors(ids))
    assert torch.equal(read[0][..., 5:], model.model(ids).last_hidden_state)
    with pytest.raises(ValueError, match="input_ids is missing"):
        model(elmo_layers=torch.zeros(2, 4, 3, 16))


# the lineage: what a word's vector depends on


def test_only_the_layers_above_the_first_see_the_sentence():
    """ "Python" the animal and "Python" the language: one vector below, two above."""
    sentences = ["He got bit by Python .", "Python is my favorite programming language ."]
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = elmo_tokenizer(train_word_level(sentences, special_tokens=marks, show_progress=False))
    model = ELMoModel(ELMoConfig(**{**SIZES, "vocab_size": len(tokenizer)})).eval()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    rows, places = torch.nonzero(batch["input_ids"] == tokenizer.convert_tokens_to_ids("Python"), as_tuple=True)
    assert rows.tolist() == [0, 1]
    with torch.no_grad():
        layers = [layer[rows, places] for layer in model(**batch).hidden_states]
    assert torch.equal(*layers[0])
    for layer in layers[1:]:
        assert torch.cosine_similarity(*layer, dim=0) < 0.999


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cnn_filters": []}, "cnn_filters has 0 entries"),
        ({"cnn_filters": [[1, 2, 3]]}, r"entry \[1, 2, 3\]"),
        ({"cnn_filters": [[60, 2]]}, "max_characters 50"),
        ({"cell_clip": 0.0}, "cell_clip is 0.0"),
        ({"projection_clip": -1.0}, "projection_clip is -1.0"),
        ({"num_characters": 300}, "num_characters is 300"),
        ({"mix_l2": -0.1}, "mix_l2 is -0.1"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"adaptive_cutoffs": [10]}, "adaptive_cutoffs"),
        ({"token_layer": "bytes"}, "token_layer"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        config(**changes)
