"""GPT: the common tests, its limit of positions, and what generate() may do with a cache that can be rolled back."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_lineage import GPTConfig
from hf_lineage.models import reading
from tests.models.common import constant, gradients, main_output, normal
from tests.models.common_generation import HEAD, CausalLMTests


class TestGPT(CausalLMTests):
    config_class = GPTConfig
    tiny = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.0,
        "initializer_range": 0.3,
        "num_labels": 3,
    }

    without_effect = {"k_proj.bias": "softmax does not change when all scores of a query rise alike"}

    def initialization(self, name, config):
        if name.endswith("bias"):
            return constant(0.0)
        return constant(1.0) if "norm" in name else normal(config.initializer_range)

    @pytest.mark.parametrize("as_vectors", [False, True])
    def test_more_tokens_than_positions(self, head, as_vectors):
        model, inputs = self.model(head), self.inputs(head, length=33)
        if as_vectors:
            inputs = {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
        with pytest.raises(
            ValueError, match=r"33 tokens.*32 positions.*max_position_embeddings.*truncation=True, max_length=32"
        ):
            model(**inputs)

    def test_padding_takes_no_position(self, head):
        model = self.model(head)
        inputs, _ = self.padded(self.inputs(head, length=33), [32, 5, 2, 1], "left")
        assert main_output(model(**inputs)).shape == self.expected_shape(head, model.config, 4, 33)

    def test_hidden_size_is_a_multiple_of_heads(self):
        with pytest.raises(StrictDataclassError, match="hidden_size 65.*num_attention_heads 2"):
            self.config(hidden_size=65)

    def test_guesses_of_an_assistant_change_nothing(self):
        model, inputs = self.model(HEAD), self.inputs(HEAD, batch=1)
        expected = self.generate(model, inputs)
        assert torch.equal(self.generate(model, inputs, prompt_lookup_num_tokens=2), expected)

    # fine-tuning

    @pytest.mark.parametrize("judge", ["AutoModelForSequenceClassification", "AutoModelForMultipleChoice"])
    def test_fine_tuning_adds_the_mean_language_model_loss_of_the_texts(self, judge, side):
        model, plain = self.model(judge, lm_loss_weight=0.3), self.model(judge, lm_loss_weight=0)
        plain.load_state_dict(model.state_dict())
        language_model = self.model(HEAD)
        language_model.model.load_state_dict(model.model.state_dict())

        inputs, kept = self.padded(self.inputs(judge), [7, 5, 2, 1], side)
        labels = self.labels(judge, inputs)
        texts = [
            text
            for row, places in enumerate(kept)
            for text in inputs["input_ids"][row, ..., places].view(-1, len(places))
        ]
        # a text of one token leaves nothing to predict
        losses = [language_model(text[None], labels=text[None]).loss if len(text) > 1 else 0.0 for text in texts]
        expected = plain(**inputs, **labels).loss + 0.3 * sum(losses) / len(losses)
        torch.testing.assert_close(model(**inputs, **labels).loss, expected)

    def test_vectors_do_not_say_which_token_comes_next(self):
        model, inputs = (
            self.model("AutoModelForSequenceClassification"),
            self.inputs("AutoModelForSequenceClassification"),
        )
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        with pytest.raises(ValueError, match=r"lm_loss_weight is 0\.5.*inputs_embeds.*input_ids.*lm_loss_weight to 0"):
            model(inputs_embeds=vectors, labels=torch.zeros(4, dtype=torch.long))

    def test_vectors_of_both_orders_are_added(self):
        model = self.model("AutoModelForSequenceClassification")
        inputs, _ = self.padded(self.inputs("AutoModelForMultipleChoice"), [7, 5, 2, 1], "right")
        first, second = (
            model(ids, mask).logits for ids, mask in zip(*(x.unbind(1) for x in inputs.values()), strict=True)
        )
        torch.testing.assert_close(model(**inputs).logits, first + second - model.classifier.bias)

    def test_choices_share_their_dropout(self):
        head = "AutoModelForMultipleChoice"
        model, ids = self.model(head, classifier_dropout=0.5).train(), self.inputs(head)["input_ids"]
        alike = model(ids[:1, :1].expand(50, 3, 7)).logits
        torch.testing.assert_close(alike, alike[:, :1].expand(50, 3))
        assert len(alike[:, 0].unique()) > 10

    def test_choices_have_a_dimension(self):
        with pytest.raises(ValueError, match=r"\[batch, choices, time\], not \[4, 7\]"):
            self.model("AutoModelForMultipleChoice")(**self.inputs(HEAD))

    # switches

    def test_dropped_entries_of_the_tables(self):
        def vectors(of):
            # the first token sees nothing but itself
            model = self.model("AutoModel", embedding_dropout=0.5, embedding_dropout_of=of).train()
            return model(torch.tensor([[1, 2], [1, 3]])).last_hidden_state[:, 0]

        alike, different = vectors("tables"), vectors("vectors")
        assert torch.equal(alike[0], alike[1])
        assert not torch.equal(different[0], different[1])

    def test_output_layer_has_the_dropped_entries(self):
        model, inputs = self.model(HEAD, embedding_dropout=0.5, embedding_dropout_of="tables"), self.inputs(HEAD)
        assert torch.equal(model(**inputs).logits, self.model(HEAD)(**inputs).logits)
        model.train()
        torch.manual_seed(3)
        tokens, positions = model.model.embed_tokens, model.model.embed_positions
        tables = tokens.of_one_step(), positions.of_one_step()
        for table, embedding in zip(tables, (tokens, positions), strict=True):
            dropped = table == 0
            assert 0.4 < dropped.float().mean() < 0.6
            torch.testing.assert_close(table[~dropped], 2 * embedding.weight[~dropped])
        plain = self.model(HEAD, tie_word_embeddings=False)
        plain.load_state_dict({**model.state_dict(), "lm_head.weight": tables[0].detach()})
        plain.model.embed_tokens.weight.data, plain.model.embed_positions.weight.data = (
            table.detach() for table in tables
        )
        torch.manual_seed(3)
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits)

    @pytest.mark.parametrize(("name", "approximate"), [("gelu_new", "tanh"), ("gelu", "none")])
    def test_both_forms_of_the_gelu(self, name, approximate):
        activation, x = (
            self.model(HEAD, hidden_act=name).model.blocks[0].feed_forward.activation,
            torch.linspace(-4, 4, 99),
        )
        torch.testing.assert_close(
            activation(x), torch.nn.functional.gelu(x, approximate=approximate), rtol=0, atol=1e-6
        )

    def test_weight_of_the_language_model_is_not_negative(self):
        with pytest.raises(StrictDataclassError, match="lm_loss_weight is -0.5"):
            self.config(lm_loss_weight=-0.5)

    # packed documents

    def packed(self):
        """Two rows of documents: 5 + 2 tokens and 3 + 1 + 3; ids, positions and labels without the first of each."""
        ids = torch.randint(60, (2, 7))
        positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 0, 0, 1, 2]])
        return ids, positions, ids.masked_fill(positions == 0, -100)

    @pytest.mark.parametrize("tied", [True, False])
    def test_packed_documents_learn_as_with_a_mask_and_as_alone(self, tied):
        ids, positions, labels = self.packed()
        results = []
        for implementation in ("sdpa", "eager"):
            model = self.model(HEAD, attn_implementation=implementation, tie_word_embeddings=tied)
            loss = model(ids, position_ids=positions, labels=labels, use_cache=False).loss
            loss.backward()
            results.append({"loss": loss.detach(), **gradients(model)})
        model = self.model(HEAD, tie_word_embeddings=tied)
        documents = [ids[0, :5], ids[0, 5:], ids[1, :3], ids[1, 3:4], ids[1, 4:]]
        total = sum(
            model(document[None], labels=document[None]).loss * (len(document) - 1)
            for document in documents
            if len(document) > 1
        )
        loss = total / sum(len(document) - 1 for document in documents)
        loss.backward()
        results.append({"loss": loss.detach(), **gradients(model)})
        torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(results[0], results[2], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("implementation", ["sdpa", "eager"])
    def test_documents_in_one_row_are_those_of_several(self, implementation):
        model, (ids, positions, labels) = self.model(HEAD, attn_implementation=implementation), self.packed()
        expected = model(ids, position_ids=positions, labels=labels, use_cache=False)
        bounds = torch.tensor([0, 5, 7, 10, 11, 14], dtype=torch.int32)
        # the labels of first tokens are left out by the model
        found = model(ids.view(1, 14), cu_seq_lens_q=bounds, labels=ids.view(1, 14), use_cache=False)
        torch.testing.assert_close(found.logits.view(2, 7, 60), expected.logits)
        torch.testing.assert_close(found.loss, expected.loss)
        with pytest.raises(ValueError, match="from 0 .* 14"):
            model(ids.view(1, 14), cu_seq_lens_q=bounds - 1)

    def test_packed_documents_need_no_mask(self, monkeypatch):
        model, (ids, positions, _) = self.model(HEAD), self.packed()
        monkeypatch.setattr(reading, "create_causal_mask", lambda *_, **__: pytest.fail("made a mask"))
        model(ids, position_ids=positions, use_cache=False)

    def test_hidden_states_of_packed_documents(self):
        model, (ids, positions, _) = self.model(HEAD), self.packed()
        states = model(ids, position_ids=positions, use_cache=False, output_hidden_states=True).hidden_states
        expected = model(ids[:1, 5:], output_hidden_states=True).hidden_states
        for found, alone in zip(states, expected, strict=True):
            torch.testing.assert_close(found[:1, 5:], alone)
