"""``inward train`` as its users call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from inward import load, pgd
from inward.cli import main
from inward.data import open_set
from inward.draw import to_picture
from inward.training.augment import plain

QUICK = ["--data", "digits", "--norm", "batch", "--epochs", "6", "--rate", "0.1", "--batch", "100", "--ema", "0.9"]
pytestmark = pytest.mark.usefixtures("single_thread")


def test_a_run_makes_a_network_with_a_true_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", *QUICK, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    clean, attacked = card["figures"]["accuracy"]
    assert (clean["what"], attacked["what"]) == ("clean", "PGD-40 (linf, eps 0.3)")
    assert f"| clean | {clean['accuracy']:.1%} |" in said
    # The figures are those of the weights that are kept.
    net, (_, held) = load(str(out)), open_set("digits")
    images = (plain(held.images(range(176)), 8) * 255).round() / 255
    assert (net(images).argmax(1) == held.labels).double().mean().item() == pytest.approx(clean["accuracy"])
    left = ~pgd(net, images, label=held.labels, eps=0.3).success
    assert left.double().mean().item() == pytest.approx(attacked["accuracy"], abs=0.02)
    assert clean["accuracy"] > 0.8
    assert card["recipe"]["epochs"] == 6
    assert len(card["history"]) == 6
    assert main(["show", str(out)]) == 0
    capsys.readouterr()
    assert {"card.md", "curves.png", "recipe.json", "state.pt", "weights.safetensors"} <= {
        p.name for p in out.iterdir()
    }
    # It explains a picture, and again from the manifest, which names the folder from the root.
    to_picture(images[3]).save(tmp_path / "digit.png")
    assert main(["explain", str(out), str(tmp_path / "digit.png"), "--out", str(tmp_path / "why")]) == 0
    assert main(["rerun", str(tmp_path / "why" / "digit")]) == 0
    assert "values: identical" in capsys.readouterr().out
    # Once more it is only measured, and says the same.
    assert main(["train", *QUICK, "--out", str(out)]) == 0
    assert capsys.readouterr().out == said


def test_an_open_world_is_on_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "digits", "--output", "sigmoid", "--open-world", "--norm", "batch", "--epochs", "5"]
    assert main(["train", *options, "--autoattack", "3", "--eps", "0.1", "--out", str(tmp_path / "run")]) == 0
    figures = json.loads((tmp_path / "run" / "card.json").read_text())["figures"]
    assert figures["auroc"] > 0.8
    assert [row["pictures"] for row in figures["accuracy"]] == [176, 176, 3]
    # What took long is kept, and read by the next call.
    kept = json.loads((tmp_path / "run" / "autoattack" / "report.json").read_text())
    assert kept["curve"][-1]["accuracy"] == figures["accuracy"][2]["accuracy"]
    said = capsys.readouterr().out
    assert f"(AUROC): {figures['auroc']:.3f}, every second of these attacked" in said
    # The attack raises outputs of what belongs to no class.
    assert figures["auroc"] < figures["auroc_as_made"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "there is nothing to train on; give --data, which is mnist, cifar10, digits"),
        (["--data", "digit"], "there is no data set 'digit'; name mnist, cifar10, digits, a folder"),
        (["--data", "digits", "--activation", "swish"], "there is no activation 'swish'; choose relu"),
        (["--data", "digits", "--epochs", "1.5"], "is not a whole number"),
        (["--data", "digits", "--adversarial", "pgd", "--eps", "8"], "at most 1 in linf"),
        (
            ["--data", "digits", "--adversarial", "pgd", "--ball", "l2"],
            "a ball in l2 needs a radius; give eps, such as 0.5",
        ),
        (["--data", "digits", "--ball", "l2"], "a ball in l2 needs a radius; give eps, such as 0.5"),
        (["--data", "digits", "--ball", "l3"], "there is no ball 'l3'; choose linf, l2, l1"),
        (["--data", "digits", "--autoattack", "-5"], "autoattack is a number of pictures, 0 or more, not -5"),
        (
            ["--data", "digits", "--ball", "l1", "--eps", "3", "--autoattack", "2"],
            "AutoAttack is for linf and l2, not l1; leave out --autoattack",
        ),
        (["--data", "digits", "--device", "tpu"], "there is no device 'tpu' here; give --device cpu or auto"),
        (["--data", "digits", "--net", "vgg"], "there is no net 'vgg'; choose cnn, resnet"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_recipe_in_a_folder_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["train", *QUICK[:4], "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(quick) == 0
    assert main([*quick, "--seed", "3"]) == 2
    assert "holds a run with seed 0; give another --out, or remove the folder" in capsys.readouterr().err
    # Nor do weights that were put there pass for those of the recipe beside them.
    told = json.loads((tmp_path / "run" / "recipe.json").read_text()) | {"seed": 3}
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(told))
    assert main([*quick, "--seed", "3"]) == 2
    assert "weights.safetensors was trained with another seed; remove it to train anew" in capsys.readouterr().err


def test_another_set_of_the_same_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    quick = ["train", "--epochs", "1", "--batch", "20", "--rate", "0.01", "--out", str(tmp_path / "run")]
    for name, labels in (("one", np.arange(40) % 2), ("two", np.arange(40) // 20)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "set.npz", images=images, labels=labels, x_test=images[:4], y_test=labels[:4])
    assert main([*quick, "--data", str(tmp_path / "one" / "set.npz")]) == 0
    # Pictures of their own size, where none is given.
    assert load(str(tmp_path / "run")).size == (12, 12)
    assert main([*quick, "--data", str(tmp_path / "two" / "set.npz")]) == 2
    assert "holds a run with other pictures or labels; give another --out" in capsys.readouterr().err
    # Nor where the recipe beside the weights does not say what they were trained on.
    told = json.loads((tmp_path / "run" / "recipe.json").read_text())
    del told["trained_on"]
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(told))
    assert main([*quick, "--data", str(tmp_path / "two" / "set.npz")]) == 2
    assert "was trained with another set of pictures; remove it to train anew" in capsys.readouterr().err


def test_ctrl_c_and_going_on_give_the_weights_of_a_run_without(tmp_path: Path) -> None:
    """A process of its own is stopped after its first seconds, killed after some more, and then left to its end."""
    options = ["train", *QUICK[:4], "--epochs", "5", "--batch", "20"]
    program = (
        "import sys, torch, inward.training.loop as loop; loop._EVERY = 0.05; torch.set_num_threads(1); "
        "from inward.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "stopped"
    for sent, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with subprocess.Popen(
            [sys.executable, "-c", program, *options, "--out", str(out)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as process:
            before = (out / "state.pt").stat().st_mtime if (out / "state.pt").exists() else 0.0
            while process.poll() is None and (
                not (out / "state.pt").exists() or (out / "state.pt").stat().st_mtime == before
            ):
                time.sleep(0.02)
            assert process.poll() is None, "it ended before it was stopped"
            process.send_signal(sent)
            said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
        if sent == signal.SIGINT:
            assert said == f"inward: stopped; the same command goes on from what {out} holds\n"
    assert main([*options, "--out", str(out)]) == 0
    assert main([*options, "--out", str(tmp_path / "whole")]) == 0
    stopped, whole = (load(str(place)) for place in (out, tmp_path / "whole"))
    assert stopped.weights_hash() == whole.weights_hash()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stopped(x), whole(x))
