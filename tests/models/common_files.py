"""Common tests: saved models, other number formats, a resized vocabulary."""

import pytest
import torch
import transformers

from tests.models.common_table import StationTable, assert_same_state, gradients, main_output, unless


class FileTests(StationTable):
    """What is saved is loaded, by every head, and with more or fewer words."""

    def test_saved_is_loaded_bit_by_bit(self, head, tmp_path, poisoned_memory):
        model, inputs = self.changed_model(head), self.inputs(head)
        model.save_pretrained(tmp_path)
        for loader in (type(model), getattr(transformers, head)):
            loaded, report = loader.from_pretrained(tmp_path, output_loading_info=True)
            assert type(loaded) is type(model)
            assert not any(report.values()), report
            assert not loaded.training
            assert_same_state(loaded, model)
            assert torch.equal(main_output(loaded(**inputs)), main_output(model(**inputs)))

    def test_every_head_opens_every_checkpoint(self, head, tmp_path, poisoned_memory):
        model = self.changed_model(head)
        model.save_pretrained(tmp_path / "checkpoint")
        for other in [other for other in self.heads if (other in self.apart) == (head in self.apart)]:
            loaded, report = getattr(transformers, other).from_pretrained(
                tmp_path / "checkpoint", output_loading_info=True
            )
            assert_same_state(loaded.base_model, model.base_model, self.optional_parts)
            body = "" if loaded is loaded.base_model else f"{loaded.base_model_prefix}."
            optional = tuple(f"{body}{part}" for part in self.optional_parts)
            missing = [name for name in report["missing_keys"] if name.startswith(body)]
            assert not [name for name in missing if not name.startswith(optional)], report
            # what a head leaves off of another one is no news
            assert not report["unexpected_keys"], report
            assert not report["mismatched_keys"]

            loaded.save_pretrained(tmp_path / other)
            again = getattr(transformers, head).from_pretrained(tmp_path / other)
            assert_same_state(again.base_model, model.base_model, self.optional_parts)

    def test_bfloat16(self, head, tmp_path):
        model, inputs = self.changed_model(head), self.inputs(head)
        model.save_pretrained(tmp_path)
        loaded = getattr(transformers, head).from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
        loss = self.objective(loaded, head, inputs)
        loss.backward()
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(loaded).values())
        output, expected = main_output(loaded(**inputs)), main_output(model(**inputs))
        assert output.dtype is torch.bfloat16
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())

    def test_mixed_precision(self, head):
        model, inputs = self.model(head).train(), self.inputs(head)
        expected = main_output(model(**inputs))
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.objective(model, head, inputs)
            output = main_output(model(**inputs))
        loss.backward()
        assert all(gradient.isfinite().all() for gradient in gradients(model).values())
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())

    @unless("no_resizing")
    @pytest.mark.parametrize("size", [67, 50])
    def test_resized_vocabulary(self, head, size, tmp_path):
        model = self.changed_model(head)
        inputs = {name: value % 50 for name, value in self.inputs(head).items()}
        expected = main_output(model(**inputs))
        model.resize_token_embeddings(size)
        assert model.config.vocab_size == size
        assert model.get_input_embeddings().weight.shape[0] == size

        output = main_output(model(**inputs))
        assert output.shape == self.expected_shape(head, model.config, 4, 7)
        shared = min(output.shape[-1], expected.shape[-1])
        torch.testing.assert_close(output[..., :shared], expected[..., :shared], rtol=0, atol=1e-6)

        model.save_pretrained(tmp_path)
        loaded, report = getattr(transformers, head).from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report.values()), report
        assert_same_state(loaded, model)
