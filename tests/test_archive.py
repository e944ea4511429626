"""A .pt2 file from outside runs nothing."""

from __future__ import annotations

import io
import json
import pickle
import threading
import zipfile

import pytest
import torch
from torch import nn

import inward
from inward.errors import InwardError
from inward.network.archive import is_arithmetic, load_program

SIZE = (6, 8)


class Gadget:
    """What unpickling would call: it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 6 * 8, 4)).eval()
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    exported = torch.export.export(
        module, (torch.rand(2, 2, *SIZE),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
    )
    torch.export.save(exported, path)
    return module, path


def changed(path, out, change):
    """A copy of an archive whose entries ``change(name, data)`` may exchange."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out


def test_an_honest_file_gives_the_same_answers(program):
    module, path = program
    net = inward.load(str(path), device="cpu")
    images = torch.rand(3, 2, *SIZE)
    assert torch.equal(net(images), module(images))
    assert "0" in net.points
    assert "3" in net.points


def test_functions_are_as_before_after_reading(program):
    before = torch.load, pickle.loads
    load_program(program[1])
    with pytest.raises(InwardError):
        load_program(program[1].with_suffix(".missing"))
    assert (torch.load, pickle.loads) == before


def test_a_pickle_inside_is_refused_and_not_run(program, tmp_path):
    trace = tmp_path / "ran"
    harmful = io.BytesIO()
    torch.save((Gadget(trace),), harmful)

    def change(name, data):
        return harmful.getvalue() if "sample_inputs" in name else data

    with pytest.raises(InwardError, match="pickled objects, which could run code"):
        load_program(changed(program[1], tmp_path / "bad.pt2", change))
    assert not trace.exists()


def test_an_expression_that_is_code_is_refused_and_not_run(program, tmp_path):
    trace = tmp_path / "ran"
    hits = []

    def change(name, data):
        if not name.endswith(".json") or b"expr_str" not in data:
            return data
        text = json.loads(data)
        hits.append(_poison(text, f"open({str(trace)!r}, 'w')"))
        return json.dumps(text).encode()

    with pytest.raises(InwardError, match="a size that is no arithmetic"):
        load_program(changed(program[1], tmp_path / "bad.pt2", change))
    assert sum(hits) > 0
    assert not trace.exists()


def test_a_call_of_something_else_is_refused(program, tmp_path):
    def change(name, data):
        return (
            data.replace(b"torch.ops.aten.relu.default", b"torch.ops.load_library") if name.endswith(".json") else data
        )

    with pytest.raises(InwardError, match="load_library"):
        inward.load(str(changed(program[1], tmp_path / "bad.pt2", change)), device="cpu")


def test_a_damaged_file_is_one_sentence(program, tmp_path):
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(program[1].read_bytes()[:2000])
    with pytest.raises(InwardError, match="not an exported program") as caught:
        load_program(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "harmless"),
    [
        ("Symbol('s31', positive=True, integer=True)", True),
        ("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))", True),
        ("FloorDiv(s0, 2) + 1", True),
        ("open('x', 'w')", False),
        ("Symbol('s0').__class__", False),
        ("lambdify(s0, 'exit')()", False),
        ("Symbol('a b')", False),
        ("eval(Symbol)", False),
        ("s0 if True else s1", False),
    ],
)
def test_size_expressions_are_arithmetic_or_refused(expression, harmless):
    assert is_arithmetic(expression) is harmless


def _poison(value, text):
    """Exchanges every size expression; gives how many."""
    count = 0
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if key == "expr_str":
            value[key] = text
            count += 1
        elif isinstance(item, (dict, list)):
            count += _poison(item, text)
    return count


def packed(path, out, extra):
    """A copy of an archive with further entries, compressed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_STORED)
        for name, data in extra.items():
            new.writestr(name, data)
    return out


def inner_bomb():
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 25))
    return inner.getvalue()


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"net/data/weights/weight_9": bytes(1 << 26)}, "entries that unpack to more than the file"),
        ({"net/models/other.json": b" " * (65 << 20)}, "entries that unpack to more than the file"),
        ({"net/data/weights/weight_9": inner_bomb()}, "entries that unpack to more than the file"),
    ],
    ids=["weights", "json", "nested"],
)
def test_a_bomb_is_refused_before_torch_reads_it(program, tmp_path, monkeypatch, extra, sentence):
    monkeypatch.setattr(torch.export, "load", lambda _: pytest.fail("was read"))
    with pytest.raises(InwardError, match=f"bad.pt2 holds {sentence}, and is refused"):
        load_program(packed(program[1], tmp_path / "bad.pt2", extra))


def test_a_description_that_is_too_long_is_refused(program, tmp_path, monkeypatch):
    monkeypatch.setattr("inward.network.archive._TEXT_BYTES", 100)
    with pytest.raises(InwardError, match="a description of more than 64 MB, and is refused"):
        load_program(program[1])


def test_reading_leaves_other_threads_alone(program, monkeypatch):
    seen = []
    plain = torch.export.load

    def load(path):
        thread = threading.Thread(target=lambda: seen.append(pickle.loads(pickle.dumps(3))))  # noqa: S301
        thread.start()
        thread.join()
        return plain(path)

    monkeypatch.setattr(torch.export, "load", load)
    load_program(program[1])
    assert seen == [3]
