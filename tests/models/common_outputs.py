"""Common tests: shapes, hidden states and attentions."""

import pytest
import torch

from tests.models.common_table import StationTable, gradients, main_output, tensors, unless


class OutputTests(StationTable):
    """What a forward gives, however it is asked."""

    def test_output_shapes(self, head):
        model, inputs = self.model(head), self.inputs(head, batch=3, length=5)
        outputs = model(**inputs, **self.labels(head, inputs))
        assert main_output(outputs).shape == self.expected_shape(head, model.config, 3, 5)
        if self.labels(head, inputs):
            assert outputs.loss.shape == ()
            assert model(**inputs).loss is None

    def test_tuple_is_dictionary(self, head):
        model, inputs = self.model(head), self.inputs(head)
        arguments = {**inputs, **self.labels(head, inputs), "output_hidden_states": True}
        named, plain = model(**arguments), model(**arguments, return_dict=False)
        assert isinstance(plain, tuple)
        torch.testing.assert_close(tensors(plain), tensors(named.to_tuple()), rtol=0, atol=0)

    def test_configuration_asks_for_hidden_states(self, head):
        model, inputs = self.model(head), self.inputs(head)
        asked = model(**inputs, output_hidden_states=True)
        model.config.output_hidden_states = True
        found = model(**inputs)
        assert found.keys() == asked.keys()
        torch.testing.assert_close(tensors(found.to_tuple()), tensors(asked.to_tuple()), rtol=0, atol=0)

    @pytest.mark.parametrize("use_cache", [None, False, True])
    def test_every_head_takes_use_cache(self, head, use_cache):
        model, inputs = self.model(head), self.inputs(head)
        assert torch.equal(main_output(model(**inputs, use_cache=use_cache)), main_output(model(**inputs)))

    def test_layers_compute_what_their_class_says(self, head):
        """Tools that find layers by their class (adapters, quantization) replace or merge them by its equation."""
        for name, module in self.model(head).named_modules():
            for kind in (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.LayerNorm):
                if isinstance(module, kind):
                    x = torch.randn(2, module.weight.shape[-1])
                    if kind is torch.nn.Conv1d:
                        x = torch.randn(2, module.weight.shape[1], module.weight.shape[2] + 8)
                    elif kind is torch.nn.Embedding:
                        x = torch.tensor([[0, 1]])
                    assert torch.equal(module(x), kind.forward(module, x)), name

    def test_rows_do_not_see_each_other(self, head):
        model, inputs = self.model(head), self.inputs(head)
        together = main_output(model(**inputs))
        for row in range(4):
            alone = main_output(model(**{name: value[row : row + 1] for name, value in inputs.items()}))
            torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)

    @pytest.mark.reliability("C9")
    @pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0), (0, 0)])
    def test_empty_batch_and_empty_texts(self, head, batch, length):
        model, inputs = self.model(head), self.inputs(head)
        inputs = {name: value[:batch].narrow(self.time_axis, 0, length) for name, value in inputs.items()}
        assert main_output(model(**inputs)).shape == self.expected_shape(head, model.config, batch, length)

    @unless("no_inputs_embeds")
    def test_inputs_embeds_are_input_ids(self, head):
        model, inputs = self.model(head), self.inputs(head)
        expected = main_output(model(**inputs))
        vectors = model.get_input_embeddings()(inputs.pop("input_ids"))
        torch.testing.assert_close(main_output(model(**inputs, inputs_embeds=vectors)), expected, rtol=0, atol=0)

    def test_hidden_states(self, head):
        model, inputs = self.model(head), self.inputs(head)
        states = model(**inputs, output_hidden_states=True).hidden_states
        last = model.base_model(**self.in_rows(inputs)).last_hidden_state
        assert len(states) == model.config.num_hidden_layers + 1
        assert all(state.shape[:2] == last.shape[:2] for state in states)
        assert torch.equal(states[-1], last)

    @unless("no_attention")
    def test_attentions(self, head):
        model = self.model(head, attn_implementation="eager")
        inputs, _ = self.padded(self.inputs(head), [7, 5, 2, 1], "right")
        attentions = model(**inputs, output_attentions=True).attentions
        assert len(attentions) == model.config.num_hidden_layers
        mask = self.in_rows(inputs)["attention_mask"]
        for weights in attentions:  # [B, H, T, S]
            assert (weights * (mask == 0)[:, None, None]).abs().max() == 0
            assert weights.shape == (len(mask), model.config.num_attention_heads, 7, 7)
            torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
            if head == "AutoModelForCausalLM":
                assert weights.triu(1).abs().max() == 0

    @unless("no_attention")
    @pytest.mark.parametrize("padding", [False, True])
    def test_eager_is_sdpa(self, head, padding):
        inputs = self.inputs(head)
        if padding:
            inputs, _ = self.padded(inputs, [7, 4, 1, 0], "left")
        results = []
        for implementation in ("eager", "sdpa"):
            model = self.model(head, attn_implementation=implementation)
            assert model.config._attn_implementation == implementation
            output = main_output(model(**inputs))
            read = output
            if padding:
                # a row without tokens has no defined vectors
                tokens = inputs["attention_mask"]
                tokens = tokens if output.shape[:2] == tokens.shape else tokens.amax(-1)
                read = output * tokens.view(tokens.shape + (1,) * (output.dim() - tokens.dim()))
            (read * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
            results.append({"output": read.detach(), **gradients(model)})
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
