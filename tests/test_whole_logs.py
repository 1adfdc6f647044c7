"""A log is read whole or not at all: files that change, repeat a key, wrap a number, or hide."""

import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import zipfile
import zlib

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import taut
from taut.cli import cli
from taut.cli.cache import clear_damaged_cache
from taut.engines import files
from taut.errors import LogError
from taut.logs.text import safe
from taut.logs.write import clear_parts, whole_file


def rows_of(count, **more):
    return [{"prompt_id": f"p{i // 2}", "reward": float(i % 2), **more} for i in range(count)]


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_table(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def both_formats(folder, rows):
    return write_lines(folder / "a.jsonl", rows), write_table(folder / "a.parquet", rows)


# --- nothing in part ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["replaced", "cut", "overwritten", "grown"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_that_changes_while_it_is_read_is_an_error(how, suffix, tmp_path, monkeypatch):
    """Whatever was read of it before, no part of a log passes for the log."""
    path = tmp_path / f"a{suffix}"
    write = write_lines if suffix == ".jsonl" else write_table
    write(path, rows_of(4000))
    other = write(tmp_path / f"b{suffix}", rows_of(300))
    done = threading.Event()

    def change():
        if how == "replaced":
            os.replace(other, path)
        elif how == "overwritten":
            path.write_bytes(other.read_bytes())
        else:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if how == "cut" else data + data)

    inner = files.tasks

    def tasks(file, request):
        for task in inner(file, request):
            yield task
            if not done.is_set():
                done.set()
                change()

    monkeypatch.setattr(files, "tasks", tasks)
    with pytest.raises(LogError, match="changed or replaced"):
        taut.read_rollouts(path)
    assert done.is_set()


def test_rows_that_the_footer_promises_are_read_or_missed(tmp_path, monkeypatch):
    """A reader that stops early does not pass for one that is through."""
    path = write_table(tmp_path / "a.parquet", rows_of(100), row_group_size=50)
    inner = pq.ParquetFile.iter_batches

    def fewer(self, *args, **kwargs):
        batches = list(inner(self, *args, **kwargs))
        yield from (batch.slice(1) for batch in batches)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fewer)
    with pytest.raises(LogError, match=r"expected (50|100) rows"):
        taut.read_rollouts(path)


def test_a_flipped_bit_in_a_page_of_ours_is_found(tmp_path):
    """Files that taut writes carry checksums, and they are looked at."""
    log = write_lines(
        tmp_path / "a.jsonl", [{"prompt_id": i, "reward": i / 7} for i in range(3000)]
    )
    taut.convert(log, tmp_path / "b.parquet")
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    wrong = right = 0
    for at in range(2000, len(data) - 4000, max((len(data) - 6000) // 40, 1)):
        flipped = bytearray(data)
        flipped[at] ^= 4
        (tmp_path / "c.parquet").write_bytes(flipped)
        try:
            rollouts = taut.read_rollouts(tmp_path / "c.parquet")
            same = rollouts.reward.tolist() == [i / 7 for i in range(3000)]
            wrong, right = wrong + (not same), right + same
        except LogError:
            pass
    assert wrong == 0


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt_id": "a", "reward": 1.0, "reward": 0.0}',
        '{"prompt_id": "a", "reward": 1.0, "rew\\u0061rd": 0.0}',
        '{"prompt_id": "a", "reward": 1.0, "policy_logprobs": [-1.0], "ref_logprobs": [-1.0], '
        '"\\u0072eward": 0.0}',
        '{"prompt_id": "a", "reward": 1.0, "prompt_id": "b"}',
    ],
)
def test_a_key_that_comes_twice_is_refused_in_any_spelling(line, tmp_path):
    """A parser would take the later value in silence."""
    first = {key: value for key, value in json.loads(line).items() if key != "reward"}
    (tmp_path / "a.jsonl").write_text(json.dumps({**first, "reward": 1.0}) + "\n" + line + "\n")
    with pytest.raises(LogError, match=r"a\.jsonl:2: .*comes twice"):
        taut.read_rollouts(tmp_path / "a.jsonl")


def test_a_mapped_key_that_comes_twice_in_its_object_is_refused(tmp_path):
    """On the way to a column no key may come twice; elsewhere it may."""
    (tmp_path / "a.jsonl").write_text('{"m": {"id": "a", "id": "b"}, "reward": 1, "x": {"y": 1}}\n')
    with pytest.raises(LogError, match="'id' comes twice"):
        taut.read_rollouts(tmp_path / "a.jsonl", mapping={"prompt_id": "m.id"})


def test_large_integers_and_decimals_do_not_wrap(tmp_path):
    """A step beyond int64 is a problem of its row; ids beyond it stay different ids."""
    ids = pa.array([2**64 - 1, 1, 2**63], pa.uint64())
    table = pa.table({"prompt_id": ids, "reward": [0.0, 1.0, 0.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(set(taut.read_rollouts(tmp_path / "a.parquet").prompt.tolist())) == 3
    pq.write_table(table.append_column("step", ids), tmp_path / "b.parquet")
    with pytest.raises(LogError, match=r"b\.parquet:1: 'step' is 18446744073709551615"):
        taut.read_rollouts(tmp_path / "b.parquet")


def test_damaged_metadata_is_not_taken_for_none(tmp_path):
    """A count of rejected rows that is no number stops the reader."""
    table = pa.Table.from_pylist(rows_of(4)).replace_schema_metadata({"taut.rejected_rows": "x"})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(LogError, match="metadata: expected a number"):
        taut.read_rollouts(tmp_path / "a.parquet")


# --- outputs and inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
@pytest.mark.parametrize("option", ["--json", "--html", "--lenient"])
def test_no_output_replaces_the_log(option, link, tmp_path):
    """By its own name or through a link of either kind: exit 2, the log as it was."""
    log = write_lines(tmp_path / "a.jsonl", rows_of(40))
    name = tmp_path / "b.jsonl" if link else log
    if link:
        os.symlink(log, name) if link == "symbolic" else os.link(log, name)
    before = log.read_bytes()
    args = ["audit", str(log), "--target", "reward", "--reward-range", "0", "1", option, str(name)]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code != 0 and "would overwrite LOG" in str(result.exception)
    assert log.read_bytes() == before


def test_two_outputs_are_two_files(tmp_path):
    """--json and --html into one file would leave one of them."""
    log, out = write_lines(tmp_path / "a.jsonl", rows_of(40)), str(tmp_path / "out")
    args = ["audit", str(log), "--target", "reward", "--reward-range", "0", "1"]
    result = CliRunner().invoke(cli, [*args, "--json", out, "--html", out])
    assert result.exit_code != 0 and "would overwrite --json" in str(result.exception)


def test_parts_of_killed_runs_are_cleared_and_those_of_live_ones_stay(tmp_path):
    """A part is locked while it is written; what is not locked belongs to nobody."""
    dead = tmp_path / ".out.parquet.0123456789ab.part"
    other = tmp_path / ".other.parquet.0123456789ab.part"
    dead.write_bytes(b"half")
    other.write_bytes(b"half")
    path = str(tmp_path / "out.parquet")
    with whole_file(path) as file:
        assert not dead.exists() and other.exists()
        file.write(b"x")
        clear_parts(path)
        assert len(list(tmp_path.glob(".out.parquet.*.part"))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, "out.parquet"]


def test_a_killed_convert_leaves_nothing_that_the_next_does_not_clear(tmp_path):
    """SIGKILL while it writes: after the next convert only its file is there."""
    log = write_lines(tmp_path / "log" / "a.jsonl", rows_of(60_000))
    out = tmp_path / "out" / "b.parquet"
    out.parent.mkdir()
    code = (
        "import sys, taut, os, threading, time\n"
        "def kill():\n"
        "    folder = os.path.dirname(sys.argv[2])\n"
        "    while not any(name.endswith('.part') for name in os.listdir(folder)):\n"
        "        time.sleep(0.001)\n"
        "    os.kill(os.getpid(), 9)\n"
        "threading.Thread(target=kill, daemon=True).start()\n"
        "taut.convert(sys.argv[1], sys.argv[2])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, log, out], check=False)
    assert done.returncode == -9 and not out.exists()
    assert taut.convert(log, out) == 60_000
    assert [path.name for path in out.parent.iterdir()] == ["b.parquet"]


# --- hostile files --------------------------------------------------------------------------------


def test_pipes_devices_and_sockets_are_named_not_waited_for(tmp_path, monkeypatch):
    """In a folder they are passed over with a note; named, they are refused at once."""
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "log" / "a.jsonl", rows_of(4))
    os.mkfifo(tmp_path / "log" / "b.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("log/c.jsonl")
        rollouts = taut.read_rollouts("log")
        assert len(rollouts) == 4
        assert any("b.jsonl, which is a named pipe" in note for note in rollouts.notes)
        assert any("c.jsonl, which is a socket" in note for note in rollouts.notes)
        for name, what in (
            ("log/b.jsonl", "pipe"),
            ("log/c.jsonl", "socket"),
            ("/dev/null", "dev"),
        ):
            with pytest.raises(LogError, match=what):
                taut.read_rollouts(name)


def test_standard_input_is_a_log(tmp_path):
    """`-` reads what comes in, Parquet too."""
    path = write_table(tmp_path / "a.parquet", rows_of(40))
    run = [sys.executable, "-c", "import taut; print(len(taut.read_rollouts('-')))"]
    with path.open("rb") as file:
        done = subprocess.run(run, stdin=file, capture_output=True, check=False)
    assert done.stdout.strip() == b"40", done.stderr


def test_links_are_followed_once_and_hard_links_counted_once(tmp_path):
    """A folder that leads back to itself ends; one file under two names is one file."""
    log = write_lines(tmp_path / "log" / "a.jsonl", rows_of(4))
    (tmp_path / "log" / "loop").symlink_to(tmp_path / "log")
    os.link(log, tmp_path / "log" / "b.jsonl")
    write_lines(tmp_path / "elsewhere" / "c.jsonl", rows_of(6))
    (tmp_path / "log" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(taut.read_rollouts(tmp_path / "log")) == 10


@pytest.mark.parametrize("name", ["a\x1b]0;x\x07.jsonl", "a\nb.jsonl", "a\u202eb.jsonl"])
def test_names_cannot_write_to_a_terminal(name, tmp_path, monkeypatch):
    """Control characters of a file's name are shown as escapes."""
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / name, [{"prompt_id": "a", "reward": None}])
    with pytest.raises(LogError) as caught:
        taut.read_rollouts(name)
    assert not set(str(caught.value)) & {"\x1b", "\x07", "\n", "\u202e"}


def test_text_is_shown_as_it_is_where_it_is_harmless():
    """Letters of all languages stay; escapes, C1 and marks of direction do not."""
    assert safe("Grüße, 你好 🙂") == "Grüße, 你好 🙂"
    assert safe("\x9b31m\x1b\u2066\udcff") == "\\x9b31m\\x1b\\u2066\\xff"
    assert len(safe("x" * 1000)) == 401


def test_an_encrypted_column_is_an_error_not_the_end_of_the_process(tmp_path):
    """PyArrow's view of an encrypted column chunk ends the interpreter; ours refuses the file."""
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            encryption.KmsClient.__init__(self)

        def wrap_key(self, key, _):
            return key.hex().encode()

        def unwrap_key(self, key, _):
            return bytes.fromhex(key.decode())

    factory, connection = encryption.CryptoFactory(Keys), encryption.KmsConnectionConfig()
    table = pa.Table.from_pylist(rows_of(10))
    for plain in (True, False):
        settings = encryption.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["reward"]}, plaintext_footer=plain
        )
        properties = factory.file_encryption_properties(connection, settings)
        path = tmp_path / "a.parquet"
        with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
        code = (
            f"import taut\ntry: taut.read_rollouts({str(path)!r})\nexcept ValueError as e: print(e)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == 0 and b"encrypt" in done.stdout, done


def test_twenty_thousand_columns_take_no_quadratic_time(tmp_path):
    """Names are looked up, never searched for one by one."""
    import time

    extra = {f"c{i}": 1.0 for i in range(20_000)}
    lines = write_lines(tmp_path / "a.jsonl", rows_of(3, **extra))
    names = pa.table({name: [1.0] for name in ("prompt_id", "reward", *extra)})
    pq.write_table(names, tmp_path / "a.parquet")
    start = time.monotonic()
    assert len(taut.read_rollouts(lines)) == 3
    with pytest.raises(LogError, match="nothing"):
        taut.read_rollouts(tmp_path / "a.parquet", mapping={"gold": "nothing"})
    assert time.monotonic() - start < 8


def test_zips_are_read_as_logs_of_inspect_or_refused(tmp_path):
    """Samples of an .eval file are rollouts; epochs are repeats of a prompt."""
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("header.json", "{}")
        for sample in range(3):
            for epoch in (1, 2):
                doc = {
                    "id": sample,
                    "epoch": epoch,
                    "input": f"q{sample}",
                    "target": "x",
                    "scores": {"match": {"value": "C" if epoch == 1 else "P"}},
                }
                archive.writestr(f"samples/{sample}_epoch_{epoch}.json", json.dumps(doc))
    rollouts = taut.read_rollouts(tmp_path / "a.eval")
    assert rollouts.reward.tolist() == [1.0, 0.5] * 3
    assert len(set(rollouts.prompt.tolist())) == 3 and rollouts.origin.format == "inspect"
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.jsonl", "{}")
    with pytest.raises(LogError, match="unpack it"):
        taut.read_rollouts(tmp_path / "b.zip")


# --- mapping --------------------------------------------------------------------------------------


def test_what_the_user_maps_is_needed_and_wins(tmp_path):
    """Also where it is mapped to its own name, and against a framework's own columns."""
    rows = [
        {"input": f"q{i}", "output": "a", "gts": "1", "score": 1.0, "reward": 0.5, "step": 1}
        for i in range(4)
    ]
    log = write_lines(tmp_path / "1.jsonl", rows)
    assert taut.read_rollouts(log, mapping={"reward": "score"}).reward.tolist() == [1.0] * 4
    assert taut.read_rollouts(log, mapping={"reward": "reward"}).reward.tolist() == [0.5] * 4
    plain = write_lines(tmp_path / "2.jsonl", rows_of(4))
    with pytest.raises(LogError, match="expected 'gold'"):
        taut.read_rollouts(plain, mapping={"gold": "gold"})


def test_paths_reach_into_lists_and_keys_with_dots(tmp_path):
    """`x.0`, `a.b` as one key, and a key with a dot inside an object, in lines and in tables."""
    rows = [
        {"m": {"a.b": f"p{i}", "s": [{"v": float(i)}, {"v": 9.0}]}, "k.l": float(i)}
        for i in range(4)
    ]
    for path in (
        write_lines(tmp_path / "a.jsonl", rows),
        write_table(tmp_path / "a.parquet", rows),
    ):
        for reward in ("m.s.0.v", "k.l"):
            rollouts = taut.read_rollouts(path, mapping={"prompt_id": "m.a.b", "reward": reward})
            assert rollouts.reward.tolist() == [0.0, 1.0, 2.0, 3.0]
            assert len(set(rollouts.prompt.tolist())) == 4


def test_sums_ids_and_lists_are_made_alike_in_every_format(tmp_path):
    """Weighted sums, ids of two columns, folded lists, texts with a meaning."""
    rows = [
        {
            "e": "ab"[i % 2],
            "t": i // 2,
            "x": float(i),
            "y": 1.0,
            "r": [1.0, float(i)],
            "w": "CI"[i % 2],
        }
        for i in range(6)
    ]
    ways = [
        ({"reward": "1.0*x+0.5*y"}, {}, [i + 0.5 for i in range(6)]),
        ({"reward": "sum(r)"}, {}, [1.0 + i for i in range(6)]),
        ({"reward": "last(r)"}, {}, [float(i) for i in range(6)]),
        ({"reward": "mean(r)"}, {}, [(1.0 + i) / 2 for i in range(6)]),
        ({"reward": "w"}, {"reward": {"C": 1, "I": -1}}, [1.0, -1.0] * 3),
    ]
    files = [write_lines(tmp_path / "a.jsonl", rows), write_table(tmp_path / "a.parquet", rows)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for path in (*files, tmp_path / "a.json"):
        for mapping, values, expected in ways:
            rollouts = taut.read_rollouts(
                path, mapping={**mapping, "prompt_id": "e+t"}, values=values
            )
            assert rollouts.reward.tolist() == expected
            assert len(set(rollouts.prompt.tolist())) == 6
    with pytest.raises(LogError, match="say what it means with --map-value"):
        taut.read_rollouts(
            files[0], mapping={"prompt_id": "t", "reward": "w"}, values={"reward": {"C": 1}}
        )


def test_a_column_can_be_left_out(tmp_path):
    """`--map step=` reads a log without the steps that stand in its way."""
    rows = rows_of(4)
    rows[2]["step"] = "last"
    rows[0]["step"] = 1
    log = write_lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(LogError, match="--map step="):
        taut.read_rollouts(write_lines(tmp_path / "b.jsonl", [{**rows_of(1)[0], "step": 1}, *rows]))
    assert taut.read_rollouts(log, mapping={"step": ""}).step is None
    args = ["check", str(log), "--map", "step=", "--reward-range", "0", "1"]
    assert "step" not in CliRunner().invoke(cli, args).stderr


def test_columns_that_are_null_throughout_are_as_if_absent(tmp_path):
    """A null step, policy or log-prob in every row stops nobody."""
    rows = rows_of(4, step=None, policy=None, policy_logprob=None, truncated=None)
    for path in (
        write_lines(tmp_path / "a.jsonl", rows),
        write_table(tmp_path / "a.parquet", rows),
    ):
        rollouts = taut.read_rollouts(path)
        assert rollouts.step is rollouts.policy is rollouts.log_ratio is rollouts.truncated is None


def test_ids_are_one_whatever_their_type(tmp_path):
    """7, 7.0 and "7" name one prompt."""
    rows = [{"prompt_id": value, "reward": 1.0} for value in (7, 7.0, "7", "x")]
    rollouts = taut.read_rollouts(write_lines(tmp_path / "a.jsonl", rows))
    assert len(set(rollouts.prompt.tolist())) == 2
    assert np.all(rollouts.prompt[:3] == rollouts.prompt[0])


def test_samples_packed_with_zstd_are_unpacked_and_checked(tmp_path):
    """inspect_ai packs with a method that Python's zipfile does not know; damage is found."""
    doc = {"id": 1, "epoch": 1, "input": "q", "target": "x", "scores": {"m": {"value": 0.25}}}
    plain = json.dumps(doc).encode()
    packed = pa.compress(plain, codec="zstd", asbytes=True)
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("samples/1_epoch_1.json", packed)
    data = bytearray((tmp_path / "a.eval").read_bytes())
    directory = data.index(b"PK\x01\x02")
    for at, sizes in ((0, (8, 14, 22)), (directory, (10, 16, 24))):
        method, checksum, size = (at + place for place in sizes)
        data[method : method + 2] = (93).to_bytes(2, "little")
        data[checksum : checksum + 4] = zlib.crc32(plain).to_bytes(4, "little")
        data[size : size + 4] = len(plain).to_bytes(4, "little")
    (tmp_path / "a.eval").write_bytes(data)
    assert taut.read_rollouts(tmp_path / "a.eval").reward.tolist() == [0.25]
    data[directory + 16] ^= 1
    (tmp_path / "a.eval").write_bytes(data)
    with pytest.raises(LogError, match="damaged"):
        taut.read_rollouts(tmp_path / "a.eval")


@pytest.mark.slow
def test_a_full_disk_stops_convert_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the end of the disk."""
    log = write_lines(tmp_path / "log" / "a.jsonl", rows_of(60_000, gold=0.1))
    (tmp_path / "out").mkdir()
    code = (
        "import resource, signal, sys, taut\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: taut.convert(sys.argv[1], sys.argv[2])\n"
        "except ValueError as error: print(error)\n"
    )
    out = tmp_path / "out" / "b.parquet"
    run = [sys.executable, "-c", code, log, out]
    done = subprocess.run(run, capture_output=True, check=False)
    assert done.returncode == 0 and b"make room" in done.stdout, done
    assert not list(out.parent.iterdir())


@pytest.mark.slow
def test_two_converts_of_one_file_at_once_both_end_well(tmp_path):
    """Each writes a part of its own; the file is whole whoever is last."""
    log = write_lines(tmp_path / "a.jsonl", rows_of(20_000))
    out = tmp_path / "b.parquet"
    code = "import sys, taut; print(taut.convert(sys.argv[1], sys.argv[2]))"
    run = [sys.executable, "-c", code, log, out]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE) for _ in range(2)]
    assert [each.communicate()[0].strip() for each in both] == [b"20000"] * 2
    assert len(taut.read_rollouts(out)) == 20_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.parquet"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_text_are_read_by_their_line_of_names(delimiter, tmp_path):
    """Commas, semicolons and tabs; cells with line ends; empty cells are no value."""
    rows = [("prompt_id", "reward", "gold"), ('"a\nb"', "1", ""), ("c", "0.5", "0.25")]
    (tmp_path / "a.csv").write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    rollouts = taut.read_rollouts(tmp_path / "a.csv")
    assert rollouts.reward.tolist() == [1.0, 0.5] and rollouts.notes == ()
    assert np.isnan(rollouts.gold[0]) and rollouts.gold[1] == 0.25


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_of_compiled_code_is_made_anew(suffix, tmp_path, monkeypatch):
    """What ends a command is told from other errors, and is gone for the next try."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "twice.py"
    source.write_text(
        "import numba\n@numba.njit(cache=True)\ndef twice(x):\n    return 2 * x\n", encoding="utf-8"
    )
    load = lambda: runpy.run_path(str(source))["twice"]  # noqa: E731
    assert load()(2) == 4
    for file in (tmp_path / "cache").rglob(f"*.{suffix}"):
        file.write_bytes(b"garbage\n")
    with pytest.raises(ValueError) as caught:
        load()(2)
    assert clear_damaged_cache(caught.value)
    assert load()(2) == 4
    assert not clear_damaged_cache(ValueError("another"))
