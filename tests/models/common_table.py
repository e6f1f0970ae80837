"""A station's test table, and the tools that the common tests are made with."""

import functools
import math
from dataclasses import dataclass

import pytest
import torch
import transformers


# endings of parameters' names that some heads have, and why nothing depends on them
BIASES = {
    "qa_outputs.bias": "it is the same for all tokens, among which the softmax chooses",
    "scorer.bias": "it is the same for all choices, among which the softmax chooses",
}


@dataclass
class Distribution:
    """What a parameter starts from: its mean, its standard deviation and the largest distance from the mean."""

    mean: float
    std: float
    reach: float

    def check(self, name: str, parameter: torch.Tensor):
        distance, rounding = (parameter - self.mean).abs().max().item(), 1e-6 * abs(self.mean)
        assert distance <= self.reach + rounding, f"{name} lies {distance} from {self.mean}"
        n = parameter.numel()
        assert abs(parameter.mean().item() - self.mean) <= 6 * self.std / math.sqrt(n) + rounding, f"mean of {name}"
        if n >= 100:
            assert abs(parameter.std().item() - self.std) <= 6 * self.std / math.sqrt(n), f"spread of {name}"


def uniform(bound: float) -> Distribution:
    return Distribution(0.0, bound / math.sqrt(3), bound)


def normal(std: float) -> Distribution:
    return Distribution(0.0, std, 6 * std)


def constant(value: float) -> Distribution:
    return Distribution(value, 0.0, 0.0)


def unless(attribute: str):
    """Skips the test where the station's table gives a reason in `attribute`."""

    def decorate(test):
        @functools.wraps(test)
        def run(self, *args, **kwargs):
            if reason := getattr(self, attribute):
                pytest.skip(reason)
            return test(self, *args, **kwargs)

        return run

    return decorate


def main_output(outputs) -> torch.Tensor:
    """Logits of a head (the first, where there are several), last_hidden_state of a base model."""
    names = ("logits", "prediction_logits", "start_logits", "last_hidden_state")
    return next(outputs[name] for name in names if name in outputs)


def tensors(values) -> list[torch.Tensor]:
    """All tensors of a model's output in their order; caches have their own tests."""
    if isinstance(values, torch.Tensor):
        return [values]
    return [tensor for value in values if isinstance(value, torch.Tensor | tuple) for tensor in tensors(value)]


def gradients(model) -> dict[str, torch.Tensor]:
    """Of the parameters that the objective depends on; `test_every_parameter_gets_a_gradient` sees that all do."""
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    """The L2 distance of the whole gradients is 1e-6 of their length or less."""
    assert found.keys() == expected.keys()
    found, expected = (torch.cat([each[name].flatten() for name in sorted(each)]) for each in (found, expected))
    assert (found - expected).norm() <= 1e-6 * expected.norm()


def assert_same_state(model, reference, but: tuple[str, ...] = ()):
    """Equal parameters and buffers, bit by bit, those that are not saved included; `but` what starts with these."""
    for members in ("named_parameters", "named_buffers"):
        found, expected = (
            {name: tensor for name, tensor in getattr(each, members)() if not name.startswith(but)}
            for each in (model, reference)
        )
        assert found.keys() == expected.keys()
        for name in expected:
            assert torch.equal(found[name], expected[name]), name


class StationTable:
    """What a station's test table gives, and what its tests are made with."""

    config_class = None
    tiny = {}
    # the Auto classes to test, in place of all of the station's
    only_heads = None
    # heads whose tensors have the names of other heads' and other shapes: they open only their own checkpoints
    apart = ()

    no_attention = None
    no_attention_mask = None
    no_inputs_embeds = None
    no_gradient_checkpointing = None
    no_resizing = None

    # beginnings of the names of what only some heads have in the base model
    optional_parts = ()
    # endings of parameters' names, and why nothing depends on them
    without_effect = {}
    padding_sides = ("left", "right", "middle")
    # the tensor that counts one entry a token
    token_input = "input_ids"
    # where its tokens stand: behind the choices of a question, before the characters of a word
    time_axis = -1

    def pytest_generate_tests(self, metafunc):
        if "head" in metafunc.fixturenames:
            metafunc.parametrize("head", self.heads)
        if "trained_head" in metafunc.fixturenames:
            trained = [head for head in self.heads if self.labels(head, self.inputs(head))]
            metafunc.parametrize("trained_head", trained)
        if "compiled_head" in metafunc.fixturenames:
            # compiling takes seconds: the others run in the slow test, by inductor
            metafunc.parametrize("compiled_head", self.heads[:2])
        if "side" in metafunc.fixturenames:
            metafunc.parametrize("side", self.padding_sides)

    @pytest.fixture
    def poisoned_memory(self):
        """Memory that nobody initialised reads as NaN."""
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    # what a table gives

    def initialization(self, name: str, config) -> Distribution:
        """The distribution that the parameter `name` starts from."""
        raise NotImplementedError

    def inputs(self, head: str, batch: int = 4, length: int = 7) -> dict[str, torch.Tensor]:
        """Arguments of the head's forward: no two rows begin with the same token, so that a causal LM can learn it.

        A question has two choices [B, 2, T].
        """
        ids = torch.randint(self.tiny["vocab_size"], (batch, length))
        ids[:, :1] = torch.arange(batch)[:, None]
        if head == "AutoModelForMultipleChoice":
            ids = torch.stack([ids, ids.flip(1)], dim=1)
        return {"input_ids": ids}

    def labels(self, head: str, inputs: dict) -> dict[str, torch.Tensor]:
        """What the head learns to answer to these inputs; nothing for a base model."""
        ids = inputs[self.token_input]
        return {
            "AutoModelForCausalLM": {"labels": ids.clone()},
            "AutoModelForSequenceClassification": {"labels": torch.arange(ids.shape[0]) % self.tiny["num_labels"]},
            "AutoModelForMultipleChoice": {"labels": torch.arange(ids.shape[0]) % 2},
            "AutoModelForTokenClassification": {"labels": ids % self.tiny["num_labels"]},
            "AutoModelForQuestionAnswering": {
                "start_positions": torch.arange(ids.shape[0]) % max(ids.shape[1], 1),
                "end_positions": torch.arange(1, ids.shape[0] + 1) % max(ids.shape[1], 1),
            },
        }.get(head, {})

    def expected_shape(self, head: str, config, batch: int, length: int) -> tuple[int, ...]:
        """Shape of the head's main output."""
        return {
            "AutoModel": (batch, length, config.hidden_size),
            "AutoModelForCausalLM": (batch, length, config.vocab_size),
            "AutoModelForSequenceClassification": (batch, config.num_labels),
            "AutoModelForMultipleChoice": (batch, 2),
            "AutoModelForTokenClassification": (batch, length, config.num_labels),
            "AutoModelForQuestionAnswering": (batch, length),
        }[head]

    # tools

    @property
    def heads(self) -> list[str]:
        return self.only_heads or list(self.config_class.auto_classes)

    def config(self, **changes):
        return self.config_class(**{**self.tiny, **changes})

    def model(self, head: str, seed: int = 0, **changes):
        """A model with weights of its own for each seed, without dropout."""
        implementation = {"attn_implementation": changes.pop("attn_implementation", None)}
        transformers.set_seed(seed)
        return getattr(transformers, head).from_config(self.config(**changes), **implementation).eval()

    def changed_model(self, head: str, **changes):
        """A model whose parameters all differ from their initial values."""
        model = self.model(head, **changes)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor += 0.01 * torch.randn_like(tensor) if tensor.is_floating_point() else 0
        return model

    def dropouts(self, probability: float) -> dict[str, float]:
        return {name: probability for name in vars(self.config()) if name.endswith("dropout")}

    def objective(self, model, head: str, inputs: dict) -> torch.Tensor:
        """The head's loss, or for a base model a sum that gives every output its own weight."""
        labels = self.labels(head, inputs)
        outputs = model(**inputs, **labels)
        if labels:
            return outputs.loss
        weights = torch.linspace(-1, 1, outputs[0].numel()).view_as(outputs[0])
        return (outputs[0] * weights.to(outputs[0].dtype)).sum()

    def padded(self, inputs: dict, lengths: list[int], side: str) -> tuple[dict, list[torch.Tensor]]:
        """The inputs with only `lengths[b]` tokens left in row b, and where each row's tokens now stand."""
        ids = inputs[self.token_input]
        columns = torch.arange(ids.shape[-1])
        kept = {
            "left": [columns[ids.shape[-1] - length :] for length in lengths],
            "right": [columns[:length] for length in lengths],
            "middle": [torch.randperm(ids.shape[-1])[:length].sort().values for length in lengths],
        }[side]
        mask = torch.zeros_like(ids)
        for row, positions in enumerate(kept):
            mask[row, ..., positions] = 1
        return {**inputs, "attention_mask": mask}, kept

    def in_rows(self, inputs: dict) -> dict:
        """The inputs with each choice of a question in a row of its own, as the base model reads them."""
        return {name: value.flatten(0, -2) for name, value in inputs.items()}

    def alone(self, inputs: dict, row: int, positions: torch.Tensor) -> dict:
        """One row of the inputs without its padding."""
        return {self.token_input: inputs[self.token_input][row, None].index_select(self.time_axis, positions)}

    def at_tokens(self, output: torch.Tensor, row: int, positions: torch.Tensor) -> torch.Tensor:
        """What one row's tokens gave: their vectors, or the row's only one."""
        return output[row, positions] if output.shape[:2] == (4, 7) else output[row]
