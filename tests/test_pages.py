"""The page reader against PyArrow: the same bits, whatever wrote the file, or a refusal."""

import gzip
import io
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taut.engines.local import read_rollouts
from taut.errors import LogError
from taut.logs import read
from taut.logs.plan import Planner, check_mapping
from taut.logs.readers import pages, parquet, unpack
from taut.logs.readers.levels import SHORT, below, lz4_size, page_header
from taut.logs.sources import sniff

NAMES = ("policy_logprobs", "ref_logprobs")


def lists(rng, rows: int, kind: dict) -> pa.Array:
    """Lists of some rows: of every length, empty, null, with nulls in them, as `kind` allows."""
    scale = rng.choice([0, 3, 40, 400])
    lengths = rng.integers(0 if kind["empty"] else 1, scale + 2, rows)
    values = rng.normal(size=int(rng.choice([50, 5000])))
    flat = rng.choice(values, lengths.sum()).astype(kind["dtype"])
    flat[rng.random(flat.size) < kind["odd"]] = rng.choice([np.nan, np.inf, -0.0])
    mask = rng.random(flat.size) < kind["null values"]
    inner = pa.array(flat, mask=mask if mask.any() else None)
    offsets = np.r_[0, np.cumsum(lengths)]
    large = kind["large"]
    make = pa.LargeListArray if large else pa.ListArray
    null = rng.random(rows) < kind["null lists"]
    at = pa.array(offsets, pa.int64() if large else pa.int32(), mask=np.r_[null, False])
    out = make.from_arrays(at, inner)
    field = pa.field("element", inner.type, nullable=kind["inner"])
    return out.cast((pa.large_list if large else pa.list_)(field))


def table(rng, rows: int = 200) -> pa.Table:
    outer, inner = rng.random(2) < 0.6
    kind = {
        "dtype": rng.choice([np.float32, np.float64]),
        "empty": rng.random() < 0.6,
        "odd": rng.choice([0, 0, 0.01]),
        "null values": rng.choice([0, 0.01, 0.5]) if inner else 0,
        "null lists": rng.choice([0, 0.1, 0.9]) if outer else 0,
        "large": rng.random() < 0.3,
        "inner": bool(inner),
    }
    columns = {name: lists(rng, rows, kind) for name in NAMES}
    fields = [
        pa.field("prompt_id", pa.string()),
        pa.field("reward", pa.float64()),
        *(pa.field(name, column.type, nullable=bool(outer)) for name, column in columns.items()),
    ]
    ids = pa.array([f"p{i // 4}" for i in range(rows)])
    made = pa.table([ids, pa.array(rng.random(rows)), *columns.values()], schema=pa.schema(fields))
    begin = int(rng.integers(0, rows // 2)) if rng.random() < 0.3 else 0
    return made.slice(begin)  # of a slice, buffers begin somewhere


def options(rng) -> dict:
    split = rng.random() < 0.3
    return {
        "compression": str(
            rng.choice(["none", "snappy", "lz4", "zstd", "gzip"], p=[0.3, 0.2, 0.2, 0.2, 0.1])
        ),
        "data_page_version": str(rng.choice(["1.0", "2.0"])),
        "use_dictionary": False if split else bool(rng.random() < 0.4),
        "use_byte_stream_split": [f"{name}.list.element" for name in NAMES] if split else False,
        "data_page_size": int(rng.choice([16, 500, 20_000, 1 << 20])),
        "write_batch_size": int(rng.choice([1, 10, 1024])),
        "dictionary_pagesize_limit": int(rng.choice([100, 1 << 20])),
        "row_group_size": int(rng.choice([1, 30, 10_000])),
        "write_statistics": bool(rng.random() < 0.7),
        "write_page_index": bool(rng.random() < 0.3),
        "write_page_checksum": bool(rng.random() < 0.3),
    }


def content(path) -> tuple:
    """Return the token lists of a file to the bit, their lengths, which are null, their nulls."""
    source, request = sniff(str(path)), read.Request(paths=check_mapping(None))
    planner = Planner(layouts=partial(read._layout, request=request, source=source))
    found = {name: ([], [], [], []) for name in NAMES}
    for _, chunks, _ in parquet.chunks(source, planner):
        for chunk in chunks():
            for name, (bits, lengths, missing, nulls) in found.items():
                values = chunk.columns.get(name)
                if values is None:  # damage renamed it
                    continue
                tokens = values.data
                rows = range(len(tokens.starts))
                flat = [tokens.row(row).copy() for row in rows]
                size = len(tokens.starts)
                missing.append(np.zeros(size, bool) if values.missing is None else values.missing)
                lengths.append(tokens.lengths)
                null = np.zeros(len(tokens.values), bool)
                if tokens.null is not None:
                    null[tokens.null] = True
                nulls += [null[tokens.starts[row] : tokens.ends[row]] for row in rows]
                bits += flat
    return tuple(tuple(part.tobytes() for part in map(_join, found[name])) for name in NAMES)


def _join(parts: list) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)


def by_arrow(path, monkeypatch) -> tuple:
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "_list_leaves", lambda *_: {})
        return content(path)


def outcome(make) -> tuple | None:
    try:
        return make()
    except LogError:
        return None


def watched(monkeypatch) -> list:
    """Count the pages that are read, and note why PyArrow was asked."""
    seen = []
    real = pages.Pages.next

    def following(self):
        try:
            page = real(self)
        except unpack.Unusual as problem:
            seen.append(str(problem))
            raise
        seen.append(True)
        return page

    monkeypatch.setattr(pages.Pages, "next", following)
    return seen


def compare(tmp_path, monkeypatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    how = options(rng)
    path = tmp_path / "log.parquet"
    pq.write_table(table(rng), path, **how)
    monkeypatch.setattr(parquet, "_BATCH_BYTES", int(rng.choice([1000, 8 << 20])))
    seen = watched(monkeypatch)
    ours = content(path)
    assert ours == by_arrow(path, monkeypatch), (seed, how)
    if how["compression"] != "gzip":
        assert seen and set(seen) == {True}, (seed, how, set(seen))


@pytest.mark.parametrize("seed", range(40))
def test_every_way_to_write_reads_as_by_pyarrow(tmp_path, monkeypatch, seed):
    compare(tmp_path, monkeypatch, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 3000))
def test_every_way_to_write_reads_as_by_pyarrow_long(tmp_path, monkeypatch, seed):
    compare(tmp_path, monkeypatch, seed)


def damage(tmp_path, monkeypatch, seed: int, tries: int) -> None:
    """What is damaged is read as PyArrow reads it, or refused; what it refuses is refused."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    pq.write_table(table(rng, 60), buffer, **options(rng))
    whole = buffer.getvalue()
    path = tmp_path / "log.parquet"
    for turn in range(tries):
        data = bytearray(whole)
        for _ in range(int(rng.choice([1, 1, 4]))):
            at = int(rng.integers(4, len(data) - 8))
            data[at] = int(rng.choice([0, 255, data[at] ^ 1 << rng.integers(8)]))
        if turn % 10 == 0:  # a piece is lost, and the footer still there
            at, size = int(rng.integers(4, len(data))), int(rng.integers(1, 100))
            del data[at : at + size]
        path.write_bytes(data)
        ours = outcome(lambda: content(path))
        if ours is not None:
            assert ours == outcome(lambda: by_arrow(path, monkeypatch)), (seed, turn)


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_read_as_by_pyarrow_or_refused(tmp_path, monkeypatch, seed):
    damage(tmp_path, monkeypatch, seed, 12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_damage_is_read_as_by_pyarrow_or_refused_long(tmp_path, monkeypatch, seed):
    damage(tmp_path, monkeypatch, seed, 100)


def test_files_of_other_writers_are_read_from_their_pages(tmp_path, monkeypatch):
    import duckdb

    rng = np.random.default_rng(0)
    data = table(rng, 500)
    frame = pl.DataFrame(
        {
            "prompt_id": data["prompt_id"].to_pylist(),
            "reward": data["reward"].to_pylist(),
            **{name: [list(map(float, range(i % 7))) for i in range(len(data))] for name in NAMES},
        },
        schema_overrides={name: pl.List(pl.Float32) for name in NAMES},
    )
    kept = frame.to_arrow()
    for codec in ("uncompressed", "snappy", "zstd", "lz4"):
        frame.write_parquet(tmp_path / f"polars {codec}.parquet", compression=codec)
    for codec in ("uncompressed", "snappy", "zstd", "lz4_raw"):
        with duckdb.connect() as base:
            base.register("kept", kept)
            base.execute(f"copy kept to '{tmp_path}/duckdb {codec}.parquet' (codec '{codec}')")
    seen = watched(monkeypatch)
    for path in sorted(tmp_path.iterdir()):
        seen.clear()
        assert content(path) == by_arrow(path, monkeypatch), path.name
        assert set(seen) == {True}, (path.name, set(seen))


def written(rows: int = 50, **how) -> tuple[bytes, int]:
    """Return a file of one page a column, and where the header of policy's begins."""
    buffer = io.BytesIO()
    data = table(np.random.default_rng(3), rows)
    how = {"use_dictionary": False, "compression": "none", "write_statistics": False} | how
    pq.write_table(data, buffer, **how)
    whole = buffer.getvalue()
    meta = pq.ParquetFile(io.BytesIO(whole)).metadata
    return whole, meta.row_group(0).column(2).data_page_offset


@pytest.mark.parametrize("codec", ["none", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_byte_of_a_header_may_lie(tmp_path, monkeypatch, codec, version):
    whole, at = written(compression=codec, data_page_version=version)
    path = tmp_path / "log.parquet"
    for place in range(at, at + 40):
        for value in (0, 0x7F, 0xFF):
            data = bytearray(whole)
            data[place] = value
            path.write_bytes(data)
            ours = outcome(lambda: content(path))
            if ours is not None:
                assert ours == outcome(lambda: by_arrow(path, monkeypatch)), (place, value)


def test_packed_bytes_that_unpack_to_less_are_never_filled_up_with_memory():
    data = np.frombuffer(b"a page of a log, " * 500, np.uint8)
    for number, codec in unpack._UNPACK.items():
        packed = np.frombuffer(codec.compress(data, asbytes=True), np.uint8)
        assert unpack.unpack(number, packed, data.size).tobytes() == data.tobytes()
        for size in (1, data.size - 1, data.size + 1, 1 << 27):
            with pytest.raises(unpack.Unusual):
                unpack.unpack(number, packed, size)
        for cut in (0, 1, 4, packed.size - 1):
            with pytest.raises(unpack.Unusual):
                unpack.unpack(number, packed[:cut], data.size)


def test_streams_that_do_not_say_their_size_are_unpacked_and_measured():
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"token " * 1000)
    packed = np.frombuffer(sink.getvalue(), np.uint8)
    assert unpack._zstd_size(packed) == -1
    assert unpack.unpack(6, packed, 6000).tobytes() == b"token " * 1000
    for size in (5999, 6001):
        with pytest.raises(unpack.Unusual):
            unpack.unpack(6, packed, size)


def test_kernels_refuse_what_runs_over():
    where, level = np.empty(64, np.int64), np.empty(64, np.uint8)

    def levels(data: bytes, count: int, width: int = 1, top: int = 1) -> int:
        return below(np.frombuffer(data, np.uint8), 0, len(data), count, width, top, where, level)

    assert levels(b"\x10\x01", 8) == 0
    assert levels(b"\x10\x00", 8) == 8
    assert levels(b"\x03\xf0", 8) == 4
    for data in (b"", b"\x10", b"\x12\x01", b"\x00\x01", b"\x05\xff", b"\x10\x02", b"\xff" * 12):
        assert levels(data, 8) < 0, data
    assert levels(b"\x03\xff\xff", 8, 2, 2) < 0  # 3 where 2 is the highest
    header = np.zeros(256, np.int64)
    for data in (b"\x15", b"\x15\xff", b"\x18\xff\xff\x03ab", b"\x2c" * 7):
        assert page_header(np.frombuffer(data, np.uint8), 0, len(data), header) == SHORT
    for data in (b"\x2c" * 9, b"\x19\x00", b"\x15" + b"\xff" * 12, b"\x05\x00\x00"):
        assert page_header(np.frombuffer(data, np.uint8), 0, len(data), header) < 0
    for data in (b"", b"\xf0", b"\xf0\xff\xff", b"\x10", b"\x1f\x61\x01\x00\xff"):
        assert lz4_size(np.frombuffer(data, np.uint8)) < 0


def test_a_file_within_gzip_keeps_all_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1000)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(300, 40)).astype(np.float32) for _ in NAMES]
    columns = {"prompt_id": [f"p{i}" for i in range(300)], "reward": rng.random(300)}
    columns |= {name: list(one) for name, one in zip(NAMES, values, strict=True)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=100)
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for path in ("a.parquet", "b.parquet.gz"):
        rollouts = read_rollouts(tmp_path / path)
        expected = (values[0].astype(float) - values[1]).sum(axis=1)
        np.testing.assert_allclose(rollouts.log_ratio, expected, rtol=1e-12)
    a, b = (read_rollouts(tmp_path / path) for path in ("a.parquet", "b.parquet.gz"))
    assert a.log_ratio.tobytes() == b.log_ratio.tobytes()
