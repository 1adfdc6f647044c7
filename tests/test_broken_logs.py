"""Every broken log gives one line that names the file, the row, and what to do."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taut.engines.local import convert, read_rollouts
from taut.errors import LogError
from taut.logs.readers import jsonl

GOOD = {"prompt_id": "a", "reward": 0.5, "policy_logprob": -2.0, "ref_logprob": -3.0}
LISTS = {
    "prompt_id": "a",
    "reward": 0.5,
    "policy_logprobs": [-1.0, -2.0],
    "ref_logprobs": [-1.5, -2.5],
}


def lines(*rows: dict | str | bytes) -> bytes:
    texts = [row if isinstance(row, bytes | str) else json.dumps(row) for row in rows]
    return b"".join((t.encode() if isinstance(t, str) else t) + b"\n" for t in texts)


def table(change: dict | None = None, *, drop: str = "", rows: int = 3) -> bytes:
    columns = {name: [value] * rows for name, value in LISTS.items()} | (change or {})
    columns.pop(drop, None)
    return packed(pa.table(columns))


def packed(columns: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(columns, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def damaged_pages() -> bytes:
    data = bytearray(packed(pa.table({"prompt_id": ["a"] * 5000, "reward": np.random.rand(5000)})))
    data[4:60] = b"\xff" * 56  # the header of the first page
    return bytes(data)


# name of the file: its bytes, options of the reader, what the message must say
BROKEN: dict[str, tuple[str, bytes | Callable[[], bytes], dict, list[str]]] = {
    "empty file": ("a.jsonl", b"", {}, ["a.jsonl:", "empty file", "write it again"]),
    "zero-byte Parquet": ("a.parquet", b"", {}, ["a.parquet:", "empty file (0 bytes)"]),
    "empty gzip": ("a.jsonl.gz", gzip.compress(b""), {}, ["a.jsonl.gz:", "empty gzip"]),
    "blank lines only": ("a.jsonl", b"\n  \n\r\n", {}, ["a.jsonl:", "blank lines only"]),
    "BOM only": ("a.jsonl", b"\xef\xbb\xbf", {}, ["a.jsonl", "found no row"]),
    "truncated gzip": (
        "a.jsonl.gz",
        gzip.compress(lines(*[GOOD | {"x": i} for i in range(3000)]))[:-50],
        {},
        ["a.jsonl.gz:", "gzip", "damaged or cut off", "again"],
    ),
    "truncated zstd": (
        "a.jsonl.zst",
        pa.Codec("zstd")
        .compress(lines(*[GOOD | {"x": x} for x in np.random.default_rng(0).random(2000)]))
        .to_pybytes()[:9000],
        {},
        ["a.jsonl.zst:", "zstd", "damaged or cut off"],
    ),
    "garbage behind gzip": (
        "a.jsonl.gz",
        gzip.compress(lines(GOOD)) + b"garbage",
        {},
        ["a.jsonl.gz:", "damaged"],
    ),
    "bzip2": ("a.jsonl.bz2", b"BZh91AY&SY", {}, ["a.jsonl.bz2:", "bzip2", "gzip or zstd"]),
    "zip archive": ("a.zip", b"PK\x03\x04abc", {}, ["a.zip:", "zip archive", "unpack"]),
    "Arrow IPC": ("a.arrow", b"ARROW1\0\0", {}, ["a.arrow:", "whole Arrow file", "again"]),
    "pickle": ("a.pkl", b"\x80\x04\x95", {}, ["a.pkl:", "pickle", "never loaded"]),
    "binary": ("a.jsonl", b"\x01\x02\x00\x03", {}, ["a.jsonl:", "binary data"]),
    "UTF-16": ("a.jsonl", lines(GOOD).decode().encode("utf-16"), {}, ["UTF-16", "UTF-8"]),
    "UTF-16 without mark": (
        "a.jsonl",
        lines(GOOD).decode().encode("utf-16-le"),
        {},
        ["UTF-16", "UTF-8"],
    ),
    "Latin-1": (
        "a.jsonl",
        lines(GOOD, '{"prompt_id": "caf\xe9", "reward": 1}'.encode("latin-1")),
        {},
        ["a.jsonl:2:", "expected UTF-8", "0xe9", "position 19"],
    ),
    "BOM inside": (
        "a.jsonl",
        lines(GOOD, b"\xef\xbb\xbf" + lines(GOOD)),
        {},
        ["a.jsonl:2:", "byte order mark", "remove it"],
    ),
    "CSV": ("a.csv", b"prompt_id,reward\na,1,2\n", {}, ["a.csv: row 2:", "2 cells, found 3"]),
    "JSON array": ("a.json", b"[{}, 3]", {}, ["a.json: item 2:", "JSON object, found 3"]),
    "score for a reward": (
        "a.jsonl",
        lines({"prompt_id": 1, "score": 1.0}),
        {},
        ["a.jsonl:", "expected a column 'reward'", "--map reward=score"],
    ),
    "reward left out": (
        "a.jsonl",
        lines(GOOD),
        {"mapping": {"reward": ""}},
        ["'reward' is needed"],
    ),
    "half an array": ("a.json", json.dumps([GOOD])[:-1].encode(), {}, ["a.json:", "expected JSON"]),
    "pretty objects": (
        "a.json",
        json.dumps(GOOD, indent=1).encode() * 2,
        {},
        ["a.json:", "several objects", "jq -c ."],
    ),
    "wrapped rows": (
        "a.json",
        json.dumps({"model": "m", "rows": [GOOD]}, indent=1).encode(),
        {},
        ["a.json:", "rows under 'rows'", "jq -c '.rows[]' a.json"],
    ),
    "not an object": ("a.jsonl", lines(GOOD, "17"), {}, ["a.jsonl:2:", "JSON object", "17"]),
    "half a line": (
        "a.jsonl",
        lines(GOOD) + b'{"prompt_id": "a", "rew',
        {},
        ["a.jsonl:2:", "one whole JSON object per line", "fix or rewrite"],
    ),
    "row after blanks": ("a.jsonl", lines(GOOD, "", "", "oops"), {}, ["a.jsonl:4:"]),
    "nesting without end": ("a.jsonl", lines(GOOD, "[" * 10**5), {}, ["a.jsonl:2:", "nesting"]),
    "list then garbage": (
        "a.jsonl",
        lines(LISTS, '{"prompt_id":"a","reward":1,"policy_logprobs":[1]2,"ref_logprobs":[1]}'),
        {},
        ["a.jsonl:2:", "one whole JSON object"],
    ),
    "leading zero": (
        "a.jsonl",
        lines(LISTS, '{"prompt_id":"a","reward":1,"policy_logprobs":[01],"ref_logprobs":[1]}'),
        {},
        ["a.jsonl:2:", "one whole JSON object"],
    ),
    "key twice": (
        "a.jsonl",
        lines(GOOD, '{"prompt_id": "a", "reward": 1, "reward": 2}'),
        {},
        ["a.jsonl:2:", "'reward' comes twice", "drop one"],
    ),
    "key twice beside lists": (
        "a.jsonl",
        lines(LISTS, json.dumps(LISTS)[:-1] + ', "policy_logprobs": [-1.0, -2.0]}'),
        {},
        ["a.jsonl:2:", "'policy_logprobs' comes twice", "drop one"],
    ),
    "no reward": (
        "a.jsonl",
        lines({"prompt_id": "a", "rewards": 1}),
        {},
        ["a.jsonl:", "'reward'", "found 'prompt_id', 'rewards'", "did you mean 'rewards'", "--map"],
    ),
    "no prompt": (
        "a.parquet",
        table(drop="prompt_id"),
        {},
        ["a.parquet:", "'prompt_id' (or 'prompt')", "'reward'", "--map prompt_id="],
    ),
    "wrong map path": (
        "a.jsonl",
        lines(GOOD | {"metadata": {"prompt_id": 1}}),
        {"mapping": {"prompt_id": "metadata.promptid"}},
        ["a.jsonl:", "'metadata.promptid' (mapped to 'prompt_id')", "'metadata.prompt_id'?"],
    ),
    "wrong map path in Parquet": (
        "a.parquet",
        table(),
        {"mapping": {"reward": "score.x"}},
        ["a.parquet:", "'score.x' (mapped to 'reward')", "'ref_logprobs', 'reward'"],
    ),
    "labels mapped to nothing": (
        "a.jsonl",
        lines(GOOD | {"oracle": 1.0}),
        {"mapping": {"gold": "orakle"}},
        ["a.jsonl:", "'orakle' (mapped to 'gold')", "did you mean 'oracle'"],
    ),
    "map of an unknown column": (
        "a.jsonl",
        lines(GOOD),
        {"mapping": {"rewrd": "reward"}},
        ["'rewrd' is not a native column", "did you mean 'reward'"],
    ),
    "map of one path twice": (
        "a.jsonl",
        lines(GOOD),
        {"mapping": {"reward": "x", "gold": "x"}},
        ["'x' is to be both 'reward' and 'gold'"],
    ),
    "text reward": (
        "a.jsonl",
        lines(GOOD, GOOD | {"reward": "C"}),
        {},
        ["a.jsonl:2:", "'reward' is the text \"C\"", "numbers", "--map-value reward:C=1"],
    ),
    "text reward in Parquet": (
        "a.parquet",
        table({"reward": ["1", "2", "good"]}),
        {},
        ["a.parquet:3:", "'reward' is the text \"good\"", "--map-value reward:good=1"],
    ),
    "reward of parts": (
        "a.jsonl",
        lines(GOOD | {"reward": {"a": 1.0, "b": 0.0}}),
        {},
        ["a.jsonl:1:", "an object", "--map reward=reward.a", "1.0*reward.a+1.0*reward.b"],
    ),
    "reward of parts in Parquet": (
        "a.parquet",
        table({"reward": [{"a": 1.0, "b": 0.0}] * 3}),
        {},
        ["a.parquet:", "--map reward=reward.a", "1.0*reward.a+1.0*reward.b"],
    ),
    "reward of tokens": (
        "a.jsonl",
        lines(GOOD | {"reward": [0.0, 1.0]}),
        {},
        ["a.jsonl:1:", "a list of 2", "--map 'reward=sum(reward)'"],
    ),
    "gold that is an answer": (
        "a.jsonl",
        lines(GOOD | {"gold": "Paris"}),
        {},
        ["a.jsonl:1:", "'gold' is the text \"Paris\"", "right answer", "--map gold="],
    ),
    "null reward": (
        "a.jsonl",
        lines(GOOD, GOOD | {"reward": None}),
        {},
        ["a.jsonl:2:", "'reward'", "null"],
    ),
    "absent reward": (
        "a.jsonl",
        lines(GOOD, {"prompt_id": "a"}),
        {},
        ["a.jsonl:2:", "'reward'", "absent"],
    ),
    "null reward in Parquet": (
        "a.parquet",
        table({"reward": [1.0, None, 2.0]}),
        {},
        ["a.parquet:2:", "'reward' is null"],
    ),
    "NaN reward": (
        "a.jsonl",
        lines(GOOD, GOOD | {"reward": float("nan")}),
        {},
        ["a.jsonl:2:", "'reward' is nan", "finite", "biases"],
    ),
    "infinite log-prob": (
        "a.jsonl",
        lines(GOOD, GOOD | {"ref_logprob": -float("inf")}),
        {},
        ["a.jsonl:2:", "'ref_logprob' is -inf", "finite"],
    ),
    "number too large": (
        "a.jsonl",
        lines('{"prompt_id":"a","reward":1e999}'),
        {},
        ["a.jsonl:1:", "'reward' is inf"],
    ),
    "NaN in Parquet": (
        "a.parquet",
        table({"reward": [0.0, 1.0, float("nan")]}),
        {},
        ["a.parquet:3:", "'reward' is nan"],
    ),
    "infinite label": (
        "a.jsonl",
        lines(GOOD | {"gold": float("inf")}),
        {},
        ["a.jsonl:1:", "'gold' is inf"],
    ),
    "lists of different length": (
        "a.jsonl",
        lines(LISTS, LISTS | {"ref_logprobs": [-1.0]}),
        {},
        [
            "a.jsonl:2:",
            "'policy_logprobs' has 2 values, 'ref_logprobs' 1",
            "same tokenizer and mask",
        ],
    ),
    "lists of different length in Parquet": (
        "a.parquet",
        table({"ref_logprobs": [[1.0, 2.0], [1.0], [1.0, 2.0]]}),
        {},
        ["a.parquet:2:", "'policy_logprobs' has 2 values, 'ref_logprobs' 1"],
    ),
    "NaN token": (
        "a.jsonl",
        lines(LISTS, LISTS | {"ref_logprobs": [-1.0, float("nan")]}),
        {},
        ["a.jsonl:2:", "'ref_logprobs' is nan at token 2", "finite"],
    ),
    "null token": (
        "a.jsonl",
        lines(LISTS | {"policy_logprobs": [None, -1.0]}),
        {},
        ["a.jsonl:1:", "'policy_logprobs' is null at token 1"],
    ),
    "null token in Parquet": (
        "a.parquet",
        table({"policy_logprobs": [[-1.0, -1.0], [-1.0, -2.0], [-1.0, None]]}),
        {},
        ["a.parquet:3:", "'policy_logprobs' is null at token 2"],
    ),
    "infinite token in Parquet": (
        "a.parquet",
        table({"policy_logprobs": [[-1.0, -1.0], [-np.inf, -2.0], [-1.0, 1.0]]}),
        {},
        ["a.parquet:2:", "'policy_logprobs' is -inf at token 1"],
    ),
    "text token": (
        "a.jsonl",
        lines(LISTS, LISTS | {"policy_logprobs": [-1.0, "x"]}),
        {},
        ["a.jsonl:2:", "'policy_logprobs' is the text \"x\" at token 2"],
    ),
    "list that is a number": (
        "a.jsonl",
        lines(LISTS, LISTS | {"policy_logprobs": 0}),
        {},
        ["a.jsonl:2:", "'policy_logprobs' is 0", "lists of numbers"],
    ),
    "null list in Parquet": (
        "a.parquet",
        table({"ref_logprobs": [[1.0, 2.0], None, [1.0, 2.0]]}),
        {},
        ["a.parquet:2:", "'ref_logprobs' is null"],
    ),
    "lists of text in Parquet": (
        "a.parquet",
        table({"ref_logprobs": [["1"], ["2"], ["3"]]}),
        {},
        ["a.parquet:", "'ref_logprobs' holds list<element: string>", "list<float32>"],
    ),
    "id that is a list": (
        "a.jsonl",
        lines(GOOD, GOOD | {"prompt_id": [7]}),
        {},
        ["a.jsonl:2:", "'prompt_id' is a list of 1", "strings or integers"],
    ),
    "id that is a number with a point": (
        "a.jsonl",
        lines(GOOD | {"prompt_id": 7.5}),
        {},
        ["a.jsonl:1:", "'prompt_id' is 7.5"],
    ),
    "float ids in Parquet": (
        "a.parquet",
        table({"prompt_id": [1.0, 2.5, 3.0]}),
        {},
        ["a.parquet:2:", "'prompt_id' is 2.5", "integer"],
    ),
    "null id": (
        "a.parquet",
        table({"prompt_id": ["a", None, "b"]}),
        {},
        ["a.parquet:2:", "'prompt_id' is null"],
    ),
    "half a surrogate pair": (
        "a.jsonl",
        lines(GOOD, '{"prompt_id": "\\ud800", "reward": 1, "policy_logprob": 1, "ref_logprob": 1}'),
        {},
        ["a.jsonl:2:", "'prompt_id' holds half a surrogate pair"],
    ),
    "step with a fraction": (
        "a.jsonl",
        lines(GOOD | {"step": 1.5}),
        {},
        ["a.jsonl:1:", "'step' is 1.5", "integer"],
    ),
    "step in some rows": (
        "a.jsonl",
        lines(GOOD | {"step": 1}, GOOD),
        {},
        ["a.jsonl:2:", "'step' is null or absent"],
    ),
    "truncated as a number": (
        "a.jsonl",
        lines(GOOD | {"truncated": 2}),
        {},
        ["a.jsonl:1:", "'truncated' is 2", "true or false"],
    ),
    "negative length": (
        "a.jsonl",
        lines(GOOD | {"n_tokens": -3}),
        {},
        ["a.jsonl:1:", "'n_tokens' is -3"],
    ),
    "log-ratio that disagrees": (
        "a.jsonl",
        lines(GOOD | {"log_ratio": 1.0}, GOOD | {"log_ratio": -1.0}),
        {},
        ["a.jsonl:2:", "'log_ratio' is -1", "give 1 nats"],
    ),
    "column twice in Parquet": (
        "a.parquet",
        lambda: packed(
            pa.Table.from_arrays(
                [pa.array(["a"]), pa.array([1.0]), pa.array([2.0])],
                names=["prompt_id", "reward", "reward"],
            )
        ),
        {},
        ["a.parquet:", "'reward' 2 times", "rename or drop"],
    ),
    "truncated Parquet": ("a.parquet", table()[:-20], {}, ["a.parquet:", "damaged or cut off"]),
    "only the magic of Parquet": ("a.parquet", b"PAR1", {}, ["a.parquet:", "damaged or cut off"]),
    "damaged pages": ("a.parquet", damaged_pages, {}, ["a.parquet:", "damaged or cut off"]),
    "Parquet without rows": (
        "a.parquet",
        lambda: packed(
            pa.table({"prompt_id": pa.array([], pa.string()), "reward": pa.array([], pa.float64())})
        ),
        {},
        ["a.parquet:", "found no row"],
    ),
    "token clip without lists": (
        "a.jsonl",
        lines(GOOD),
        {"token_clip": 10.0},
        ["a.jsonl:", "'policy_logprobs' and 'ref_logprobs'", "token by token"],
    ),
    "token clip of nothing": (
        "a.jsonl",
        lines(LISTS),
        {"token_clip": 0.0},
        ["token_clip is 0.0", "positive"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_log_gives_one_clear_line(name, tmp_path, monkeypatch):
    """Reader and converter raise one line that says what is wrong, and leave no file behind."""
    monkeypatch.chdir(tmp_path)
    file, data, options, fragments = BROKEN[name]
    Path(file).write_bytes(data() if callable(data) else data)
    with pytest.raises(LogError) as caught:
        read_rollouts(file, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for fragment in fragments:
        assert fragment in message
    with pytest.raises(LogError) as again:
        convert(file, "out.parquet", **options)
    assert str(again.value) == message
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("sources", "fragments"),
    [
        ([], ["at least one log file"]),
        ("missing.jsonl", ["missing.jsonl:", "found nothing there"]),
        ("*.jsonl", ["*.jsonl:", "files that match", "check the pattern"]),
        ("empty", ["empty:", "found nothing"]),
        ("other", ["other:", "found only notes.txt", ".parquet"]),
        (["a.jsonl.d/x.jsonl"], ["x.jsonl:"]),
    ],
)
def test_missing_files_are_named(sources, fragments, tmp_path, monkeypatch):
    """A path, glob or folder without a log says so."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other/notes.txt").write_text("hello")
    with pytest.raises(LogError) as caught:
        read_rollouts(sources)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_files_with_different_columns_are_not_mixed(tmp_path):
    """A log of which some files lack a column is refused, and both files are named."""
    (tmp_path / "a.jsonl").write_bytes(lines(GOOD))
    (tmp_path / "b.jsonl").write_bytes(lines({"prompt_id": "a", "reward": 1.0}))
    with pytest.raises(LogError, match=r"b\.jsonl: expected '\w+', which .*a\.jsonl has"):
        read_rollouts(tmp_path)


def test_a_column_that_appears_late_is_refused(tmp_path, monkeypatch):
    """A column beyond the rows from which the columns were learnt is an error, not ignored."""
    monkeypatch.setattr(jsonl, "_FIRST_BLOCK", 100)
    (tmp_path / "a.jsonl").write_bytes(lines(*[GOOD] * 50, GOOD | {"step": 1}))
    with pytest.raises(LogError, match=r"a\.jsonl:51: 'step' is here but not in the first rows"):
        read_rollouts(tmp_path)


@pytest.mark.parametrize("where", [0, 1])
def test_a_huge_line_is_an_error_not_a_full_memory(where, tmp_path, monkeypatch):
    """A line beyond the limit stops the reader; a lenient one skips it and reads on."""
    monkeypatch.setattr(jsonl, "MAX_LINE", 10_000)
    monkeypatch.setattr(jsonl, "_FIRST_BLOCK", 1000)
    monkeypatch.setattr(jsonl, "_BLOCK", 1000)
    rows = [GOOD, GOOD, GOOD]
    rows[where] = GOOD | {"response": "x" * 50_000}
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    with pytest.raises(LogError, match=rf"a\.jsonl:{where + 1}: .*more than"):
        read_rollouts(tmp_path / "a.jsonl")
    if where:
        out = read_rollouts(tmp_path / "a.jsonl", lenient=tmp_path / "bad.jsonl")
        assert (len(out), out.rejected_rows) == (2, 1)


def test_lenient_reader_sets_bad_rows_aside(tmp_path):
    """Rejected rows are written with file, row, column, problem and text, and counted."""
    text = lines(GOOD, GOOD | {"reward": None}, "oops", GOOD | {"ref_logprob": "x"}, GOOD)
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "b.jsonl").write_bytes(lines(GOOD))
    out = read_rollouts(tmp_path / "*.jsonl", lenient=tmp_path / "bad.txt")
    assert (len(out), out.rejected_rows) == (3, 3)
    rejected = [json.loads(line) for line in (tmp_path / "bad.txt").read_text().splitlines()]
    assert [(row["row"], row["column"]) for row in rejected] == [
        (2, "reward"),
        (3, ""),
        (4, "ref_logprob"),
    ]
    assert [row["text"].encode() for row in rejected] == text.split(b"\n")[1:4]
    assert all(row["file"].endswith("a.jsonl") and row["problem"] for row in rejected)


def test_lenient_reader_of_parquet_leaves_the_same_rows(tmp_path):
    """Bad rows of a Parquet file are set aside as those of JSON lines are."""
    (tmp_path / "a.parquet").write_bytes(
        table({"reward": [1.0, None, 3.0], "ref_logprobs": [[1.0, 1.0], [1.0, 1.0], [1.0]]})
    )
    out = read_rollouts(tmp_path / "a.parquet", lenient=tmp_path / "bad.txt")
    rejected = [json.loads(line) for line in (tmp_path / "bad.txt").read_text().splitlines()]
    assert out.reward.tolist() == [1.0]
    assert [(row["row"], row["column"]) for row in rejected] == [
        (2, "reward"),
        (3, "policy_logprobs"),
    ]


def test_rejected_rows_are_counted_through_convert(tmp_path):
    """What a lenient convert left out is still counted when the result is read."""
    (tmp_path / "a.jsonl").write_bytes(lines(GOOD, "oops", GOOD))
    convert(tmp_path / "a.jsonl", tmp_path / "b.parquet", lenient=tmp_path / "bad.txt")
    assert read_rollouts(tmp_path / "b.parquet").rejected_rows == 1


def test_outputs_never_replace_an_input(tmp_path):
    """Neither the converted log nor the rejected rows may overwrite what is read."""
    log = tmp_path / "a.jsonl"
    log.write_bytes(lines(GOOD))
    for call in (
        lambda: convert(log, log),
        lambda: convert(tmp_path, tmp_path / ".." / tmp_path.name / "a.jsonl"),
        lambda: read_rollouts(log, lenient=log),
        lambda: convert(log, tmp_path / "x", lenient=tmp_path / "x"),
    ):
        with pytest.raises(LogError, match="one of the inputs"):
            call()
    assert log.read_bytes() == lines(GOOD)
    assert list(tmp_path.iterdir()) == [log]


def test_interrupted_convert_leaves_nothing(tmp_path):
    """Ctrl-C in the middle of a conversion removes the partial file."""
    (tmp_path / "a.jsonl").write_bytes(lines(*[GOOD] * 20))

    def interrupt(rows: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(
            tmp_path / "a.jsonl",
            tmp_path / "b.parquet",
            lenient=tmp_path / "bad.txt",
            progress=interrupt,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_convert_into_a_missing_folder_says_so(tmp_path):
    """The message names the output, not a temporary file."""
    (tmp_path / "a.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(LogError, match=r"b\.parquet: expected a file that can be written"):
        convert(tmp_path / "a.jsonl", tmp_path / "none" / "b.parquet")
    with pytest.raises(LogError, match="a folder of that name"):
        convert(tmp_path / "a.jsonl", tmp_path)
