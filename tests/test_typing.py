"""What a type checker, and so an editor, knows of the public API."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
# each wrong line ends with the error that it must give
PROGRAM = """
from hf_lineage import BERTForPreTraining, LSTMConfig, LSTMForCausalLM, data
from hf_lineage import LSTMForCausalLMM  # attr-defined
import hf_lineage

hf_lineage.training.LineageTrainer
hf_lineage.trainingg  # attr-defined
config = LSTMConfig(vocab_size=60, hidden_size=16, peephole="full")
LSTMConfig(hidden_sise=16)  # call-arg
LSTMConfig(peephole="ful")  # arg-type
model = LSTMForCausalLM(config)
reveal_type(model)
data.TokenStream
data.TokenStreem  # attr-defined
"""


@pytest.mark.slow
def test_types_of_the_public_names(tmp_path):
    """Slow, half a minute: the types of torch and transformers are read too."""
    (tmp_path / "program.py").write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "--config-file", "", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )
    lines = PROGRAM.splitlines()
    expected = {number: line.split("# ")[1] for number, line in enumerate(lines, 1) if "# " in line}
    found = re.findall(r"^program.py:(\d+): error: .*\[([a-z-]+)\]$", run.stdout, flags=re.MULTILINE)
    assert {int(number): code for number, code in found} == expected, run.stdout + run.stderr
    assert 'Revealed type is "hf_lineage.models.modeling_rnn.LSTMForCausalLM"' in run.stdout
