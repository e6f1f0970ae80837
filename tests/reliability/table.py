"""The table of what users are promised, from the tests that carry `@pytest.mark.reliability("A1")`.

`make reliability` runs these tests, wherever they are, and prints the table.
"""

# row -> what the user gets, what transformers 5.23 does (or gensim 4.4, where it says so)
ROWS = {
    "A1": ("a killed run resumes and ends with the same weights, bit for bit", "other weights, silently"),
    "A2": ("so does a run of two processes", "other weights, silently"),
    "A3": ("one process and two see the same examples and masks, and learn the same", "not promised"),
    "A4": ("a run killed while saving resumes from its newest whole checkpoint", "7 of 20 cannot resume"),
    "A5": ("a sharded model, killed while saving, is the old or the new one", "7 of 14 are a mix that loads"),
    "A6": ("a full disk while training: the error has the path; the older checkpoint stays", "no path; cannot resume"),
    "A7": ("a full disk while saving tokenizer, config or vectors leaves the old files", "old files are lost"),
    "A8": ("a damaged newest checkpoint is skipped and named; the one before it is taken", "stops, or silent"),
    "A9": (
        "NaN or infinity stops the run, with step and tensor; nothing is saved after",
        "exit 0, loss 0.0, NaN saved",
    ),
    "A10": ("a batch without labels teaches nothing; a data set without labels is refused", "NaN, logged as 0.0"),
    "A11": ("resuming with other settings or data is refused, with both values", "silent"),
    "A12": ("the command of a finished run changes no file", "one step more in the state"),
    "A13": ("SIGTERM and SIGINT save a checkpoint; resuming gives the same weights", "lost since the last save"),
    "A14": ("a killed DataLoader worker ends the run with its name", "the same"),
    "A15": ("one killed process of two ends both; resuming gives the same weights", "other weights, silently"),
    "A16": ("a tokenizer trained or data prepared anew are the same bytes", "another tokenizer each time"),
    "A17": ("a second run in the same output_dir is refused, with the first one's process", "both write"),
    "A18": ("four processes that load the same data at once all get it", "the same"),
    "B1": ("a truncated or empty weights file: the error has its name", "no name"),
    "B2": ("a missing shard: the error has its name", "the same"),
    "B3": ("a flipped bit in the weights is found", "silent"),
    "B4": ("a tensor of another shape: the error has its name and both shapes", "on the log only"),
    "B5": ("a missing tensor is an error, but for a new head", "random weights, a warning"),
    "B6": ("NaN in the weights file: the error has the tensor", "silent"),
    "B7": ("a bad configuration: the error has the field and the value", "some without"),
    "B8": ("an absurd size in a configuration is refused in a second", "no answer, or memory asked"),
    "B9": ("a configuration of another model_type is refused", "silent"),
    "B10": ("an index that leaves the folder is refused", "reads outside"),
    "B11": ("a pickle is never opened", "the same"),
    "B12": ("code of a repository never runs without trust_remote_code", "the same"),
    "B13": ("a safetensors header that lies is refused, with the file's name", "no name"),
    "B14": ("a damaged tokenizer, or one larger than the model's vocabulary, is named", "no name; fails at first use"),
    "B15": ("vectors whose header promises too much are refused at once", "gensim: 8 GB, MemoryError"),
    "B16": ("damaged vectors: the error has file and line", "gensim: neither"),
    "B17": ("NaN or a repeated word in vectors is named", "gensim: silent"),
    "B18": ("a pickle given as vectors is refused", "gensim: runs it"),
    "B19": ("a packed file that grows to gigabytes is refused by its header", "4 GB read"),
    "B20": ("a damaged data set cache: the error has its name and the remedy", "no name, or silent"),
    "C1": ("empty text, blanks, NUL and a byte order mark have a defined result", "some fail in the model"),
    "C2": ("a text that is none, or no valid Unicode: the error has its place and type", "neither"),
    "C3": ("bytes that are not UTF-8: the error has file, line and byte", "hidden one error below"),
    "C4": ("a corpus without text is refused, with its name", "silent, or an unrelated error"),
    "C5": ("a vocabulary smaller than the alphabet is warned about", "silent"),
    "C6": ("a text longer than the model's positions: the error has both lengths", "shapes only"),
    "C7": ("an id outside the vocabulary: the error has id, place and size", "index out of range"),
    "C8": ("a label outside the range: the error has label and range", "the label"),
    "C9": ("an empty batch gives empty outputs", "errors about shapes"),
    "C10": ("a row of padding alone stays finite and changes no other row", "the same"),
    "C11": ("rows of different lengths: the error names the column and the collator", "partly"),
    "C12": ("a mask of another length is refused", "silent if all ones"),
    "C13": ("a forgotten second label leaves the other loss, or is named", "loss None"),
    "C14": ("ids of another type or shape: the error has the wanted ones", "neither"),
    "C15": ("a text of 10 MB is cut or refused within seconds", "16 s and 2 GB, then an error"),
    "C16": ("a pipeline without mask, text or batch: a clear error, or nothing for nothing", "IndexError"),
}


def pytest_collection_modifyitems(items):
    for item in items:
        for marker in item.iter_markers("reliability"):
            for row in marker.args:
                if row not in ROWS:
                    raise ValueError(f"{item.nodeid} is marked with row {row}; the rows are in {__file__}")
                # unlike markers, properties reach the process that prints the table
                item.user_properties.append(("reliability", row))


def pytest_terminal_summary(terminalreporter, config):
    if "reliability" not in config.option.markexpr:
        return
    found = {row: {} for row in ROWS}
    for outcome in ("passed", "skipped", "error", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            # a module skipped while it is collected has none
            for name, row in getattr(report, "user_properties", ()):
                if name == "reliability":
                    # a test may pass and its teardown fail: the worse outcome comes later
                    found[row][report.nodeid] = outcome
    terminalreporter.section("reliability")
    met = 0
    for row, (promise, elsewhere) in ROWS.items():
        outcomes = list(found[row].values())
        counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes)]
        met += "passed" in outcomes and not {"failed", "error"} & set(outcomes)
        terminalreporter.write_line(f"{row:<4} {promise}")
        terminalreporter.write_line(f"     elsewhere: {elsewhere}; here: {', '.join(counts) or 'no test'}")
        for test in sorted({node.partition("[")[0] for node in found[row]}):
            terminalreporter.write_line(f"     {test}")
    terminalreporter.write_line(f"{met} of {len(ROWS)} rows met: tests passed and none failed")
