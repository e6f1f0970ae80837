"""OpenNMT-py's and JoeyNMT's recurrent models: what torch.nn modules of their names and equations compute."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from hf_lineage import LuongConfig
from hf_lineage.converters import from_joeynmt, from_opennmt, to_joeynmt, to_opennmt


V, W, E, D = 11, 13, 6, 8
SOURCE = torch.tensor([[4, 9, 7, 5, 3], [6, 4, 3, 1, 1]])
LENGTHS = [5, 3]
TARGET = torch.tensor([[2, 5, 12, 7], [2, 4, 8, 6]])


class Net(nn.Module):
    """Empty, to hang modules on by name."""


def named(**modules) -> Net:
    net = Net()
    for name, module in modules.items():
        net.add_module(name, module)
    return net


def opennmt(kind, input_feed, score, layers=2):
    """A model of OpenNMT-py: its weights, and its logits for one sentence and target, without its code.

    The attention is that of onmt/modules/global_attention.py: for "mlp" it has biases, and no tanh around the answer.
    """
    torch.manual_seed(0)

    def embeddings(size):
        return named(make_embedding=named(emb_luts=nn.ModuleList([nn.Embedding(size, E)])))

    rnn, cell = {"lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}[kind]
    if input_feed:
        decoder_rnn = named(layers=nn.ModuleList(cell(E + D if i == 0 else D, D) for i in range(layers)))
    else:
        decoder_rnn = rnn(E, D, layers)
    attn = named(linear_out=nn.Linear(2 * D, D, bias=score == "mlp"))
    if score == "general":
        attn.add_module("linear_in", nn.Linear(D, D, bias=False))
    if score == "mlp":
        attn.add_module("linear_context", nn.Linear(D, D, bias=False))
        attn.add_module("linear_query", nn.Linear(D, D))
        attn.add_module("v", nn.Linear(D, 1, bias=False))
    net = named(
        encoder=named(embeddings=embeddings(V), rnn=rnn(E, D // 2, layers, bidirectional=True)),
        decoder=named(embeddings=embeddings(W), rnn=decoder_rnn, attn=attn),
        generator=nn.Sequential(nn.Linear(D, W), nn.LogSoftmax(dim=-1)),
    )

    def attend(state, memory):  # [D], [S, D]
        if score == "mlp":
            scores = attn.v(torch.tanh(attn.linear_query(state) + attn.linear_context(memory)))[:, 0]
            return attn.linear_out(torch.cat([scores.softmax(0) @ memory, state]))
        query = attn.linear_in(state) if score == "general" else state
        context = (memory @ query).softmax(0) @ memory
        return torch.tanh(attn.linear_out(torch.cat([context, state])))

    @torch.no_grad()
    def run(source, target):
        memory, last = net.encoder.rnn(net.encoder.embeddings.make_embedding.emb_luts[0](source))
        states = [torch.cat([s[0::2], s[1::2]], dim=-1) for s in (last if kind == "lstm" else (last,))]
        words = net.decoder.embeddings.make_embedding.emb_luts[0](target)
        if not input_feed:
            outputs, _ = decoder_rnn(words, tuple(states) if kind == "lstm" else states[0])
            answers = [attend(state, memory) for state in outputs]
        else:
            answers, answer = [], torch.zeros(D)
            states = [[s[i] for s in states] for i in range(layers)]
            for word in words:
                x = torch.cat([word, answer])
                for i, layer in enumerate(decoder_rnn.layers):
                    new = layer(x, tuple(states[i]) if kind == "lstm" else states[i][0])
                    states[i] = list(new) if kind == "lstm" else [new]
                    x = states[i][0]
                answer = attend(x, memory)
                answers.append(answer)
        return net.generator(torch.stack(answers))

    return net.state_dict(), run


def joeynmt(kind, input_feeding, bahdanau, layers=2, scale=1.0):
    """A model of JoeyNMT, likewise."""
    torch.manual_seed(1)
    rnn, size = {"lstm": nn.LSTM, "gru": nn.GRU}[kind], 5
    attention = named(key_layer=nn.Linear(2 * size, D, bias=False))
    if bahdanau:
        attention.add_module("query_layer", nn.Linear(D, D, bias=False))
        attention.add_module("energy_layer", nn.Linear(D, 1, bias=False))
    net = named(
        src_embed=named(lut=nn.Embedding(V, E)),
        trg_embed=named(lut=nn.Embedding(W, E)),
        encoder=named(rnn=rnn(E, size, 1, bidirectional=True)),
        decoder=named(
            rnn=rnn(E + D if input_feeding else E, D, layers),
            att_vector_layer=nn.Linear(D + 2 * size, D),
            output_layer=nn.Linear(D, W, bias=False),
            attention=attention,
            bridge_layer=nn.Linear(2 * size, D),
        ),
    )

    @torch.no_grad()
    def run(source, target):
        memory, last = net.encoder.rnn(net.src_embed.lut(source) * scale)
        top = last[0] if kind == "lstm" else last
        first = torch.tanh(net.decoder.bridge_layer(torch.cat([top[-2], top[-1]]))).repeat(layers, 1)
        state, keys = (first, first) if kind == "lstm" else first, attention.key_layer(memory)
        answer, logits = torch.zeros(D), []
        for word in net.trg_embed.lut(target) * scale:
            x = torch.cat([word, answer]) if input_feeding else word
            _, state = net.decoder.rnn(x[None], state)
            query = (state[0] if kind == "lstm" else state)[-1]
            if bahdanau:
                scores = attention.energy_layer(torch.tanh(attention.query_layer(query) + keys))[:, 0]
            else:
                scores = keys @ query
            answer = torch.tanh(net.decoder.att_vector_layer(torch.cat([query, scores.softmax(0) @ memory])))
            logits.append(net.decoder.output_layer(answer))
        return torch.stack(logits).log_softmax(1)

    return net.state_dict(), run


FORMS = [("lstm", True), ("gru", True), ("lstm", False)]
SCORES = [
    *((opennmt, from_opennmt, to_opennmt, scores) for scores in (("general", "general", "dot"), ("mlp",) * 3)),
    (joeynmt, from_joeynmt, to_joeynmt, (True, False, False)),
]
CASES = [
    (*functions, kind, feeding, score)
    for *functions, scores in SCORES
    for (kind, feeding), score in zip(FORMS, scores, strict=True)
]


@pytest.mark.parametrize(("reference", "read", "write", "kind", "feeding", "score"), CASES)
def test_it_computes_what_theirs_does_and_goes_back(tmp_path, reference, read, write, kind, feeding, score):
    weights, run = reference(kind, feeding, score)
    save_file(weights, tmp_path / "theirs.safetensors")
    model = read(tmp_path / "theirs.safetensors")
    with torch.no_grad():
        logits = model(input_ids=SOURCE, attention_mask=SOURCE.ne(1).long(), decoder_input_ids=TARGET).logits
    for row, length in enumerate(LENGTHS):
        expected = run(SOURCE[row, :length], TARGET[row])
        assert_close(logits[row].log_softmax(1), expected, atol=1e-5, rtol=1e-4)
    back = write(model, tmp_path / "back.safetensors")
    assert back.keys() == weights.keys()
    assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in weights.items()}
    again = read(tmp_path / "back.safetensors")
    assert_close(dict(again.named_parameters()), dict(model.named_parameters()))


def test_joeynmts_scaled_embeddings():
    weights, run = joeynmt("lstm", True, True, scale=E**0.5)
    logits = from_joeynmt(weights, scaled_embeddings=True)(input_ids=SOURCE[:1], decoder_input_ids=TARGET[:1]).logits
    assert LENGTHS[0] == SOURCE.shape[1]
    assert_close(logits[0].log_softmax(1), run(SOURCE[0], TARGET[0]), atol=1e-5, rtol=1e-4)
    unscaled = from_joeynmt(weights)(input_ids=SOURCE[:1], decoder_input_ids=TARGET[:1]).logits
    assert not torch.allclose(logits, unscaled, atol=1e-2)


@pytest.mark.parametrize(
    ("reference", "score", "read"), [(opennmt, "mlp", from_opennmt), (joeynmt, True, from_joeynmt)]
)
def test_other_architectures_are_refused(reference, score, read):
    weights, _ = reference("lstm", True, score)
    with pytest.raises(ValueError, match=r"decoder\.copy_attn\.linear_in\.weight has no place"):
        read(weights | {"decoder.copy_attn.linear_in.weight": torch.zeros(D, D)})
    name = "encoder.rnn.bias_ih_l0"
    with pytest.raises(ValueError, match=f"{name} is missing"):
        read({key: weight for key, weight in weights.items() if key != name})
    with pytest.raises(ValueError, match="no weight for source"):
        read({})


def test_models_that_the_other_format_cannot_hold_are_refused():
    model = from_joeynmt(joeynmt("gru", True, True)[0])
    with pytest.raises(ValueError, match="bridge is 'dense'"):
        to_opennmt(model)
    with pytest.raises(ValueError, match="bridge is 'copy'"):
        to_joeynmt(from_opennmt(opennmt("gru", True, "general")[0]))
    weights = opennmt("gru", True, "mlp")[0]
    with pytest.raises(ValueError, match="answer_act is 'tanh'.*'linear'"):
        to_opennmt(from_opennmt(weights, answer_act="tanh"))
    with pytest.raises(ValueError, match="attention_bias is True.*False"):
        to_joeynmt(type(model)(LuongConfig.from_dict(model.config.to_dict() | {"attention_bias": True})))
