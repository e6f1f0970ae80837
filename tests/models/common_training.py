"""Common tests: gradients, learning, compilation, accumulation."""

import pytest
import torch
import transformers
from transformers import Trainer, TrainingArguments

from tests.models.common_table import BIASES, StationTable, gradients, unless


class TrainingTests(StationTable):
    """A head learns, and its gradients are the same compiled, checkpointed or accumulated."""

    def test_every_parameter_gets_a_gradient(self, head):
        # not as it starts: what is multiplied by a zero has no gradient yet
        model = self.changed_model(head).train()
        self.objective(model, head, self.inputs(head)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if not name.endswith((*BIASES, *self.without_effect)):
                assert parameter.grad.abs().max() > 0, name

    def test_learns_one_batch_by_heart(self, trained_head):
        model, inputs = self.model(trained_head).train(), self.inputs(trained_head)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(200):
            loss = self.objective(model, trained_head, inputs)
            if loss < 0.1:
                return
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pytest.fail(f"loss {loss.item():.3f} after 200 steps")

    @unless("no_gradient_checkpointing")
    def test_gradient_checkpointing_changes_nothing(self, head):
        model, inputs = self.model(head, **self.dropouts(0.2)).train(), self.inputs(head)
        results = []
        for checkpointing in (False, True):
            if checkpointing:
                model.activation_checkpointing_enable()
                assert model.is_activation_checkpointing
            model.zero_grad()
            transformers.set_seed(3)
            loss = self.objective(model, head, inputs)
            loss.backward()
            results.append({"loss": loss.detach(), **gradients(model)})
        torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)

    def test_compiled_is_eager(self, compiled_head):
        self.check_compiled(compiled_head, self.inputs(compiled_head), "aot_eager")

    @unless("no_attention_mask")
    def test_compiled_is_eager_on_padding(self):
        inputs, _ = self.padded(self.inputs("AutoModel"), [7, 5, 0, 1], "left")
        self.check_compiled("AutoModel", inputs, "aot_eager")

    @pytest.mark.slow
    def test_compiled_by_inductor_is_eager(self, head):
        self.check_compiled(head, self.inputs(head), "inductor")

    def check_compiled(self, head: str, inputs: dict, backend: str):
        torch.compiler.reset()
        model = self.model(head).train()
        results = []
        for compiled in (False, True):
            if compiled:
                model.forward = torch.compile(model.forward, backend=backend)
            model.zero_grad()
            loss = self.objective(model, head, inputs)
            loss.backward()
            results.append({"loss": loss.detach(), **gradients(model)})
        # inductor adds in another order
        atol = 5e-6 if backend == "inductor" else 1e-6
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=atol)

    def test_accumulated_gradients_are_those_of_the_whole_batch(self, trained_head, tmp_path):
        inputs = self.inputs(trained_head, batch=16)
        labels = self.labels(trained_head, inputs)
        for value in labels.values():
            if value.dim() == 2:
                # between one and seven labels a row
                value.masked_fill_(torch.arange(7) > torch.arange(16)[:, None] % 7, -100)
        self.check_accumulation(lambda: self.model(trained_head), {**inputs, **labels}, tmp_path)

    @pytest.mark.parametrize(("problem", "num_labels"), [("regression", 1), ("multi_label_classification", 3)])
    def test_accumulated_gradients_of_other_classification_losses(self, problem, num_labels, tmp_path):
        head = "AutoModelForSequenceClassification"
        if head not in self.heads:
            pytest.skip("the station does not classify texts")
        labels = torch.rand(16, num_labels).round() if num_labels > 1 else torch.rand(16)
        self.check_accumulation(
            lambda: self.model(head, problem_type=problem, num_labels=num_labels),
            {**self.inputs(head, batch=16), "labels": labels},
            tmp_path,
        )

    def check_accumulation(self, new_model, data: dict[str, torch.Tensor], folder):
        """Batches of 8 and accumulated batches of 4 x 2 give the same losses and the same model."""
        examples = [{name: value[row] for name, value in data.items()} for row in range(16)]
        (whole, whole_losses), (parts, parts_losses) = (
            self.train(new_model(), examples, folder, batch_size, accumulation)
            for batch_size, accumulation in ((8, 1), (2, 4))
        )
        assert parts_losses == pytest.approx(whole_losses, abs=1e-5)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)

    def train(self, model, examples: list[dict], folder, batch_size: int, accumulation: int):
        """State and logged losses after two passes over the examples by plain gradient descent."""
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=2,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            optim="sgd",
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(model, arguments, train_dataset=examples)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert len(losses) == 2 * len(examples) // (batch_size * accumulation)
        assert any(not torch.equal(start[name], tensor) for name, tensor in model.state_dict().items())
        return model.state_dict(), losses
