"""NanoDet-g rebuilt: the same numbers as the graph it is from, in a file that finds the sample video's people."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.updates.selftest import run_selftest
from cloud_tools.datasets.labels import load_labels
from cloud_tools.detectors.detector import FILE, DetectorFile, make_detector
from cloud_tools.detectors.graph_model import read_convolutions
from cloud_tools.detectors.nanodet import CLASSES, build_nanodet
from cloud_tools.detectors.weight_source import NanodetFiles, nanodet_files
from cloud_tools.inputs import LABELS
from cloud_tools.tflite.engine import tensorflow
from cloud_tools.tflite.export import kept_outputs
from cloud_tools.tflite.quantisation import frames_of
from cloud_tools.tflite.selftest_inputs import selftest_inputs
from contract.detection.letterbox import letterbox
from contract.errors import InputError, ReleaseError
from contract.manifest import NAME, load_bundle
from contract.preprocess import Box

ORIGINAL = 416  # pixels; the one size of the package's graph
MEAN, DEVIATION = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # BGR
# Score and sides of each stride, before the graph flattens them by arithmetic that TensorFlow.js has as int32 alone.
ENDS = [f"PartitionedCall/onnx_tf_prefix_Sigmoid_{number}:0" for number in (154, 165, 176)]
ENDS += [f"PartitionedCall/onnx_tf_prefix_Split_{number}:1" for number in (153, 164, 175)]
FRAMES = (60, 240, 420, 600)


@pytest.fixture(scope="module")
def files() -> NanodetFiles:
    return nanodet_files()


@pytest.fixture(scope="module")
def detector(files: NanodetFiles) -> DetectorFile:
    return make_detector("nanodet-384", "float16", files)


def original_graph(files: NanodetFiles) -> Any:
    """Return the package's own graph as a function of 1 x 3 x 416 x 416 pixels (BGR, normalised)."""
    from google.protobuf import json_format

    tf = tensorflow()
    top = json.loads(files.topology)
    graph, at = tf.compat.v1.GraphDef(), 0
    constants: dict[str, NDArray[Any]] = {}
    for weight in top["weightsManifest"][0]["weights"]:
        dtype = np.dtype(weight.get("quantization", weight)["dtype"])
        count = int(np.prod(weight["shape"]))
        value = np.frombuffer(files.values, dtype, count, at).reshape(weight["shape"])
        constants[weight["name"]], at = value.astype(weight["dtype"]), at + value.nbytes
    for node in top["modelTopology"]["node"]:
        added = graph.node.add()
        if node["op"] == "Const":
            value = constants[node["name"]]
            added.name, added.op = node["name"], "Const"
            added.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            added.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        else:
            json_format.ParseDict(node, added, ignore_unknown_fields=True)
    used = tf.compat.v1.graph_util.extract_sub_graph(graph, [end.partition(":")[0] for end in ENDS])

    def run(pixels: Any) -> Any:
        return tf.graph_util.import_graph_def(used, input_map={"input_1:0": pixels}, return_elements=ENDS, name="")

    return tf.function(run, input_signature=[tf.TensorSpec((1, 3, ORIGINAL, ORIGINAL), tf.float32)])


def test_the_rebuilt_graph_gives_the_numbers_of_the_original(files: NanodetFiles) -> None:
    picture = letterbox(selftest_inputs()[3], (ORIGINAL, ORIGINAL), 114).picture
    bgr = (picture[..., ::-1].astype(np.float32) - np.array(MEAN)) / np.array(DEVIATION)
    answers = original_graph(files)(bgr.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
    flat = [np.asarray(answer)[0].reshape(len(answer[0]), -1).T for answer in answers]
    scores, sides = np.concatenate(flat[:3])[:, :1], np.concatenate(flat[3:])
    assert flat[0].shape[-1] == CLASSES
    for integer in (False, True):
        model = build_nanodet(read_convolutions(files.topology, files.values), (ORIGINAL, ORIGINAL), integer=integer)
        rebuilt = kept_outputs(model, picture[np.newaxis].astype(np.float32))
        assert float(np.abs(rebuilt[0][0] - scores).max()) < 1e-4
        assert float(np.abs(rebuilt[1][0] - sides).max()) < 1e-3
    assert scores.max() > 0.5  # somebody is in the picture


def test_the_file_finds_the_people_of_the_sample_video(detector: DetectorFile, sample_video: Path) -> None:
    runner = detector.runner()
    labels = load_labels(LABELS)
    found = total = 0
    for number, frame in frames_of(sample_video, FRAMES):
        boxes = [one.box for one in runner.find(frame)]
        people = [rows[number] for rows in (*labels.household.values(), *labels.strangers.values()) if number in rows]
        wanted = [box for box in people if box[3] > 0.12 * frame.shape[0]]
        total += len(wanted)
        found += sum(any(overlap(box, one) >= 0.5 for one in boxes) for box in wanted)
    assert total >= 12
    assert found / total >= 0.9


def test_an_export_gives_the_same_bytes_again_and_comes_from_the_cache(
    detector: DetectorFile, files: NanodetFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINWATCH_CACHE", str(tmp_path))
    again = make_detector("nanodet-384", "float16", files)
    assert again == detector
    (cached,) = (tmp_path / "detectors").glob("*.tflite")
    assert cached.read_bytes() == again.data


def test_weights_of_another_network_are_refused(files: NanodetFiles) -> None:
    convolutions = read_convolutions(files.topology, files.values)
    with pytest.raises(InputError, match="33 convolutions, NanoDet-g has 34"):
        build_nanodet(convolutions[:-1], (224, 384))
    with pytest.raises(InputError, match="not those of NanoDet-g"):
        build_nanodet([convolutions[1], *convolutions[1:]], (224, 384))


def test_a_file_that_is_no_detector_is_refused() -> None:
    tiny = (Path(__file__).parents[1] / "vectors" / "bundle_tiny" / "backbone.tflite").read_bytes()
    with pytest.raises(ReleaseError, match="1 outputs, 2 are needed"):
        DetectorFile(tiny, {}).entry(selftest_inputs())


def test_a_device_runs_the_detector_in_the_self_test(detector: DetectorFile, tmp_path: Path) -> None:
    tiny = Path(__file__).parents[1] / "vectors" / "bundle_tiny"
    shutil.copytree(tiny, tmp_path / "bundle")
    manifest = load_bundle(tiny)
    with np.load(tiny / manifest.selftest.file) as stored:
        entry = detector.entry(stored["inputs"])
    (tmp_path / "bundle" / FILE).write_bytes(detector.data)
    place = tmp_path / "bundle" / NAME
    place.write_bytes(replace(manifest, detector=entry).to_bytes())
    assert load_bundle(tmp_path / "bundle").detector == entry
    assert run_selftest(tmp_path / "bundle").worst <= entry.tolerance
    other = tuple(tuple(1 - value for value in row) for row in entry.expected)
    place.write_bytes(replace(manifest, detector=replace(entry, expected=other)).to_bytes())
    with pytest.raises(ReleaseError, match="off by"):
        run_selftest(tmp_path / "bundle")
    place.write_bytes(replace(manifest, detector=entry).to_bytes())
    (tmp_path / "bundle" / FILE).write_bytes(detector.data[: len(detector.data) // 2])
    with pytest.raises(ReleaseError, match="self-test"):
        run_selftest(tmp_path / "bundle")


def overlap(first: Box, second: Box) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0, width) * max(0, height)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)
