"""What every head of every station says of labels, ids, vectors and positions that it cannot use: one rule for all."""

import copy
import inspect

import pytest
import torch

from tests.models.stations import STATIONS, TABLES, model_and_tokenizer, tokenizers_of_kinds


HEADS = [(station, head) for station in STATIONS for head in TABLES[station].heads]
LABELS = [
    (station, head, name)
    for station, head in HEADS
    for name in TABLES[station].labels(head, TABLES[station].inputs(head))
]
OF_ANSWERS = ("start_positions", "end_positions")


@pytest.fixture(scope="module")
def models():
    """(station, head) -> the station's table and a model, made once."""
    found = {}

    def of(station, head):
        if (station, head) not in found:
            found[station, head] = TABLES[station], TABLES[station].changed_model(head)
        return found[station, head]

    return of


def changed(labels, value):
    labels = labels.clone()
    labels.flatten()[-1] = value
    return labels


@pytest.mark.reliability("C8")
@pytest.mark.parametrize(("station", "head", "name"), LABELS)
def test_labels_that_are_no_classes(station, head, name, models):
    table, model = models(station, head)
    inputs = table.inputs(head)
    labels = table.labels(head, inputs)

    def refused(value, message):
        # the first batch decides it where the configuration does not
        model.config.problem_type = "single_label_classification"
        with pytest.raises(ValueError, match=message):
            model(**inputs, **{**labels, name: value})

    refused(labels[name].float(), f"{name}.*torch.float32")
    refused(labels[name].bool(), f"{name}.*torch.bool")
    refused(labels[name].tolist(), f"(labels|{name}).*list")
    refused(labels[name][:-1], "(?i)labels|positions|label")
    if name in OF_ANSWERS:
        # where no answer stands, such as after truncation, nothing is scored
        assert model(**inputs, **{**labels, name: torch.full_like(labels[name], 99_999)}).loss.isfinite()
    else:
        refused(changed(labels[name], 99_999), f"{name} has 99999.*between 0 and")
        refused(changed(labels[name], -1), f"{name} has -1.*between 0 and.*-100")


@pytest.mark.reliability("C8")
@pytest.mark.parametrize(("station", "head", "name"), LABELS)
def test_integers_of_every_width_are_labels(station, head, name, models):
    table, model = models(station, head)
    inputs = table.inputs(head)
    labels = table.labels(head, inputs)
    model.config.problem_type = "single_label_classification"
    losses = [model(**inputs, **{**labels, name: labels[name].to(dtype)}).loss for dtype in (torch.int64, torch.int32)]
    assert torch.equal(*losses)


@pytest.mark.reliability("A10")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("station", "head"), sorted({(station, head) for station, head, _ in LABELS}))
def test_without_a_label_nothing_is_learned(station, head, training, models):
    """The loss is 0, and so is every gradient: no NaN, and no other rule for one of the heads."""
    table, model = models(station, head)
    inputs = table.inputs(head)
    labels = {name: torch.full_like(value, -100) for name, value in table.labels(head, inputs).items()}
    model.config.problem_type = "single_label_classification"
    model.train(training)
    try:
        loss = model(**inputs, **labels).loss
        assert loss.item() == 0
        model.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all((gradient == 0).all() for gradient in gradients)
    finally:
        model.eval()
        model.zero_grad()


@pytest.mark.reliability("C14")
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.uint8])
@pytest.mark.parametrize(("station", "head"), HEADS)
def test_ids_that_are_no_integers(station, head, dtype, models):
    table, model = models(station, head)
    inputs = table.inputs(head)
    if "input_ids" not in inputs:
        pytest.skip(f"{station} reads {table.token_input}")
    # words of one character class each: any value fits
    with pytest.raises(ValueError, match=f"input_ids must be an integer tensor.*{dtype}"):
        model(**{**inputs, "input_ids": inputs["input_ids"].to(dtype)})


@pytest.mark.reliability("C14")
@pytest.mark.parametrize(("station", "head"), HEADS)
def test_vectors_that_are_not_finite(station, head, models):
    table, model = models(station, head)
    if table.no_inputs_embeds:
        pytest.skip(table.no_inputs_embeds)
    inputs = table.inputs(head)
    vectors = model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"inputs_embeds.*{value}.*finite"):
            model(**inputs, inputs_embeds=changed(vectors, value))
    with pytest.raises(ValueError, match="inputs_embeds must be a floating-point tensor.*int64"):
        model(**inputs, inputs_embeds=vectors.long())


@pytest.mark.reliability("C6")
@pytest.mark.parametrize(("station", "head"), HEADS)
def test_positions_that_no_vector_has(station, head, models):
    table, model = models(station, head)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        pytest.skip(f"{station} takes no positions")
    inputs = table.inputs(head)
    ids = inputs["input_ids"]
    positions = torch.arange(ids.shape[-1]).expand(ids.shape)
    for value in (-1, 10**6):
        with pytest.raises(ValueError, match="position"):
            model(**inputs, position_ids=changed(positions, value))
    with pytest.raises(ValueError, match="position_ids must be an integer tensor.*float32"):
        model(**inputs, position_ids=positions.float())


@pytest.fixture(scope="module")
def tokenizers(tiny_tokenizer, tiny_corpus):
    return tokenizers_of_kinds(copy.deepcopy(tiny_tokenizer), tiny_corpus)


@pytest.mark.reliability("C1", "C9", "C10")
@pytest.mark.parametrize("text", ["", " \t\n", "\0", "\ufeff"], ids=["empty", "blanks", "NUL", "byte order mark"])
@pytest.mark.parametrize("station", STATIONS)
def test_texts_without_words_are_read(station, text, tokenizers):
    """Beside another text they change nothing; alone they give one vector per token, and often there is none."""
    model, tokenizer = model_and_tokenizer(station, "AutoModel", tokenizers)

    def states(*texts):
        encoded = tokenizer([*texts], padding=True, return_tensors="pt").to(model.device)
        encoded = {name: encoded[name] for name in (TABLES[station].token_input, "attention_mask")}
        if model.config.is_encoder_decoder:
            target = encoded["input_ids"].new_full((len(texts), 1), model.config.decoder_start_token_id)
            encoded["decoder_input_ids"] = target
        with torch.no_grad():
            return model(**encoded).last_hidden_state, encoded["attention_mask"].bool()

    word = "the dog"
    alone, mask_alone = states(word)
    both, mask = states(word, text)
    assert both.isfinite().all()
    if model.config.is_encoder_decoder:
        torch.testing.assert_close(both[:1], alone)
    else:
        torch.testing.assert_close(both[0][mask[0]], alone[0][mask_alone[0]])
    only, mask = states(text)
    assert only.isfinite().all()
    assert only.shape[0] == 1
    assert model.config.is_encoder_decoder or only.shape[1] == mask.shape[1]
