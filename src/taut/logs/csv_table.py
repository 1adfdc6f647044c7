"""A CSV file of few columns that people edit: every cell a text, every row of one length."""

import csv

import numpy as np

from taut.errors import LogError


def read_csv(path: str) -> tuple[dict[str, list[str]], np.ndarray]:
    """Return the columns of a CSV file, by name, and the line where each row ends, int64.

    Empty rows are skipped. Cells stay as they are: 007 is an id, not a number.

    Raises:
        LogError: It is no CSV in UTF-8, a row has more or fewer cells than the first line, or two
            columns have one name.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            rows, lines = [], []
            for row in reader:
                if any(row):
                    rows.append(row)
                    lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as problem:
            raise LogError(
                f"{path}: expected CSV in UTF-8, found {problem}; export it again as 'CSV UTF-8'."
            ) from None
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise LogError(f"{path}: expected one column '{twice[0]}', found several; rename them.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise LogError(
                f"{path}:{line}: expected {len(header)} cells as in the first line, found "
                f"{len(row)}; export it again, with quotes around text."
            )
    columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in header)
    return dict(zip(header, columns, strict=True)), np.array(lines, dtype=np.int64)
