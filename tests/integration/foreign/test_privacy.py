"""What leaves in a zip says nothing of its maker's machine."""

import json
import socket
import zipfile
from pathlib import Path

import torch
import yaml
from PIL import Image

import featlight
import featlight.run.shard
from featlight.cli.main import main
from tests.integration.foreign.hands import TILES, tiles, typed
from tests.integration.test_faults import CONFIG, small
from tests.unit.report.test_viewer import called


def test_a_zip_names_no_folder_of_its_maker(capsys):
    """Weights, start and run from folders whose names nobody else should read."""
    secret = Path("secret-home").resolve()
    secret.mkdir()
    torch.save(small().state_dict(), secret / "my_weights.pth")
    start = secret / "my_start.png"
    Image.new("RGB", (24, 24), "gray").save(start)
    values = {**CONFIG, "weights": str(secret / "my_weights.pth"), "init": str(start), "out": str(secret / "my_run")}
    values["variants"] = [{"name": "a"}, {"name": "b", "init": str(start), "seed": 1}, {"name": "c", "init": "noise"}]
    (secret / "my.yaml").write_text(yaml.safe_dump(values))
    assert main(["--config", str(secret / "my.yaml"), "--features", "0-1"]) == 0
    words = ["export", "--out", values["out"], "--zip", "site.zip", "--webp", "webp", "--card", "card.md"]
    assert main([*words, "--tiles", "webp"]) == 0
    assert main(["export", "--out", values["out"], "--zip", "png.zip"]) == 0
    every = [Path("card.md").read_bytes(), *(path.read_bytes() for path in Path("webp").rglob("*.webp"))]
    for name in ("site.zip", "png.zip"):
        with zipfile.ZipFile(name) as site:
            every += [site.read(entry) for entry in site.namelist()]
            config = yaml.safe_load(site.read("config.yaml"))
            plan = json.loads(site.read("plan.json"))
            every += [name.encode() for name in site.namelist()]
    strangers = [
        b"secret-home",
        str(Path.home()).encode(),
        str(Path().resolve()).encode(),
        str(Path(featlight.__file__).parent).encode(),
    ]
    for content in every:
        for stranger in (
            *strangers,
            socket.gethostname().encode() if len(socket.gethostname()) > 5 else b"secret-home",
        ):
            assert stranger not in content
    assert (config["weights"], config["init"], config["out"]) == ("my_weights.pth", "my_start.png", "my_run")
    assert config["variants"][1]["init"] == "my_start.png"
    assert (plan["network"]["asked"], plan["network"]["file"]) == ("my_weights.pth", "my_weights.pth")
    assert str(secret) in Path(values["out"], "plan.json").read_text()  # at home, it tells the run that it is done
    commands = [tile["command"] for tile in called(Path(values["out"], "assets/tiles/c/2/00.js"), "details")["tiles"]]
    assert all("--weights my_weights.pth " in command for command in commands)


def test_a_zip_goes_on_where_it_is_unpacked(run):
    """As any run does: nothing of it is made again but the page."""
    before = tiles()
    assert typed("zip") == 0
    with zipfile.ZipFile("site.zip") as site:
        site.extractall("unpacked")
    assert main(["verify", "--out", "unpacked"]) == 0
    assert main(["--config", "small.yaml", "--no-float-images", "--out", "unpacked"]) == 0
    assert {file: Path("unpacked", file).read_bytes() for file in TILES} == before
