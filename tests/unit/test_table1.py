"""The paper's Table 1: its parameter counts, what is stated of measured rows, and that no wrong patch passes."""

import json
from pathlib import Path

import numpy as np
import pytest

from cloud_tools.paper import paper_networks, table1
from cloud_tools.paper.paper_models import NO_SLOTS, WITH_SLOTS, Deployment
from cloud_tools.paper.paper_networks import PARAMETERS, build, check_parameters
from cloud_tools.paper.table1 import HDIFFZ, OURS, PAPER_PATCH, Row, Table, reproduce_table1
from cloud_tools.paper.table1_page import table_lines, table_page
from contract.errors import KinwatchError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "vgg19"])
def test_the_networks_have_the_papers_parameters_in_all_and_in_their_parts(name: str) -> None:
    network = build(name)
    check_parameters(network)
    counted = {
        "mobilenetv2": (2_626_854, 368_870, 2_257_984),
        "vgg19": (20_172_070, 147_686, 20_024_384),
    }
    assert network.parameters == counted[name] == PARAMETERS[name]
    assert network.model.output_shape == (None, 6)


@pytest.mark.slow
def test_a_network_of_another_size_is_refused() -> None:
    with pytest.raises(KinwatchError, match=r"vgg19 has .*, the paper's has"):
        check_parameters(build("vgg19", people=7))


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Pairs of small files in the places of the variables: a frozen part, and a changed one."""
    noise = np.random.default_rng(1)
    for slots, changed in ((WITH_SLOTS, 9_000), (NO_SLOTS, 3_000)):
        frozen, before = noise.bytes(100_000), noise.standard_normal(changed).astype("<f4")
        after = before + np.float32(1e-3) * noise.standard_normal(changed).astype("<f4")
        for side, values in (("old", before), ("new", after)):
            path = tmp_path / slots / side / table1.VARIABLES
            path.parent.mkdir(parents=True)
            path.write_bytes(frozen + values.tobytes())
    return Deployment("mobilenetv2", tmp_path)


@pytest.fixture
def table(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Table:
    pytest.importorskip("hdiffpatch")
    monkeypatch.setattr(table1, "first_deployment", lambda name, progress: deployment)
    return reproduce_table1(("mobilenetv2",))


@pytest.mark.slow
def test_both_tools_are_measured_on_both_pairs_and_give_back_the_bytes(table: Table) -> None:
    assert [(row.files.split()[-1], row.tool) for row in table.rows] == [
        ("slots", HDIFFZ),
        ("slots", OURS),
        ("alone", HDIFFZ),
        ("alone", OURS),
    ]
    assert all(row.same for row in table.rows)
    theirs, ours = table.rows[2:]
    assert ours.patch < theirs.patch < ours.whole
    assert ours.saved == 1 - ours.patch / 112_000


@pytest.mark.slow
def test_bytes_that_did_not_come_back_are_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    import hdiffpatch

    monkeypatch.setattr(hdiffpatch, "apply", lambda old, patch: b"other bytes")
    found = reproduce_table1(("mobilenetv2",))
    assert [row.same for row in found.rows] == [False, True, False, True]
    assert table_page(found).count("DIFFERS") == 2


@pytest.mark.slow
def test_the_page_states_the_papers_figures_beside_the_measured_ones(table: Table) -> None:
    page = table_page(table)
    for text in ("2,626,854", "368,870", "2,257,984", "4,464,323", f"{table.rows[1].patch:,}", "equal"):
        assert text in page
    assert "VGG-19: seeded random" in page
    assert "DIFFERS" not in page
    assert any("4,464,323" in line for line in table_lines(table))


@pytest.mark.slow
def test_json_holds_every_row(table: Table) -> None:
    body = json.loads(json.dumps(table.to_json()))
    assert [row["patch"] for row in body["rows"]] == [row.patch for row in table.rows]
    assert body["paper"]["vgg19"]["patch"] == PAPER_PATCH["vgg19"] == 1_778_387
    assert body["parameters"]["mobilenetv2"] == list(paper_networks.PARAMETERS["mobilenetv2"])


def test_what_is_saved_is_the_share_of_the_whole_file() -> None:
    row = Row(network="vgg19", files="", tool=OURS, whole=1000, patch=250, diff_s=0.0, apply_s=0.0, same=True)
    assert row.saved == 0.75
