"""The picture benchmark's numbers against what is known of made-up images, and one small run of it."""

import json
import math

import pytest
import torch
from torch import nn

from benchmarks.pictures import judge, measures, networks, peer, pieces, tables
from benchmarks.pictures.main import main, recipe_named
from featlight.config.presets import RECIPES
from featlight.errors import UsageError
from tests.conftest import hand_made


def with_spectrum(exponent: float, size: int = 128) -> torch.Tensor:
    """A gray image whose power falls as the frequency to the minus exponent, phases random; (1, 3, S, S)."""
    torch.manual_seed(1)
    waves = torch.fft.fft2(torch.randn(size, size, dtype=torch.float64))
    axis = torch.fft.fftfreq(size, dtype=torch.float64)
    frequency = torch.hypot(axis[:, None], axis).clamp_min(1 / size)
    image = torch.fft.ifft2(waves / waves.abs() * frequency ** (-exponent / 2)).real
    return (0.5 + 0.1 * image / image.std()).expand(1, 3, size, size)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_the_slope_is_that_of_a_known_spectrum(exponent):
    # rings hold a random sample of each frequency's power, and a window mixes neighbours
    assert measures.spectrum_slope(with_spectrum(exponent)).item() == pytest.approx(-exponent, abs=0.15)


def test_the_slope_hangs_neither_on_contrast_nor_on_brightness():
    image = with_spectrum(2.0)
    other = 0.3 * image + 0.2
    assert torch.allclose(measures.spectrum_slope(image), measures.spectrum_slope(other), atol=1e-6)


def test_values_near_black_and_white_are_clipped():
    levels = torch.tensor([0, 5, 6, 128, 249, 250, 255, 300]) / 255
    images = levels.view(1, 1, 2, 4).repeat(2, 3, 1, 1)
    images[1] = 0.5
    images[1, 0, 0, 0] = -1
    assert measures.clipped_share(images).tolist() == pytest.approx([5 / 8, 1 / 24])


def test_what_moves_cannot_change_is_robust():
    still = torch.full((3, 3, 32, 32), 0.25)

    def brightness(images):
        return images.mean((1, 2, 3))

    assert torch.allclose(measures.moved_activation(brightness, still), brightness(still))


def test_a_lone_pixel_is_not_robust():
    images = torch.zeros(2, 3, 33, 33)
    images[:, :, 16, 16] = 1

    def middle(images):
        return images[:, 0, 16, 16]

    moved = measures.moved_activation(middle, images, draws=4)
    assert (moved < 0.5).all()  # shifts of up to 8 px take it away
    assert torch.equal(moved, measures.moved_activation(middle, images, draws=4))
    assert torch.equal(moved[:1], measures.moved_activation(middle, images[:1], draws=4))  # its draws are its own


def test_colors_besides_the_first_are_counted():
    torch.manual_seed(0)
    gray = torch.rand(1, 1, 64, 64).expand(1, 3, 64, 64)
    free = torch.rand(1, 3, 64, 64)
    two = torch.stack([free[0, 0], free[0, 0], 0.5 * free[0, 1]])[None]  # variances of 2 and of a quarter
    found = [measures.color_share(images).item() for images in (gray, free, two)]
    assert found == pytest.approx([0, 2 / 3, 1 / 9], abs=0.02)


def test_transfer_counts_what_every_network_says():
    logits = torch.tensor([[9.0, 1, 0], [9, 8, 7], [0, 1, 9]]).repeat(1, 3)[:, :7]  # of seven classes
    assert measures.ranks(logits, [0, 1, 0]).tolist() == [0, 3, 4]
    found = {"one": torch.tensor([0, 0, 4, 5]), "other": torch.tensor([0, 1, 0, 0])}
    assert measures.transfer(found) == {
        "first": {"one": 0.5, "other": 0.75, "all": 0.25},
        "top_five": {"one": 0.75, "other": 1.0, "all": 0.75},
    }


def test_activations_are_of_each_images_own_feature():
    network = hand_made().eval()
    images = torch.rand(3, 3, 16, 16)
    found = networks.activations(network, "3", images, [4, 0, 4])
    theirs = network[:4](images * 2 - 1)
    assert found.tolist() == pytest.approx([theirs[i, f].mean().item() for i, f in enumerate([4, 0, 4])], abs=1e-6)
    assert not any(module._forward_hooks for module in network.modules())


def test_every_piece_of_natural_can_be_taken_away():
    natural = RECIPES["natural"]
    changed = pieces.without_a_piece(natural)
    assert len(changed) >= 8
    assert all(recipe != natural for recipe in changed.values())
    one = changed["one octave"]
    assert (one.total_steps, one.final_size, len(one.octaves)) == (natural.total_steps, natural.final_size, 1)
    assert dict(changed["no bound of contrast"].optimizer.constants)["contrast"] == 0
    assert "adam for spectral" not in pieces.without_a_piece(changed["adam for spectral"])


def test_a_recipe_is_changed_as_the_command_line_does():
    assert recipe_named("natural", ["recipe.octaves.0.steps=3"]).octaves[0].steps == 3
    with pytest.raises(UsageError, match="optimiser"):
        recipe_named("natural", ["recipe.optimiser=adam"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--set recipe.optimiser=adam", "optimiser"),
        ("--layer 33 --recipes natural", "no layer"),
    ],
)
def test_a_slip_is_said_in_one_line(monkeypatch, words, reason):
    monkeypatch.setattr(networks, "lite", lambda number: hand_made().eval())
    with pytest.raises(SystemExit, match=reason) as stop:
        main(["--classes", "0", *words.split()])
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--recipes naturel", "nearest: 'natural'"),
        ("--features all", "numbers and ranges"),
        ("--features 3-1", "numbers and ranges"),
        ("--classes 1001", "0 to 1000"),
        ("--pieces -1", "0 to 1000"),
    ],
)
def test_words_that_do_not_fit_are_refused(capsys, words, reason):
    with pytest.raises(SystemExit):
        main(words.split())
    assert reason in capsys.readouterr().err


def test_an_interpreter_without_lucent_is_left_out(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o700)
    assert peer.version(str(python)) is None
    with pytest.raises(SystemExit, match="No such file"):
        peer.version(str(tmp_path / "none"))


def test_a_small_run_writes_tables_sheets_and_a_record(monkeypatch, tmp_path, capsys):
    class Classifier(nn.Sequential):
        """With a layer of that name, as timm's networks have."""

        def __init__(self):
            super().__init__(*hand_made(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.append(nn.Identity())
            self.add_module("classifier", nn.Linear(12, 1000))

    network = Classifier().eval()
    monkeypatch.setattr(networks, "lite", lambda number: network)
    monkeypatch.setattr(peer, "version", lambda python: None)
    words = "--layer 3 --features 0-2 --classes 1 --recipes natural,lucent --natural-features 2 --pieces 1"
    one_step = "recipe.octaves=[{size: 64, steps: 1, lr: [0.1, 0.1]}]"
    assert main([*words.split(), "--set", one_step, "--out", str(tmp_path)]) == 0
    values = json.loads((tmp_path / "record.json").read_text())
    natural = values["recipes"]["natural"]
    assert "lucent" not in values["recipes"]
    assert natural["features"]["numbers"] == [0, 1]
    assert natural["features"]["activation"] == pytest.approx(sum(natural["features"]["activations"]) / 2)
    assert natural["classes"]["ranks"]["Lite1"] == natural["classes"]["ranks"]["Lite2"]  # the same network here
    assert math.isfinite(natural["features"]["slope"])
    assert {"adam for spectral", "no transforms"} < values["pieces"].keys()
    for name in ("recipes.md", "recipes-features.png", "recipes-classes.png", "pieces.md", "pieces-features.png"):
        assert (tmp_path / name).stat().st_size > 0
    printed = capsys.readouterr().out
    assert "lucent: torch-lucent or timm is not installed" in printed
    assert (tmp_path / "recipes.md").read_text() in printed
    assert (tmp_path / "pieces.md").read_text() in printed


def test_tables_hold_what_was_measured():
    numbers = {"clipped": 0.021, "slope": -2.5, "color": 0.1, "seconds": 0.8}
    judged = judge.Judged()
    judged.numbers["mine"] = {"features": {"numbers": [3, 4], "activation": 31.7, "robustness": 0.9, **numbers}}
    table = tables.markdown(judged, {"a": {"clipped": 0.0, "slope": -2.0, "color": 0.2}, "b": numbers})
    assert "| mine | 2 | 31.70 | 0.90 | 2.1 % | -2.50 | 10.0 % | 0.80 |" in table
    assert "| photographs | 2 |" in table
    assert "| 1.1 % | -2.25 | 15.0 % |" in table
