"""Ways to damage a file: any bytes, numbers in texts, and what each format is made of. All by one random generator."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random

import h5py
import numpy as np

Mutator = Callable[[bytes, Random], bytes]
EXTREME = (
    "0", "1", "-1", "2", "-2", "255", "256", "65535", "65536", "2147483647", "2147483648", "4294967296", "1000000",
    "99999999", "9223372036854775807", "18446744073709551616", "1e308", "-1e308", "1e400", "1e-320", "1e-12", "nan",
    "NaN", "inf", "-inf", "-0", "0x10", "1_000", "1,5", "1d3", "١", "***", ".", "+", "1e", "1" + "0" * 400,
    "9" * 5000, "",
)  # fmt: skip
TEXTS = (
    "",
    " ",
    "\t",
    "\x00",
    "é",
    "\ufeff",
    "null",
    "true",
    "[]",
    "{}",
    "[" * 3000,
    "a" * 70000,
    "'",
    '"',
    "%",
    "=",
    "\r",
)


def flip_bits(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(content: bytes, rng: Random) -> bytes:
    """A few bytes in a row become zeros, ones, or what makes a number the largest or negative."""
    changed, start = bytearray(content), rng.randrange(len(content))
    value = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * rng.choice((1, 2, 4, 8, 64))
    changed[start : start + len(value)] = value
    return bytes(changed)


def truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def insert(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.choice((1, 2, 16, 1000))) + content[start:]


def delete(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 2, 16, 1000)) :]


def duplicate(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content))
    block = content[start : start + rng.choice((1, 8, 100, 5000))]
    place = rng.randrange(len(content))
    return content[:place] + block * rng.choice((1, 2, 50)) + content[place:]


def join(content: bytes, rng: Random) -> bytes:
    return content + content[rng.randrange(len(content)) :]


def empty(content: bytes, rng: Random) -> bytes:
    return rng.choice((b"", b"\n", b"\0" * 512, b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n")))


BYTES: tuple[Mutator, ...] = (flip_bits, set_bytes, truncate, insert, delete, duplicate, join, empty)


def extreme_number(content: bytes, rng: Random) -> bytes:
    """One number of a text becomes an extreme one, or no number."""
    numbers = list(re.finditer(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", content))
    if not numbers:
        return flip_bits(content, rng)
    match = rng.choice(numbers)
    return content[: match.start()] + rng.choice(EXTREME).encode() + content[match.end() :]


def extreme_early_number(content: bytes, rng: Random) -> bytes:
    """As above in the first two lines, where formats have their counts, lattices and columns."""
    head = b"\n".join(content.split(b"\n", 4)[:4])
    return extreme_number(head, rng) + content[len(head) :]


def replace_word(content: bytes, rng: Random) -> bytes:
    words = list(re.finditer(rb"[^\s=:,\"{}\[\]]+", content))
    if not words:
        return flip_bits(content, rng)
    match = rng.choice(words)
    other = rng.choice([rng.choice(words)[0], rng.choice(TEXTS).encode(), rng.choice(EXTREME).encode()])
    return content[: match.start()] + other + content[match.end() :]


def edit_lines(content: bytes, rng: Random) -> bytes:
    """A line is lost, doubled, moved, or swapped with another."""
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(4)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines[i:i] = [lines[i]] * rng.choice((1, 2, 1000))
    elif what == 2:
        lines.insert(j, lines.pop(i) if len(lines) > 1 else b"")
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


LINES: tuple[Mutator, ...] = (extreme_number, extreme_number, extreme_early_number, replace_word, edit_lines)


def yaml_nesting(content: bytes, rng: Random) -> bytes:
    """Depth, aliases that double, keys that are no texts."""
    depth = rng.choice((100, 3000, 100_000))
    aliases = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40))
    extra = rng.choice((b"[" * depth, b"a: [" + b"{a: " * depth, b"? [1, 2]\n: 3\n", b"1: 2\n",
                        b"!!python/name:os.system x\n",
                        aliases + b"seed: *a39\n", b"<<: 3\n", b"x: &x [*x]\n", b"- " * depth, b"seed: 2020-01-01\n",
                        b"seed: 1:2\n", b"precision: " + b"[" * depth + b"]" * depth + b"\n"))  # fmt: skip
    lines = content.splitlines(keepends=True)
    place = rng.randrange(len(lines) + 1)
    return b"".join([*lines[:place], extra, *lines[place:]])


def json_value(value: object, rng: Random) -> object:
    """A JSON value with one thing inside it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: json_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], json_value(value[place], rng), *value[place + 1 :]]
    number = rng.choice((0, -1, 1, 2, 10**9, 10**20, 10**400, 1e308, -1e-300, float("nan"), float("inf"), 0.5))
    return rng.choice(
        [number, number, number, None, True, [], {}, "", "x" * 10000, [value] * 3, {"a": value}, str(value)]
    )


def json_file(content: bytes, rng: Random) -> bytes:
    return json.dumps(json_value(json.loads(content), rng)).encode()


def safetensors_header(content: bytes, rng: Random) -> bytes:
    """The JSON of names, shapes and offsets, and our description inside it."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    if rng.random() < 0.7:
        ours = header["__metadata__"]
        key = rng.choice(list(ours))
        header["__metadata__"] = {**ours, key: _json_text(ours[key], rng)}
    else:
        header = json_value(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    declared = len(text) if rng.random() < 0.95 else rng.choice((0, 1, 2**31, 2**63 - 1, len(text) + 8))
    return struct.pack("<Q", declared) + text + content[8 + size :]


def _json_text(text: str, rng: Random) -> str:
    try:
        return json.dumps(json_value(json.loads(text), rng))
    except json.JSONDecodeError:
        return rng.choice(TEXTS)


def hdf5_columns(content: bytes, rng: Random) -> bytes:
    """A column is lost, a group, a link, of another type, length or content."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        name = rng.choice(list(file))
        values = file[name][()]
        what = rng.randrange(10)
        if what >= 7 and values.dtype.kind in "iuf":
            row = rng.randrange(max(1, len(values)))
            with np.errstate(all="ignore"):
                values[row : row + 1] = np.array(
                    rng.choice((0.0, -1.0, 1e3, 1e18, np.nan, np.inf))
                )  # .astype, as C does
            what = 7
        del file[name]
        _replace(file, name, values, what, rng)
    return buffer.getvalue()


def _replace(file: h5py.File, name: str, values: np.ndarray, what: int, rng: Random) -> None:
    if what == 0:
        return
    if what == 1:
        file.create_group(name)
    elif what == 2:
        file[name] = rng.choice((h5py.ExternalLink("nowhere.h5", name), h5py.SoftLink("/nowhere"), h5py.SoftLink(name)))
    elif what == 3:
        file[name] = np.zeros(values.shape, rng.choice(("S3", "c16", "f2", "u1", "i8", "?", "V4")))
    elif what == 4:
        shape = (rng.choice((0, 1, 10**6, 10**9, 10**13)), *values.shape[1:])
        kind = values.dtype if values.dtype != object else h5py.string_dtype()
        file.create_dataset(
            name, shape, kind, chunks=True, compression=rng.choice((None, "gzip")), maxshape=(None, *shape[1:])
        )
    elif what == 5:
        file[name] = rng.choice((1.0, "text", h5py.Empty("f8"), [[1, 2]]))
    else:
        kept = values[: rng.randrange(len(values) + 1)] if what == 6 else values
        file.create_dataset(name, data=kept, dtype=values.dtype if values.dtype != object else h5py.string_dtype())


def pickle_opcodes(content: bytes, rng: Random) -> bytes:
    """Opcodes of the pickle within a checkpoint, which is a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in files if name.endswith("data.pkl"))
    data = files[name]
    extra = rng.choice((b"(" * 1000, b")" * 100, b"\x85" * 100_000, b"r\xff\xff\xff\x7f", b"q\xff", b"h\x00",
                        b"2" * 100,
                        b"R", b"b", b"s", b"u", b"cos\nsystem\n", b"\x8a\xff" + b"\xff" * 255, b"\x8e" + b"\xff" * 8,
                        b"X\xff\xff\xff\x7f", b"]\x94", b"Q", b"0", b"."))  # fmt: skip
    place = rng.randrange(2, len(data))
    changed = rng.choice(
        (data[:place] + extra + data[place:], data[:place] + extra + data[place + 1 :], extra_number(data, rng))
    )
    return _zip(files | {name: changed})


def extra_number(data: bytes, rng: Random) -> bytes:
    """One small integer of a pickle (a size, a shape, a degree) becomes another."""
    places = [m.start() for m in re.finditer(rb"K.", data)]
    if not places:
        return flip_bits(data, rng)
    place = rng.choice(places)
    number = rng.choice(
        (b"K\x00", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"N", b"\x8a\x10" + b"\x7f" * 16)
    )
    return data[:place] + number + data[place + 2 :]


def zip_members(content: bytes, rng: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(list(files))
    changed = rng.choice(BYTES)(files[name], rng) if files[name] else b"x"
    return _zip({n: c for n, c in files.items() if n != name} | ({} if rng.random() < 0.2 else {name: changed}))


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


OF_SUFFIX: dict[str, tuple[Mutator, ...]] = {
    ".safetensors": (*BYTES, *[safetensors_header] * 16),
    ".h5": (*BYTES, *[hdf5_columns] * 10),
    ".yaml": (*BYTES, *LINES, *[yaml_nesting] * 4),
    ".json": (*BYTES, *LINES, *[json_file] * 10),
    ".model": (*BYTES, *[pickle_opcodes] * 8, *[zip_members] * 4),
    ".pth": (*BYTES, *[pickle_opcodes] * 8, *[zip_members] * 4),
    ".traj": BYTES,
    ".db": BYTES,
}


def mutate(suffix: str, content: bytes, rng: Random) -> bytes:
    """One damage, often a second one of the bytes."""
    first = rng.choice(OF_SUFFIX.get(suffix, (*BYTES, *LINES, *LINES)))
    damaged = first(content, rng)
    if damaged and rng.random() < 0.15:
        damaged = rng.choice(BYTES)(damaged, rng)
    return damaged
