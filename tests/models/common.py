"""What must hold for every station: its test table inherits `ModelTests`.

A table names its configuration, the sizes of a tiny model and how its weights start:

    class TestLSTM(ModelTests):
        config_class = LSTMConfig
        tiny = {"vocab_size": 60, "hidden_size": 16, ...}

        def initialization(self, name, config):
            return uniform(config.initializer_range)

and overrides `inputs`, `labels` or `expected_shape` where its heads differ from the usual ones. What a station cannot
do stands in a `no_...` attribute as the reason, with which the tests concerned are skipped.

A test that asks for `head` runs once for each of the station's Auto classes, one that asks for `trained_head` once for
each that has an objective.
"""

from tests.models.common_configuration import ConfigurationTests
from tests.models.common_files import FileTests
from tests.models.common_outputs import OutputTests
from tests.models.common_padding import PaddingTests
from tests.models.common_pipelines import PipelineTests
from tests.models.common_table import (
    Distribution,
    assert_same_gradients,
    assert_same_state,
    constant,
    gradients,
    main_output,
    normal,
    tensors,
    uniform,
    unless,
)
from tests.models.common_training import TrainingTests


__all__ = [
    "Distribution",
    "ModelTests",
    "assert_same_gradients",
    "assert_same_state",
    "constant",
    "gradients",
    "main_output",
    "normal",
    "tensors",
    "uniform",
    "unless",
]


class ModelTests(ConfigurationTests, OutputTests, PaddingTests, FileTests, TrainingTests, PipelineTests):
    """Tests of every head of one station."""
<<<<<<< HEAD
=======

    config_class = None
    tiny = {}
    # the Auto classes to test, in place of all of the station's
    only_heads = None

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
        }.get(head, {})

    def expected_shape(self, head: str, config, batch: int, length: int) -> tuple[int, ...]:
        """Shape of the head's main output."""
        return {
            "AutoModel": (batch, length, config.hidden_size),
            "AutoModelForCausalLM": (batch, length, config.vocab_size),
            "AutoModelForSequenceClassification": (batch, config.num_labels),
            "AutoModelForMultipleChoice": (batch, 2),
            "AutoModelForTokenClassification": (batch, length, config.num_labels),
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
        """A model of which no parameter has the value it starts from."""
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
        return output[row, positions] if output.dim() == 3 else output[row]

    # configuration

    def test_configuration_survives_dictionaries_and_files(self, tmp_path):
        config = self.config(pad_token_id=3)
        assert self.config_class.from_dict(config.to_dict()).to_dict() == config.to_dict()
        by_name = AutoConfig.for_model(config.model_type, **self.tiny, pad_token_id=3)
        assert type(by_name) is self.config_class
        assert by_name.to_dict() == config.to_dict()
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is self.config_class
        assert loaded.to_dict() == {**config.to_dict(), "_name_or_path": str(tmp_path)}
        saved = json.loads((tmp_path / "config.json").read_text())
        assert saved["model_type"] == self.config_class.model_type
        assert saved["auto_map"].items() >= self.config_class.auto_classes.items()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("vocab_size", -5),
            ("vocab_size", 0),
            ("vocab_size", "thirty"),
            ("vocab_size", 10**11),
            ("hidden_size", 16.5),
            ("num_hidden_layers", 1_000_000),
            ("no_such_dropout", 1.5),
        ],
    )
    def test_bad_configuration_is_refused_at_once(self, field, value, tmp_path):
        if field == "no_such_dropout":
            field = next(iter(self.dropouts(0.0)))
        start = time.monotonic()
        with pytest.raises(StrictDataclassError, match=f"{field}[\\s\\S]*{value}"):
            self.config(**{field: value})

        settings = {**self.config().to_dict(), field: value}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(StrictDataclassError, match=f"{field}[\\s\\S]*{value}"):
            transformers.AutoModel.from_pretrained(tmp_path)
        assert time.monotonic() - start < 1

    # initialisation

    def test_weights_start_as_configured(self, head, poisoned_memory):
        model = self.model(head)
        for name, parameter in model.named_parameters():
            self.initialization(name, model.config).check(name, parameter)

    def test_head_over_base_checkpoint_starts_as_configured(self, head, tmp_path, poisoned_memory):
        base = self.changed_model("AutoModel")
        base.save_pretrained(tmp_path)
        model = getattr(transformers, head).from_pretrained(tmp_path)
        assert_same_state(model.base_model, base, self.optional_parts)
        for name, parameter in model.named_parameters():
            if not name.startswith(f"{model.base_model_prefix}.") and model is not model.base_model:
                self.initialization(name, model.config).check(name, parameter)

    def test_seed_decides_initialization(self, head):
        model = self.model(head, seed=1)
        assert_same_state(self.model(head, seed=1), model)
        other = dict(self.model(head, seed=2).named_parameters())
        drawn = [name for name in other if self.initialization(name, model.config).std > 0]
        assert all(not torch.equal(other[name], model.get_parameter(name)) for name in drawn)

    # layers

    def test_layers_compute_what_their_class_says(self, head):
        """Tools that find layers by their class (adapters, quantization) replace or merge them by its equation."""
        for name, module in self.model(head).named_modules():
            for kind in (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.LayerNorm):
                if isinstance(module, kind):
                    width = module.weight.shape[-1] + (8 if kind is torch.nn.Conv1d else 0)
                    x = (
                        torch.randn(2, module.weight.shape[1], width)
                        if kind is torch.nn.Conv1d
                        else torch.randn(2, width)
                    )
                    x = torch.tensor([[0, 1]]) if kind is torch.nn.Embedding else x
                    assert torch.equal(module(x), kind.forward(module, x)), name

    # outputs

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

    def test_rows_do_not_see_each_other(self, head):
        model, inputs = self.model(head), self.inputs(head)
        together = main_output(model(**inputs))
        for row in range(4):
            alone = main_output(model(**{name: value[row : row + 1] for name, value in inputs.items()}))
            torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)

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

    # attention

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

    # padding

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

    def test_ids_must_be_a_tensor(self, head):
        with pytest.raises(ValueError, match=f"{self.token_input}.*\\[batch, time\\].*list"):
            self.model(head)(**{**self.inputs(head), self.token_input: [[1, 2]]})

    @unless("no_inputs_embeds")
    def test_ids_or_embeds_but_not_both(self, head):
        model, inputs = self.model(head), self.inputs(head)
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            model(**inputs, inputs_embeds=vectors)
        inputs.pop("input_ids")
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            model(**inputs)
        with pytest.raises(ValueError, match=rf"inputs_embeds.*{vectors.shape[-1]}.*\[\d, 7, 3\]"):
            model(**inputs, inputs_embeds=vectors[..., :3])

    @unless("no_attention_mask")
    @pytest.mark.parametrize("length", [5, 9])
    def test_mask_of_wrong_length_is_named(self, head, length):
        inputs = self.inputs(head)
        ids = inputs[self.token_input]
        inputs["attention_mask"] = ids.new_ones(*ids.shape[: self.time_axis], length)
        with pytest.raises(ValueError, match=f"attention_mask covers {length} tokens.*7"):
            self.model(head)(**inputs)

    @unless("no_attention_mask")
    def test_mask_of_another_batch_is_named(self, head):
        model, inputs = self.model(head), self.inputs(head)
        for shape in ((1, 7), (3, 7), (7,)):
            mask = torch.ones(shape, dtype=torch.long)
            mask[..., :2] = 0
            with pytest.raises(ValueError, match="attention_mask"):
                model(**inputs, attention_mask=mask)

    # files

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
        for other in self.heads:
            loaded, report = getattr(transformers, other).from_pretrained(
                tmp_path / "checkpoint", output_loading_info=True
            )
            assert_same_state(loaded.base_model, model.base_model, self.optional_parts)
            body = "" if loaded is loaded.base_model else f"{loaded.base_model_prefix}."
            optional = tuple(f"{body}{part}" for part in self.optional_parts)
            missing = [name for name in report["missing_keys"] if name.startswith(body)]
            assert not [name for name in missing if not name.startswith(optional)], report
            own = set(model.state_dict()) - {f"{model.base_model_prefix}.{name}" for name in loaded.state_dict()}
            assert set(report["unexpected_keys"]) <= own - set(loaded.state_dict()), report
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

    # vocabulary

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

    # training

    def test_every_parameter_gets_a_gradient(self, head):
        # not as it starts: what is multiplied by a zero has no gradient yet
        model = self.changed_model(head).train()
        self.objective(model, head, self.inputs(head)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if not name.endswith(tuple(self.without_effect)):
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

    # pipelines

    def test_pipeline(self, head, tiny_tokenizer):
        checks = {
            "AutoModel": ("feature-extraction", self.check_feature_extraction),
            "AutoModelForCausalLM": ("text-generation", self.check_text_generation),
            "AutoModelForSequenceClassification": ("text-classification", self.check_text_classification),
            "AutoModelForTokenClassification": ("token-classification", self.check_token_classification),
        }
        if head not in checks:
            pytest.skip(f"no pipeline of transformers is meant for {head}")
        task, check = checks[head]
        tokenizer = causal_tokenizer(tiny_tokenizer) if head == "AutoModelForCausalLM" else tiny_tokenizer
        model = self.model(head, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
        check(pipe, ["The dog", "Ada watches the quiet river near the harbour."])

    def check_feature_extraction(self, pipe, texts: list[str]):
        for text in texts:
            vectors = torch.tensor(pipe(text))
            expected = pipe.model(**pipe.tokenizer(text, return_tensors="pt")).last_hidden_state
            torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)

    def check_text_generation(self, pipe, texts: list[str]):
        options = {"max_new_tokens": 4, "do_sample": False}
        alone = [pipe(text, **options) for text in texts]
        assert pipe(texts, **options, batch_size=2) == alone
        for text, [answer] in zip(texts, alone, strict=True):
            assert answer["generated_text"].startswith(text)
            assert len(answer["generated_text"]) > len(text)

    def check_text_classification(self, pipe, texts: list[str]):
        names = set(pipe.model.config.id2label.values())
        for text, answer in zip(texts, pipe(texts, batch_size=2), strict=True):
            assert answer["label"] in names
            assert pipe(text) == [{"label": answer["label"], "score": pytest.approx(answer["score"], abs=1e-5)}]

    def check_token_classification(self, pipe, texts: list[str]):
        for text, entities in zip(texts, pipe(texts, batch_size=2), strict=True):
            for entity in entities:
                assert text[entity["start"] : entity["end"]].lower() == entity["word"].removeprefix("##")
            scores = [pytest.approx(entity["score"], abs=1e-5) for entity in entities]
            assert [entity["score"] for entity in pipe(text)] == scores
            assert len(entities) == len(pipe.tokenizer.tokenize(text))
>>>>>>> h7a
