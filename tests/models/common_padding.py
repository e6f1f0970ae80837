"""Common tests: padding, and inputs that are refused."""

import pytest
import torch

from tests.models.common_table import StationTable, gradients, main_output, unless


class PaddingTests(StationTable):
    """Padding changes nothing, wherever it stands; what is no padding or no word is named."""

    @unless("no_attention_mask")
    def test_padding_changes_nothing(self, head, side):
        model = self.model(head)
        inputs, kept = self.padded(self.inputs(head), [7, 5, 2, 1], side)
        batch = main_output(model(**inputs))
        for row, positions in enumerate(kept):
            alone = main_output(model(**self.alone(inputs, row, positions)))[0]
            torch.testing.assert_close(self.at_tokens(batch, row, positions), alone, rtol=1e-5, atol=1e-5)

    @unless("no_attention_mask")
    def test_content_of_padding_is_not_read(self, head, side):
        model = self.model(head)
        inputs, kept = self.padded(self.inputs(head), [7, 5, 2, 1], side)
        ids, mask = inputs[self.token_input], inputs["attention_mask"]
        other = {**inputs, self.token_input: torch.where(mask.bool(), ids, (ids + 11) % self.tiny["vocab_size"])}
        first, second = main_output(model(**inputs)), main_output(model(**other))
        for row, positions in enumerate(kept):
            assert torch.equal(self.at_tokens(first, row, positions), self.at_tokens(second, row, positions))

    @pytest.mark.reliability("C10")
    @unless("no_attention_mask")
    def test_row_of_padding_is_harmless(self, head):
        model = self.model(head)
        inputs, kept = self.padded(self.inputs(head), [7, 0, 3, 0], "right")
        loss = self.objective(model, head, inputs)
        loss.backward()
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(model).values())
        output = main_output(model(**inputs))
        assert output.isfinite().all()
        for row in (0, 2):
            alone = main_output(model(**self.alone(inputs, row, kept[row])))[0]
            torch.testing.assert_close(self.at_tokens(output, row, kept[row]), alone, rtol=1e-5, atol=1e-5)

    @unless("no_attention_mask")
    def test_batch_of_nothing_but_padding_is_harmless(self, head):
        model = self.model(head)
        inputs, _ = self.padded(self.inputs(head), [0, 0, 0, 0], "right")
        assert main_output(model(**inputs)).isfinite().all()

    # bad inputs

    @pytest.mark.reliability("C7", "C14")
    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            ([[1, 2, 60]], r"\[0, 2\] is 60\b.*0 and 59"),
            ([[1, 2], [-1, 2]], r"\[1, 0\] is -1\b.*0 and 59"),
            ([[1.0, 2.0]], r"integer.*\[batch, time\].*float32 \[1, 2\]"),
            ([1, 2], r"integer.*\[batch, time\].*int64 \[2\]"),
        ],
    )
    def test_bad_ids_are_named(self, head, ids, message):
        assert self.tiny["vocab_size"] == 60
        model, ids = self.model(head), torch.tensor(ids)
        with pytest.raises(ValueError, match=f"{self.token_input}.*{message}"):
            model(**{**self.inputs(head), self.token_input: ids})

    @pytest.mark.reliability("C14")
    def test_ids_must_be_a_tensor(self, head):
        with pytest.raises(ValueError, match=f"{self.token_input}.*\\[batch, time\\].*list"):
            self.model(head)(**{**self.inputs(head), self.token_input: [[1, 2]]})

    @unless("no_inputs_embeds")
    def test_ids_or_embeds_but_not_both(self, head):
        model, inputs = self.model(head), self.inputs(head)
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        with pytest.raises(ValueError, match="input_ids.*inputs_embeds"):
            model(**inputs, inputs_embeds=vectors)
        inputs.pop("input_ids")
        with pytest.raises(ValueError, match="input_ids.*inputs_embeds"):
            model(**inputs)
        with pytest.raises(ValueError, match=rf"inputs_embeds.*{vectors.shape[-1]}.*\[\d, 7, 3\]"):
            model(**inputs, inputs_embeds=vectors[..., :3])

    @pytest.mark.reliability("C12")
    @unless("no_attention_mask")
    @pytest.mark.parametrize("length", [5, 9])
    def test_mask_of_wrong_length_is_named(self, head, length):
        inputs = self.inputs(head)
        ids = inputs[self.token_input]
        inputs["attention_mask"] = ids.new_ones(*ids.shape[: self.time_axis], length)
        with pytest.raises(ValueError, match=f"attention_mask covers {length} tokens.*7"):
            self.model(head)(**inputs)

    @pytest.mark.reliability("C12")
    @unless("no_attention_mask")
    def test_mask_of_another_batch_is_named(self, head):
        model, inputs = self.model(head), self.inputs(head)
        for shape in ((1, 7), (3, 7), (7,)):
            mask = torch.ones(shape, dtype=torch.long)
            mask[..., :2] = 0
            with pytest.raises(ValueError, match="attention_mask"):
                model(**inputs, attention_mask=mask)
