"""Training: the same weights for the same recipe, stopped or not; every way to train does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from inward.data import Arrays, open_set
from inward.errors import CallError, InwardError
from inward.methods.in_training import inner
from inward.nets.trained import build
from inward.training import Recipe, Watch, train
from inward.training.augment import augmented, plain
from inward.training.loop import Trained
from inward.training.losses import divergence, loss_of, targets_of
from inward.training.strangers import auroc, strangers
from same import images

SMALL = Recipe(data="digits", norm="batch", size=8, epochs=3, batch=100, rate=0.1, ema=0.9, shift=1)
pytestmark = pytest.mark.usefixtures("single_thread")


def run(recipe: Recipe, folder: Path | None = None, on_step: Callable[[Watch], None] | None = None) -> Trained:
    split = open_set("digits")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        module = build(recipe.net, channels=1, classes=10, size=8, activation=recipe.activation, norm=recipe.norm)
    adversary = inner(recipe.ball, recipe.steps, recipe.step_size)  # type: ignore[arg-type]
    made = strangers if recipe.open_world else None
    return train(
        recipe, module, lambda x: x - 0.3, *split, adversary=adversary, strangers=made, folder=folder, on_step=on_step
    )


def weights(found: Trained) -> dict[str, Tensor]:
    return found.module.state_dict()


def assert_equal(a: Trained, b: Trained) -> None:
    for (name, one), two in zip(weights(a).items(), weights(b).values(), strict=True):
        assert torch.equal(one, two), name


class StopError(Exception):
    pass


def stopping(at: int) -> Callable[[Watch], None]:
    def tell(now: Watch) -> None:
        if now.step == at:
            raise StopError

    return tell


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"norm": "group", "optimizer": "adamw", "rate": 0.003, "schedule": "cosine", "precision": "auto"},
        {"adversarial": "pgd", "eps": 0.1, "steps": 2},
        {"adversarial": "free", "eps": 0.1, "replays": 2, "ema": 0.0},
    ],
    ids=["plain", "group norm", "pgd", "free"],
)
def test_the_same_weights_for_a_seed_also_where_it_was_stopped(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(SMALL, **change)
    whole = run(recipe)
    assert_equal(run(recipe), whole)
    # A checkpoint after every step, and one stop in the first and one in the last epoch.
    monkeypatch.setattr("inward.training.loop._EVERY", 0.0)
    for at in (5, 40):
        with pytest.raises(StopError):
            run(recipe, tmp_path, stopping(at))
    resumed = run(recipe, tmp_path)
    assert_equal(resumed, whole)
    kept = ("epoch", "loss", "shown", "accuracy", "rate")
    assert [[row[k] for k in kept] for row in resumed.history] == [[row[k] for k in kept] for row in whole.history]
    # Trained to its end, it is not trained again.
    assert_equal(run(recipe, tmp_path, stopping(52)), whole)


def test_another_seed_gives_other_weights() -> None:
    one, two = (weights(run(replace(SMALL, epochs=1, seed=seed)))["fc2.weight"] for seed in (0, 1))
    assert (one - two).abs().max() > 1e-3


def test_it_learns_and_says_so() -> None:
    told: list[Watch] = []
    found = run(replace(SMALL, epochs=8), on_step=told.append)
    assert [now.step for now in told] == list(range(1, 8 * 17 + 1))
    assert (told[0].accuracy, told[16].epoch, told[17].epoch) == (None, 1, 2)
    assert found.history[-1]["accuracy"] > 0.85
    assert told[-1].accuracy == found.history[-1]["accuracy"]
    assert not found.module.training
    assert found.history[-1]["loss"] < 0.5 * found.history[0]["loss"]


def fallen(found: Trained, eps: float) -> float:
    """The accuracy under PGD of ten steps."""
    _, held = open_set("digits")
    x, labels = plain(held.images(range(176)), 8), held.labels
    attack = inner("linf", 10, 0.25)
    made = attack(
        lambda z: nn.functional.cross_entropy(found.module(z - 0.3), labels, reduction="none"),
        x,
        eps,
        torch.Generator().manual_seed(0),
    )
    assert (made - x).abs().max() <= eps + 1e-6
    assert made.min() >= 0
    assert made.max() <= 1
    return (found.module(made - 0.3).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("way", ["pgd", "fgsm", "trades", "free"])
def test_adversarial_training_makes_robust(way: str) -> None:
    steps = {"fgsm": {"steps": 1, "step_size": 1.25}, "free": {"replays": 3}}.get(way, {"steps": 3})
    recipe = replace(SMALL, epochs=6, adversarial=way, eps=0.1, warm=0.2, **steps)  # type: ignore[arg-type]
    normal, robust = run(replace(SMALL, epochs=6)), run(recipe)
    assert fallen(robust, 0.1) > fallen(normal, 0.1) + 0.2
    assert robust.history[-1]["accuracy"] > 0.7


def test_sigmoids_and_an_open_world() -> None:
    recipe = replace(SMALL, epochs=9, output="sigmoid", optimizer="adamw", rate=0.005)
    closed, opened = run(recipe), run(replace(recipe, open_world=True))
    _, held = open_set("digits")
    known = plain(held.images(range(176)), 8)
    unknown = strangers(known, torch.Generator().manual_seed(5))
    scores = [[found.module(x - 0.3).amax(1) for x in (known, unknown)] for found in (closed, opened)]
    assert auroc(*scores[1]) > max(0.9, auroc(*scores[0]))
    assert opened.history[-1]["accuracy"] > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_that_of_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # With ties.
    known = torch.randint(2, 9, (40,), generator=generator).float()
    unknown = torch.randint(0, 7, (31,), generator=generator).float()
    labels = [1] * 40 + [0] * 31
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(labels, torch.cat([known, unknown]).numpy()), abs=1e-12)


def test_strangers_are_pictures_of_no_class() -> None:
    x = images(24, 3, 16, 12)
    found = strangers(x, torch.Generator().manual_seed(0))
    assert found.shape == (6, 3, 16, 12)
    assert found.min() >= 0
    assert found.max() <= 1
    # Shuffled patches have the pixels of a picture, in other places.
    for made in found[2:4]:
        source = [i for i in range(24) if torch.equal(made.flatten().sort().values, x[i].flatten().sort().values)]
        assert len(source) == 1
        assert not torch.equal(made, x[source[0]])


def test_losses_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    targets = targets_of(torch.tensor([2, -1]), 3, 0.0).double()
    assert targets.tolist() == [[0, 0, 1], [0, 0, 0]]
    squared = loss_of(Recipe(output="sigmoid"))(logits, targets)
    p = 1 / (1 + torch.exp(-logits))
    torch.testing.assert_close(
        squared, torch.stack([(p[0] - targets[0]).square().sum(), 3 * torch.tensor(0.25).double()])
    )
    crossed = loss_of(Recipe())(logits, targets_of(torch.tensor([0, 1]), 3, 0.0).double())
    torch.testing.assert_close(crossed, nn.functional.cross_entropy(logits, torch.tensor([0, 1]), reduction="none"))
    smooth = loss_of(Recipe())(logits, targets_of(torch.tensor([0, 1]), 3, 0.3).double())
    expected = nn.functional.cross_entropy(logits, torch.tensor([0, 1]), reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(smooth, expected, rtol=1e-6, atol=0)
    other = torch.tensor([[0.1, 0.2, 0.3], [1.0, 0.0, -1.0]], dtype=torch.float64)
    q = other.softmax(1)
    torch.testing.assert_close(divergence(logits, other), (q * (q / logits.softmax(1)).log()).sum(1))


PHOTO = torch.randint(256, (4, 3, 20, 20), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def shown(**settings: Any) -> Tensor:
    return augmented(PHOTO, Recipe(size=20, **settings), torch.Generator().manual_seed(3))


def test_augmentations_keep_what_they_say() -> None:
    x = PHOTO.float() / 255
    assert torch.equal(shown(), x)
    flipped = shown(flip=True)
    for made, one in zip(flipped, x, strict=True):
        assert min((made - one).abs().max(), (made - one.flip(2)).abs().max()) < 1e-5
    assert len({bool((made - one).abs().max() < 1e-5) for made, one in zip(flipped, x, strict=True)}) == 2
    moved = shown(shift=3)
    for made, one in zip(moved, x, strict=True):
        found = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if (made[:, 4:16, 4:16] - one[:, 4 + dy : 16 + dy, 4 + dx : 16 + dx]).abs().max() < 1e-4
        ]
        assert len(found) == 1


def test_augmentations_stay_in_range_and_follow_the_generator() -> None:
    every = {"crop": 0.3, "flip": True, "rotation": 20.0, "erase": 0.5, "noise": 0.2, "shift": 2}
    made = shown(**every)
    assert torch.equal(made, shown(**every))
    assert made.min() >= 0
    assert made.max() <= 1
    assert made.isfinite().all()
    x = PHOTO.float() / 255
    erased = (shown(erase=1.0) != x).any(1).float().mean((1, 2))
    # A fiftieth to a quarter of the picture, to a line of pixels.
    assert erased.min() > 0.005
    assert erased.max() < 0.36
    assert (shown(noise=0.1) - x).std() < 0.1
    assert augmented(PHOTO, Recipe(size=12, crop=0.5), torch.Generator()).shape == (4, 3, 12, 12)
    assert plain(PHOTO, 10).shape == (4, 3, 10, 10)


def test_crops_have_the_area_they_say() -> None:
    """The step between samples of a picture that rises from 0 to 1 says how wide and how high a crop is."""
    count = 200
    slope = torch.linspace(0, 255, 100).round().to(torch.uint8)
    flat = torch.stack([slope.expand(100, 100), slope[:, None].expand(100, 100)])[None].expand(count, -1, -1, -1)
    recipe = Recipe(size=80, crop=0.9)
    made = augmented(flat, recipe, torch.Generator().manual_seed(0))
    # Its 100 pixels have 99 steps.
    wide = (made[:, 0, 40, 60] - made[:, 0, 40, 20]) * 2 * 0.99
    high = (made[:, 1, 60, 40] - made[:, 1, 20, 40]) * 2 * 0.99
    area, aspect = wide * high, wide / high
    # A level of 255 in a difference that is doubled, twice.
    assert area.min() > 0.9 - 0.02
    assert area.max() < 1 + 0.02
    assert area.mean() == pytest.approx(0.95, abs=0.01)
    assert aspect.min() > 0.9 - 0.03
    assert aspect.std() > 0.01


def test_pictures_that_are_much_larger_do_not_alias() -> None:
    """A pattern of single pixels, four times as fine as what is shown, is gray there."""
    fine = torch.tensor([0, 255], dtype=torch.uint8).repeat(40).expand(2, 1, 80, 80)
    made = augmented(fine, Recipe(size=20, flip=True, shift=1), torch.Generator().manual_seed(0))
    # The filter's corners do not cancel to the last: 0.03; single samples would be 0 or 1.
    torch.testing.assert_close(made, torch.full_like(made, 0.5), rtol=0, atol=0.05)


def test_a_shift_counts_pixels_as_they_are_shown() -> None:
    """Of a picture that is kept a quarter larger, a bright column moves by 3 of its shown pixels at most."""
    kept = torch.zeros(64, 1, 50, 50, dtype=torch.uint8)
    kept[..., 24:26] = 255
    made = augmented(kept, Recipe(size=40, shift=3), torch.Generator().manual_seed(0))
    where = (made[:, 0, 20] * torch.arange(40)).sum(1) / made[:, 0, 20].sum(1)
    assert (where - 19.5).abs().max() == pytest.approx(3, abs=0.1)


def test_one_picture_is_never_a_batch_of_its_own() -> None:
    """There would be no deviation in it: at 8 pixels the last stage of the residual network is one pixel large."""
    pixels = torch.randint(256, (41, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = Arrays("some", pixels, torch.arange(41) % 2, ("a", "b"))
    module = build("resnet", channels=1, classes=2, size=8, activation="relu", norm="batch")
    told: list[Watch] = []
    recipe = Recipe(net="resnet", norm="batch", size=8, epochs=1, batch=20, rate=0.01)
    train(recipe, module, lambda x: x, data, data, on_step=told.append)
    assert told[-1].steps == 2


def test_the_next_pictures_are_read_meanwhile_and_errors_come_out() -> None:
    class Failing(Arrays):
        def images(self, numbers: Any) -> Tensor:
            if 17 in torch.as_tensor(numbers):
                raise InwardError("17 is no picture")
            return super().images(numbers)

    data = Failing("some", torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.arange(40) % 2, ("a", "b"))
    module = build("cnn", channels=1, classes=2, size=8, activation="relu", norm="batch")
    with pytest.raises(InwardError, match="17 is no picture"):
        train(Recipe(norm="batch", size=8, epochs=1, batch=8), module, lambda x: x, data, data)


def test_the_shown_accuracy_is_of_pictures_of_a_class() -> None:
    recipe = replace(SMALL, epochs=9, output="sigmoid", optimizer="adamw", rate=0.005, open_world=True)
    # Strangers are a fifth of what is shown: counted as wrong they would hold it below 0.8.
    assert run(recipe).history[-1]["shown"] > 0.9


def test_mixed_where_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inward.training.loop.has_half", lambda _: False)
    with pytest.raises(CallError, match="there is no bfloat16 here for the precision mixed; give --precision auto"):
        run(replace(SMALL, precision="mixed"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inward.training.loop._EVERY", 0.0)
    with pytest.raises(InwardError, match=r"the loss is not finite at step \d+ of 51; lower the learning rate"):
        run(replace(SMALL, rate=1e6), tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] >= 1
    assert all(v.isfinite().all() for v in state["module"].values())
    assert all(v.isfinite().all() for v in state["mean"].values())


def test_a_folder_of_another_recipe(tmp_path: Path) -> None:
    run(replace(SMALL, epochs=1), tmp_path / "run")
    with pytest.raises(CallError, match="holds a run with epochs 1; give another --out, or remove the folder"):
        run(SMALL, tmp_path / "run")
    # Of one that was stopped before it kept anything, nothing would be lost.
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.json").write_bytes(replace(SMALL, epochs=7).as_json().encode())
    run(replace(SMALL, epochs=1), tmp_path / "begun")
    assert json.loads((tmp_path / "begun" / "recipe.json").read_text())["epochs"] == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("x")
    with pytest.raises(CallError, match="exists and is no run"):
        run(SMALL, tmp_path / "other")
    damaged = r"state\.pt is damaged, or of another run; remove it to begin anew"
    (tmp_path / "run" / "state.pt").write_bytes(b"damaged")
    with pytest.raises(InwardError, match=damaged):
        run(replace(SMALL, epochs=1), tmp_path / "run")
    torch.save({"step": 1}, tmp_path / "run" / "state.pt")
    with pytest.raises(InwardError, match=damaged):
        run(replace(SMALL, epochs=1), tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 1 or more, not 0"),
        ({"ema": 1.5}, "ema is a share between 0 and 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"crop": 2.0}, "crop is a share of the picture's area"),
        ({"adversarial": "pgd"}, r"adversarial training \(pgd\) needs a ball; give eps"),
        ({"adversarial": "pgd", "eps": 8.0}, "at most 1 in linf, not 8; write 8/255"),
        ({"open_world": True}, "softmax cannot; give output sigmoid"),
        ({"output": "sigmoid", "adversarial": "trades", "eps": 0.1}, "TRADES compares softmax"),
        ({"adversarial": "free", "ball": "l2", "eps": 0.5}, "by signs, in linf, not l2; use pgd or fgsm"),
        ({"optimizer": "lion"}, "there is no optimizer 'lion'; choose sgd, adamw"),
        ({"optimizer": "adamw", "momentum": 1.0}, "momentum is a share from 0 to below 1, not 1"),
        ({"seed": 2**64}, "seed is from 0 to 9223372036854775806, not 18446744073709551616"),
        ({"seed": -1}, "seed is from 0 to"),
        ({"size": 5000}, "size is from 8 to 4096, not 5000"),
        ({"norm": "batch", "batch": 1}, "give batch 2 or more, or norm group"),
    ],
)
def test_recipes_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        Recipe(**settings)


def test_data_of_another_kind() -> None:
    with pytest.raises(CallError, match="pictures are uint8"):
        Arrays("some", torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ("a", "b"))
