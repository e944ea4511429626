"""The interface of the page: what it computes is what Python computes, jobs and their ends, results that stay."""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import inward
from inward.draw import read_png
from inward.network.ablation import without
from tests.serving import TOKEN, Client, serving

UNIT = "stage2.1/5"
FAST = {"steps": 4}


@pytest.fixture(scope="module")
def net() -> inward.Network:
    return inward.load("inward/robust")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def client(net: inward.Network, out: Path) -> Iterator[Client]:
    with serving([net, inward.load("inward/normal")], out) as client:
        yield client


def picture(client: Client, out: Path, name: str = "cat") -> Path:
    return out / "samples" / f"{name}.png"


def test_a_unit_is_pictured_as_python_pictures_it_and_the_second_time_at_once(
    client: Client, net: inward.Network, out: Path
) -> None:
    addresses = [UNIT, "class:4", f"-1 * {UNIT}"]
    job = client.done("feature-visualization", addresses=addresses, options=FAST, background=True)
    assert list(job["results"]) == addresses
    found = inward.visualize(net, addresses, steps=4)
    for index, address in enumerate(addresses):
        result = client.get(f"results/{job['results'][address]}")
        assert result["manifest"]["parameters"]["addresses"] == [address]
        arrays = load_file(out / "results" / result["id"] / "arrays.safetensors")
        assert torch.equal(arrays["images"], found[index].images)
        first = next(f for f in result["files"] if f["kind"] == "picture")
        shown = client.ask("GET", f"/{first['url']}")
        assert (shown.status, shown.headers["content-type"]) == (200, "image/png")
        assert "immutable" in shown.headers["cache-control"]
        assert Image.open(io.BytesIO(shown.body)).size[0] >= 128
    started = time.perf_counter()
    again = client.ask(
        "POST", "/api/jobs", {"method": "feature-visualization", "addresses": addresses, "options": FAST}
    )
    assert again.status == 200
    assert again.json["state"] == "done"
    assert again.json["results"] == job["results"]
    # 256 passes take seconds; this is no measure of speed, but tells the two apart.
    assert time.perf_counter() - started < 2


def test_a_map_and_an_attack_of_a_picture_are_those_of_python(client: Client, net: inward.Network, out: Path) -> None:
    images = inward.read(picture(client, out), net)
    job = client.done("saliency", image="cat", options={"target": UNIT})
    arrays = load_file(out / "results" / job["results"][""] / "arrays.safetensors")
    assert torch.equal(arrays["values"], inward.saliency(net, images, target=UNIT).values)
    job = client.done("targeted-attack", image="cat", options={"target": "class:church", "steps": 5})
    result = client.get(f"results/{job['results']['']}")
    arrays = load_file(out / "results" / result["id"] / "arrays.safetensors")
    assert torch.equal(
        arrays["adversarial"], inward.targeted_attack(net, images, target="class:church", steps=5).adversarial
    )
    assert {"original.png", "adversarial.png"} <= {f["name"] for f in result["files"]}
    shown = read_png(out / "results" / result["id"] / "original.png")
    assert torch.allclose(shown, images[0], atol=1 / 500)


def test_an_attack_tells_its_steps_and_what_it_did_to_units(client: Client, net: inward.Network, out: Path) -> None:
    images = inward.read(picture(client, out), net)
    options = {"target": "class:church", "steps": 6, "stop": False}
    result = client.get(f"results/{client.done('pgd', image='cat', options=options)['results']['']}")
    folder = out / "results" / result["id"]
    steps = json.loads((folder / "steps.json").read_text())
    assert {"name": "steps.json", "kind": "other"}.items() <= next(
        f for f in result["files"] if f["name"] == "steps.json"
    ).items()
    assert steps["passes"] == [0, 1, 2, 3, 4, 5, 6]
    rows = {row["label"]: row["probabilities"] for row in steps["classes"]}
    adversarial = load_file(folder / "arrays.safetensors")["adversarial"]
    church = inward.load("inward/robust").resolve("class:church").unit
    for step, image in ((0, images), (6, adversarial)):
        expected = net.probabilities(net(image))[0, church].item()
        assert rows["church"][step] == pytest.approx(expected, rel=1e-5)
    assert sum(row[0] for row in rows.values()) <= 1
    told = client.get(f"networks/0/sensitivity?result={result['id']}&point=stage2.1")["changes"]
    before, after = (net.trace(x, ["stage2.1"]).features("stage2.1")[0] for x in (images, adversarial))
    assert torch.allclose(torch.tensor(told), (before - after).abs().mean((1, 2)), atol=1e-6)
    assert max(told) > 0
    vector = client.get(f"networks/0/sensitivity?result={result['id']}&point=fc")["changes"]
    assert len(vector) == 10


def test_sensitivity_is_known_of_attacks_on_the_same_network_alone(client: Client) -> None:
    other = client.done("fgsm", image="cat", network=1)["results"][""]
    plain = client.done("saliency", image="cat")["results"][""]
    for result, sentence in ((other, "another network"), (plain, "no attack"), ("none-at-all", "no such result")):
        found = client.ask("GET", f"/api/networks/0/sensitivity?result={result}&point=conv")
        assert found.status == 404
        assert sentence in found.json["error"]


def test_the_time_of_every_node(client: Client) -> None:
    told = client.get("networks/1/times")
    drawn = {n["id"] for n in client.get("networks/1/architecture")["nodes"] if n["kind"] != "input"}
    assert set(told) == drawn
    assert min(told.values()) > 0
    assert client.get("networks/1/times") == told


def test_the_lines_that_reproduce_a_result_do(
    client: Client, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"target": "class:church", "samples": 3, "noise": 0.2}
    result = client.get(f"results/{client.done('smoothgrad', image='cat', options=options)['results']['']}")
    monkeypatch.chdir(tmp_path)
    exec(result["python"], {})
    mine, theirs = (
        load_file(f / "arrays.safetensors") for f in (out / "results" / result["id"], Path("smoothgrad-cat"))
    )
    assert torch.equal(mine["values"], theirs["values"])
    from inward.cli import main

    words = result["shell"].split()
    assert words[:3] == ["inward", "explain", "inward/robust"]
    assert main([*words[1:], "--out", str(tmp_path / "cli")]) == 0
    (folder,) = (tmp_path / "cli").iterdir()
    assert torch.equal(load_file(folder / "arrays.safetensors")["values"], mine["values"])


def test_what_is_computed_at_once(client: Client, net: inward.Network, out: Path) -> None:
    images = inward.read(picture(client, out, "rocket"), net)
    told = client.get("networks/0/activations?image=rocket&point=stage2.1")
    maxima = net.trace(images, ["stage2.1"]).features("stage2.1")[0].flatten(1).amax(1)
    assert torch.allclose(torch.tensor(told["maxima"]), maxima)
    answers = client.get("networks/0/answers?image=rocket")["top"]
    best = net.probabilities(net(images).double())[0].max(0)
    assert answers[0]["class"] == best.indices.item()
    assert answers[0]["probability"] == pytest.approx(best.values.item())
    ablation = client.get(f"networks/0/ablation?image=rocket&address={UNIT}")
    assert ablation["before"] == answers
    changed = net.probabilities(without(net, UNIT)(images).double())[0]
    assert [row["probability"] for row in ablation["after"]] == pytest.approx(changed.topk(5).values.tolist())
    facts = client.get("networks/0/facts?point=conv")
    weight = net.weights()["conv.weight"]
    assert facts["filters"] == len(weight)
    assert facts["receptive_field"] == list(weight.shape[2:])
    # What gives its input as it is, and so is not drawn, has facts all the same.
    assert client.get("networks/0/facts?point=stage1.0.shortcut")["note"] == "returns its input"
    sheet = client.ask("GET", "/api/networks/0/filters.png?point=conv")
    drawn = np.asarray(Image.open(io.BytesIO(sheet.body)))
    one = weight[0] / (2 * weight[0].abs().max()) + 0.5
    # Cells of 48 pixels and a margin of two, in which there is nothing.
    assert np.array_equal(drawn[10, 10, :3], (one[:, 0, 0] * 255).round().byte())
    assert np.array_equal(drawn[42, 26, :3], (one[:, 2, 1] * 255).round().byte())
    assert (drawn[10, 10, 3], drawn[0, 10, 3], drawn[10, 51, 3]) == (255, 0, 0)
    shown = client.ask("GET", "/api/images/rocket/picture.png?network=0").body
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), (images[0] * 255).round().byte().permute(1, 2, 0))


def test_a_unit_that_is_taken_out_is_zero_for_what_reads_it(net: inward.Network) -> None:
    images = torch.rand(2, 3, *net.size, generator=torch.Generator().manual_seed(0))
    value = net.trace(images, ["stage2.1"])["stage2.1"].clone()
    value[:, 5] = 0
    assert torch.equal(without(net, UNIT)(images), net.run(images, ["class"], {"stage2.1": value})[0])
    for wrong in ("stage2.1", "class:0", "stage2.1/5@0,0"):
        with pytest.raises(inward.CallError, match="is no unit"):
            without(net, wrong)


def test_the_architecture_hangs_together(client: Client) -> None:
    told = client.get("networks/0/architecture")
    nodes = {node["id"]: node for node in told["nodes"]}
    assert len(nodes) == len(told["nodes"])
    assert told["exact"]
    assert all(
        node["parent"] in nodes and nodes[node["parent"]]["container"] for node in nodes.values() if node["parent"]
    )
    edges = {tuple(edge) for edge in told["edges"]}
    leaves = {name for name, node in nodes.items() if not node["container"]}
    assert {name for edge in edges for name in edge} == leaves
    # Computed by hand from the code of the network: its stem, and a block with a shortcut.
    assert {("input", "conv"), ("conv", "norm"), ("norm", "act"), ("act", "pool")} <= edges
    assert leaves - {b for _, b in edges} == {"input"}
    assert leaves - {a for a, _ in edges} == {"fc"}
    add = next(name for name in leaves if name.startswith("stage1.0.") and nodes[name]["module"] == "add")
    assert {a for a, b in edges if b == add} == {"stage1.0.norm2", "pool"}


def test_forms_follow_from_the_table(client: Client) -> None:
    methods = {m["name"]: m for m in client.get("methods")}
    assert list(methods) == [row.name for row in inward.TABLE]
    pgd = methods["pgd"]["schema"]["properties"]
    assert pgd["steps"]["default"] == 40
    assert pgd["norm"]["enum"] == ["linf", "l2", "l1"]
    assert methods["style"]["schema"]["required"] == ["style"]
    assert methods["invert"]["schema"]["properties"]["start"]["x-words"] == ["noise", "gray"]
    # Of this attack a start is a length, no picture.
    assert methods["ddn"]["schema"]["properties"]["start"]["type"] == "number"
    # A folder of this machine is nothing that a request can name.
    assert "spectrum" not in methods["feature-visualization"]["schema"]["properties"]


@pytest.mark.parametrize(
    ("asked", "sentence", "option"),
    [
        ({"method": "saliency", "image": "cat", "options": {"targt": "x"}}, "there is no such option", "targt"),
        ({"method": "pgd", "image": "cat", "options": {"steps": "4"}}, "valid integer", "steps"),
        ({"method": "pgd", "image": "cat", "options": {"steps": -7}}, "greater than or equal to 0", "steps"),
        ({"method": "pgd", "image": "cat", "options": {"eps": -0.1}}, "greater than or equal to 0", "eps"),
        ({"method": "dream", "image": "cat", "options": {"octaves": 1000}}, "less than or equal to 32", "octaves"),
        ({"method": "pgd", "image": "cat", "options": {"norm": "l3"}}, "'linf', 'l2' or 'l1'", "norm"),
        (
            {"method": "invert", "image": "cat", "options": {"start": "/etc/passwd"}},
            "write one of noise, gray",
            "start",
        ),
        ({"method": "invert", "image": "cat", "options": {"start": "image:../x"}}, "write one of noise", "start"),
        ({"method": "style", "image": "cat", "options": {"style": ["pyproject"]}}, "write one of image:ID", "style"),
        ({"method": "style", "image": "cat", "options": {}}, "this has to be given", "style"),
        ({"method": "occlusion", "image": "cat", "options": {"baseline": "tests"}}, "write one of black", "baseline"),
        ({"method": "saliency"}, "needs a picture", None),
        ({"method": "feature-visualization"}, "needs a unit", None),
        ({"method": "os.system", "image": "cat"}, "no such method", None),
        ({"method": "feature-visualization", "addresses": ["stage9/1"]}, "the nearest: stage", None),
        ({"method": "feature-visualization", "addresses": ["conv/9999"]}, "there is no unit 9999", None),
    ],
)
def test_what_does_not_fit_is_said_before_it_waits(
    client: Client, asked: dict[str, object], sentence: str, option: str | None
) -> None:
    found = client.ask("POST", "/api/jobs", asked)
    assert found.status == 422, found.body
    assert sentence in found.json["error"]
    assert found.json.get("option") == option


def test_a_method_that_fails_says_its_sentence(client: Client) -> None:
    job = client.submit("saliency", image="cat", options={"target": "class:zebra"})
    told = client.until(job["id"], "failed", "done")
    assert told["state"] == "failed"
    assert "zebra" in told["error"]
    assert "Traceback" not in told["error"]


def test_a_picture_beside_is_named_by_its_id(client: Client, net: inward.Network, out: Path) -> None:
    options = {"start": "image:rocket", "steps": 2, "at": "stage1.1"}
    job = client.done("invert", image="cat", options=options)
    arrays = load_file(out / "results" / job["results"][""] / "arrays.safetensors")
    start = str(picture(client, out, "rocket"))
    images = inward.read(picture(client, out), net)
    assert torch.equal(arrays["made"], inward.invert(net, images, at="stage1.1", start=start, steps=2).made)


def test_a_job_tells_its_progress_and_is_cancelled_within_a_pass(client: Client) -> None:
    job = client.submit("feature-visualization", addresses=["stage3.1/0"], options={"steps": 5000})
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request("GET", f"/api/jobs/{job['id']}/events", headers={"Cookie": f'inward-{client.port}="{TOKEN}"'})
    stream = connection.getresponse()
    assert stream.getheader("content-type", "").startswith("text/event-stream")
    seen: list[dict[str, object]] = []
    while (line := stream.readline()) and not (seen and seen[-1]["state"] == "cancelled"):
        if line.startswith(b"data: "):
            seen.append(json.loads(line[6:]))
            if len(seen) == 4:
                assert client.ask("DELETE", f"/api/jobs/{job['id']}").status == 200
    connection.close()
    passes = [told["done"] for told in seen if told["state"] == "running"]
    assert passes == sorted(passes)
    assert 0 < passes[-1] < 5000
    assert seen[-1]["state"] == "cancelled"
    assert not seen[-1]["results"]


def test_a_request_and_an_asked_job_go_between_the_passes_of_the_background(client: Client) -> None:
    long = client.submit("feature-visualization", addresses=["stage3.1/1"], options={"steps": 5000}, background=True)
    client.until(long["id"], "running")
    assert client.get("networks/1/answers?image=coffee")["top"]
    client.done("saliency", image="coffee", options={"target": "class:1"})
    assert client.get(f"jobs/{long['id']}")["state"] == "running"
    # The same again is the same job.
    again = client.submit("feature-visualization", addresses=["stage3.1/1"], options={"steps": 5000}, background=True)
    assert again["id"] == long["id"]
    client.ask("DELETE", f"/api/jobs/{long['id']}")
    assert client.until(long["id"], "cancelled")["error"] is None


def test_what_is_known_of_a_point_is_told_at_once(client: Client, net: inward.Network) -> None:
    assert client.get("networks/0/known?point=stage1.1") == {}
    # Others than the usual options are other pictures.
    client.done("feature-visualization", addresses=["stage1.1/2"], options=FAST)
    assert client.get("networks/0/known?point=stage1.1") == {}
    job = client.done("feature-visualization", addresses=["stage1.1/2", "stage1.1/30"])
    told = client.get("networks/0/known?point=stage1.1")
    assert {address: one["result"] for address, one in told.items()} == job["results"]
    shown = client.ask("GET", f"/{told['stage1.1/30']['picture']}")
    alone = inward.visualize(net, ["stage1.1/30"])[0].images
    drawn = torch.from_numpy(np.array(Image.open(io.BytesIO(shown.body)).convert("RGB"))).permute(2, 0, 1) / 255
    assert torch.allclose(drawn, alone[0].clamp(0, 1), atol=1 / 255)
    assert client.get("networks/0/known?point=fc") == {}
    assert client.ask("GET", "/api/networks/0/known?point=nowhere").status == 422


def test_results_and_given_pictures_are_there_after_a_restart(net: inward.Network, tmp_path: Path) -> None:
    data = io.BytesIO()
    shade = np.linspace(0, 255, 90 * 120).reshape(90, 120).astype(np.uint8)
    Image.fromarray(np.stack([shade, shade.T.reshape(90, 120), 255 - shade], 2)).save(data, "JPEG")
    with serving([net], tmp_path) as client:
        given = client.ask("POST", "/api/images?name=my%20cat.jpg", data.getvalue())
        assert given.status == 201
        assert given.json | {"id": ""} == {
            "id": "",
            "name": "my cat.jpg",
            "source": "upload",
            "width": 120,
            "height": 90,
        }
        # The same bytes are the same picture.
        assert client.ask("POST", "/api/images?name=other.jpg", data.getvalue()).json == given.json
        job = client.done("saliency", image=given.json["id"], options={"target": "class:2"})
    with serving([net], tmp_path) as client:
        assert given.json in client.get("images")
        again = client.submit("saliency", image=given.json["id"], options={"target": "class:2"})
        assert (again["state"], again["results"]) == ("done", job["results"])
        assert client.get(f"results/{job['results']['']}")["method"] == "saliency"
        # Another seed or option is another result.
        assert client.submit("saliency", image=given.json["id"], options={"target": "class:3"})["state"] == "waiting"


def test_a_full_queue_is_told(net: inward.Network, tmp_path: Path) -> None:
    with serving([net], tmp_path, waiting=2, at_once=1) as client:
        steps = {"steps": 5000}
        first = client.submit("feature-visualization", addresses=["conv/0"], options=steps)
        client.until(first["id"], "running")
        for unit in (1, 2):
            client.submit("feature-visualization", addresses=[f"conv/{unit}"], options=steps)
        full = client.ask("POST", "/api/jobs", {"method": "feature-visualization", "addresses": ["conv/3"]})
        assert full.status == 429
        assert full.json["error"] == "2 jobs are waiting; wait for some of them, or cancel some"
        # A server that ends does not wait for what runs.
        started = time.monotonic()
    assert time.monotonic() - started < 20


def test_what_the_pictures_of_the_folder_do_to_a_unit(net: inward.Network, tmp_path: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:12]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    with serving([net], tmp_path / "out", folder=folder) as client:
        assert [p["name"] for p in client.get("images") if p["source"] == "folder"] == [f.name for f in files]
        assert client.get(f"networks/0/unit?address={UNIT}")["study"] == "open"
        client.done("activations", addresses=["stage2.1"])
        told = client.get(f"networks/0/unit?address={UNIT}")
        values = net.trace(inward.read(files, net), ["stage2.1"]).features("stage2.1")[:, 5].flatten(1)
        best = values.amax(1).sort(descending=True, stable=True)
        assert told["study"] == "ready"
        assert told["maximum"] == pytest.approx(best.values[0].item())
        assert [e["name"] for e in told["examples"]] == [files[i].name for i in best.indices[:9].tolist()]
        assert sum(told["histogram"]["counts"]) == values.numel()
        top, left, bottom, right = told["examples"][0]["box"]
        whole, patch = (
            np.asarray(Image.open(io.BytesIO(client.ask("GET", "/" + told["examples"][0][kind]).body)))
            for kind in ("picture", "patch")
        )
        assert np.array_equal(patch, whole[max(top, 0) : bottom, max(left, 0) : right])
        # A second time it is there at once.
        assert client.submit("activations", addresses=["stage2.1"])["state"] == "done"
        assert client.ask("GET", f"/api/networks/0/example.png?address={UNIT}&rank=50").status == 422
    with serving([net], tmp_path / "none") as client:
        assert client.get(f"networks/0/unit?address={UNIT}")["study"] == "none"
        job = client.submit("activations", addresses=["stage2.1"])
        assert "--images" in client.until(job["id"], "failed", "done")["error"]
