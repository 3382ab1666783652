"""Owns release.json, the manifest of a bundle: its schema, its parser, and the check of a bundle against it.

Refuses to run a model, and refuses to trust: who signed a manifest is for ``contract.trust``.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contract.checks import Fields, parse_object
from contract.errors import InputError, describe_os_error
from contract.familiarity import Familiarity, channels_kept, parse_familiarity, unpack_means
from contract.files import compact_json_bytes, read_capped, sha256_file
from contract.names import parse_names

# The second has a detector, the third compiled files; a manifest without these keeps the earlier one, and its bytes.
SCHEMA, DETECTOR_SCHEMA, COMPILED_SCHEMA = 1, 2, 3
NAME = "release.json"
MOST_BYTES = 1 << 20
UNKNOWN = "unknown"  # the label of a stranger; never one of `labels`


@dataclass(frozen=True)
class TensorSpec:
    """Shape (with the batch of 1), dtype (numpy name) and affine quantisation (scale 0: none) of a model's end."""

    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Compiled:
    """The model of a stage or a detector compiled for an Edge TPU: the same ends, and it runs nowhere else."""

    file: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Stage:
    """One model file of the bundle; the output of a stage is the input of the next."""

    file: str
    sha256: str
    size: int
    input: TensorSpec
    output: TensorSpec
    edge_tpu: bool = False
    operators: tuple[str, ...] = ()
    compiled: Compiled | None = None


@dataclass(frozen=True)
class Preprocess:
    """How a crop becomes the first stage's input; applied by ``contract.preprocess`` and nothing else.

    ``size`` is (height, width) in pixels; ``context`` is the share of the box added on each side; a value of the
    image (0..255) becomes ``value * scale + offset``.
    """

    size: tuple[int, int]
    context: float = 0.1
    resize: str = "stretch"
    color: str = "rgb"
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Thresholds:
    """When a track has a name: mean probability of the winner at least ``accept``, from ``least_crops`` crops."""

    accept: float = 0.5
    least_crops: int = 3


@dataclass(frozen=True)
class SelfTest:
    """Inputs shipped with a bundle (array ``inputs``: uint8, n x height x width x 3, RGB) and what must come out.

    ``expected`` holds n rows of probabilities; every value must be within ``tolerance``.
    """

    file: str
    sha256: str
    size: int
    expected: tuple[tuple[float, ...], ...]
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Detector:
    """The model that finds people in a whole frame; ``contract.detection`` runs it, and nothing else does.

    A frame is shrunk by one factor into the top left of ``input`` (letterboxed), the rest is ``fill``; pixels go in
    as they are (RGB, 0..255), normalisation is in the graph. For each cell of each of the ``strides`` (in pixels of
    the input; row by row, the finest stride first) come two ``outputs``, in the file's order: how sure it is of a
    person, and how far the box's left, top, right and bottom are from the cell's middle, each as logits of
    0..``reg_max`` strides.

    A box of score ``begin`` begins a track, one of ``go_on`` continues it, and of two boxes that overlap (IoU) by
    ``overlap`` the surer stays. ``expected`` holds a row for each picture of the self-test, see
    ``contract.detection.decode.summarise``; every value must be within ``tolerance``.
    """

    file: str
    sha256: str
    size: int
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    strides: tuple[int, ...]
    reg_max: int
    expected: tuple[tuple[float, ...], ...]
    tolerance: float
    kind: str = "nanodet"
    fill: int = 114
    begin: float = 0.45
    go_on: float = 0.25
    overlap: float = 0.5
    edge_tpu: bool = False
    operators: tuple[str, ...] = ()
    compiled: Compiled | None = None

    @property
    def cells(self) -> int:
        """How many boxes it gives for a frame, whether somebody is there or not."""
        _, height, width, _ = self.input.shape
        return sum((height // stride) * (width // stride) for stride in self.strides)


@dataclass(frozen=True)
class FileEntry:
    """Digest (SHA-256, hexadecimal) and length in bytes of one file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle is: read from release.json.

    Without ``familiarity`` (an older release, or one of a single stage) the thresholds alone tell strangers; without
    ``detector`` (an older release, or one for a camera that needs none) people are found by what moves. ``names`` is
    what people see instead of a label, see ``contract.names``; a label without one is shown itself.
    """

    model: str
    version: int
    created: str
    labels: tuple[str, ...]
    stages: tuple[Stage, ...]
    preprocess: Preprocess
    thresholds: Thresholds
    selftest: SelfTest
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    familiarity: Familiarity | None = None
    detector: Detector | None = None
    names: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> tuple[Stage | Detector, ...]:
        """The stages, and the detector after them where there is one."""
        return self.stages if self.detector is None else (*self.stages, self.detector)

    @property
    def parts(self) -> tuple[Stage | Detector | Compiled | SelfTest, ...]:
        """What is a file of the bundle."""
        return (*self.models, *(part.compiled for part in self.models if part.compiled), self.selftest)

    @property
    def schema(self) -> int:
        """The earliest schema that says all of it."""
        if any(part.compiled for part in self.models):
            return COMPILED_SCHEMA
        return SCHEMA if self.detector is None else DETECTOR_SCHEMA

    def files(self) -> dict[str, FileEntry]:
        """Return every file of the bundle but release.json itself."""
        return {part.file: FileEntry(part.sha256, part.size) for part in self.parts}

    def to_bytes(self) -> bytes:
        """Return release.json; the same manifest gives the same bytes."""
        body = asdict(self)
        models = [*body["stages"], *([body["detector"]] if self.detector else [])]
        optional = [(body, "familiarity"), (body, "detector"), (body, "names")]
        for owner, name in [*optional, *((model, "compiled") for model in models)]:
            if not owner[name]:
                del owner[name]  # as it was before there was such a field: the same release keeps its bytes
        return compact_json_bytes({"schema": self.schema, **body})


def parse_manifest(data: bytes, where: str = NAME) -> Manifest:
    """Read release.json.

    Raises:
        InputError: a field is missing or wrong; the text says which, and where.
    """
    top = Fields(parse_object(data, where), where)
    schema = top.integer("schema", 1)
    if schema not in (SCHEMA, DETECTOR_SCHEMA, COMPILED_SCHEMA):
        raise InputError(f"{where}: schema {schema}, this program knows {SCHEMA} to {COMPILED_SCHEMA}")
    has_detector = schema >= DETECTOR_SCHEMA and "detector" in top.value
    labels = _labels(top)
    manifest = Manifest(
        model=top.name("model"),
        version=top.integer("version", 1),
        created=top.text("created"),
        labels=labels,
        stages=tuple(_stage(Fields(item, f"{where}: stages[{i}]")) for i, item in enumerate(top.items("stages", 8))),
        preprocess=_preprocess(top.object("preprocess")),
        thresholds=_thresholds(top.object("thresholds")),
        selftest=_selftest(top.object("selftest")),
        metrics=top.free("metrics"),
        provenance=top.free("provenance"),
        familiarity=parse_familiarity(top.object("familiarity")) if "familiarity" in top.value else None,
        detector=_detector(top.object("detector")) if has_detector else None,
        names=parse_names(top.object("names"), labels, UNKNOWN) if "names" in top.value else {},
    )
    _check_consistency(manifest, where)
    return manifest


def load_bundle(folder: Path, *, verify: bool = True) -> Manifest:
    """Read the manifest of the bundle in ``folder``; with ``verify``, check every file's length and digest.

    Raises:
        InputError: no bundle, a missing file, or a file that is not the manifest's.
    """
    return read_bundle(folder, verify=verify)[0]


def read_bundle(folder: Path, *, verify: bool = True) -> tuple[Manifest, bytes]:
    """Read the manifest of the bundle in ``folder`` and the very bytes that it was read from; see ``load_bundle``."""
    path = folder / NAME
    try:
        data = read_capped(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{folder} is no bundle: {describe_os_error(error)}") from error
    manifest = parse_manifest(data, str(path))
    for name, entry in manifest.files().items() if verify else ():
        check_file(folder / name, entry)
    return manifest, data


def check_file(path: Path, entry: FileEntry) -> None:
    """Check that ``path`` has the length and digest of ``entry``; InputError names it when it has not."""
    try:
        size = path.stat().st_size
        digest = sha256_file(path) if size == entry.size else ""
    except OSError as error:
        raise InputError(f"missing file of the bundle: {describe_os_error(error)}") from error
    if size != entry.size:
        raise InputError(f"{path}: {size} bytes, the manifest says {entry.size}")
    if digest != entry.sha256:
        raise InputError(f"{path}: its SHA-256 is not the manifest's")


def _labels(top: Fields) -> tuple[str, ...]:
    labels = tuple(top.items("labels"))
    if not labels or not all(isinstance(label, str) and 0 < len(label) <= 64 for label in labels):
        raise InputError(f"{top.where}: labels must be strings of 1 to 64 characters, at least one")
    if len(set(labels)) != len(labels) or UNKNOWN in labels:
        raise InputError(f"{top.where}: labels must differ, and none may be {UNKNOWN!r}")
    return labels


def _tensor(fields: Fields) -> TensorSpec:
    shape = fields.items("shape", 6)
    if not shape or not all(type(size) is int and 0 < size <= 1 << 16 for size in shape):
        raise InputError(f"{fields.where}: shape must be whole numbers from 1 to 65536")
    dtype = fields.text("dtype")
    if dtype not in ("float32", "int8", "uint8"):
        raise InputError(f"{fields.where}: dtype {dtype!r} is not float32, int8 or uint8")
    return TensorSpec(tuple(shape), dtype, fields.number("scale", 0), fields.integer("zero_point", -128, 255))


def _operators(fields: Fields) -> tuple[str, ...]:
    operators = fields.items("operators")
    if not all(isinstance(name, str) for name in operators):
        raise InputError(f"{fields.where}: operators must be strings")
    return tuple(operators)


def _file(fields: Fields) -> dict[str, Any]:
    return {"file": fields.name("file"), "sha256": fields.sha256("sha256"), "size": fields.integer("size", 1)}


def _model(fields: Fields) -> dict[str, Any]:
    """Return what stages and detectors both have."""
    return {
        **_file(fields),
        "input": _tensor(fields.object("input")),
        "edge_tpu": fields.boolean("edge_tpu"),
        "operators": _operators(fields),
        "compiled": Compiled(**_file(fields.object("compiled"))) if "compiled" in fields.value else None,
    }


def _stage(fields: Fields) -> Stage:
    return Stage(**_model(fields), output=_tensor(fields.object("output")))


def _detector(fields: Fields) -> Detector:
    kind, strides = fields.text("kind"), fields.items("strides", 8)
    if kind != "nanodet":
        raise InputError(f"{fields.where}: kind {kind!r} is not known here (only 'nanodet')")
    if not strides or not all(type(stride) is int and 1 <= stride <= 256 for stride in strides):
        raise InputError(f"{fields.where}: strides must be whole numbers from 1 to 256")
    outputs = fields.items("outputs", 8)
    return Detector(
        **_model(fields),
        outputs=tuple(_tensor(Fields(item, f"{fields.where}: outputs[{i}]")) for i, item in enumerate(outputs)),
        strides=tuple(strides),
        reg_max=fields.integer("reg_max", 1, 64),
        expected=_expected(fields),
        tolerance=fields.number("tolerance", 0, 1),
        kind=kind,
        fill=fields.integer("fill", 0, 255),
        begin=fields.number("begin", 0, 1),
        go_on=fields.number("go_on", 0, 1),
        overlap=fields.number("overlap", 0, 1),
    )


def _preprocess(fields: Fields) -> Preprocess:
    size, number = fields.items("size", 2), fields.number
    if len(size) != 2 or not all(type(side) is int and 8 <= side <= 1024 for side in size):
        raise InputError(f"{fields.where}: size must be [height, width] from 8 to 1024")
    for key, known in (("resize", "stretch"), ("color", "rgb")):
        if fields.text(key) != known:
            raise InputError(f"{fields.where}: {key} {fields.value[key]!r} is not known here (only {known!r})")
    return Preprocess((size[0], size[1]), number("context", 0, 1), scale=number("scale"), offset=number("offset"))


def _thresholds(fields: Fields) -> Thresholds:
    return Thresholds(fields.number("accept", 0, 1), fields.integer("least_crops", 1, 100))


def _expected(fields: Fields) -> tuple[tuple[float, ...], ...]:
    rows = []
    for i, row in enumerate(fields.items("expected", 256)):
        if not isinstance(row, list) or not all(type(value) in (int, float) and 0 <= value <= 1 for value in row):
            raise InputError(f"{fields.where}: expected[{i}] must be probabilities")
        rows.append(tuple(float(value) for value in row))
    return tuple(rows)


def _selftest(fields: Fields) -> SelfTest:
    return SelfTest(**_file(fields), expected=_expected(fields), tolerance=fields.number("tolerance", 0, 1))


def _check_consistency(manifest: Manifest, where: str) -> None:
    if not manifest.stages:
        raise InputError(f"{where}: stages must not be empty")
    if len(manifest.files()) != len(manifest.parts) or NAME in manifest.files():
        raise InputError(f"{where}: two files have the same name")
    labels, rows = len(manifest.labels), manifest.selftest.expected
    first, last = manifest.stages[0].input.shape, manifest.stages[-1].output.shape
    if first != (1, *manifest.preprocess.size, 3):
        raise InputError(f"{where}: the first stage takes {list(first)}, preprocess makes {manifest.preprocess.size}")
    if last != (1, labels):
        raise InputError(f"{where}: the last stage gives {list(last)} for {labels} labels")
    if not rows or any(len(row) != labels for row in rows):
        raise InputError(f"{where}: selftest: expected must {'have one value a label' if rows else 'not be empty'}")
    for one, two in zip(manifest.stages, manifest.stages[1:], strict=False):
        if one.output.shape != two.input.shape:
            raise InputError(f"{where}: {one.file} gives {one.output.shape}, {two.file} takes {two.input.shape}")
    if manifest.familiarity is not None:
        if len(manifest.stages) < 2:
            raise InputError(f"{where}: familiarity: needs a stage that gives features before the last one")
        channels = channels_kept(manifest.stages[-1].input.shape[-1], manifest.familiarity.stride)
        unpack_means(manifest.familiarity.means, labels, channels, f"{where}: familiarity")
    if manifest.detector is not None:
        _check_detector(manifest.detector, len(rows), f"{where}: detector")


def _check_detector(detector: Detector, pictures: int, where: str) -> None:
    shape = detector.input.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise InputError(f"{where}: takes {list(shape)}, which is no picture")
    if any(side % stride for side in shape[1:3] for stride in detector.strides):
        raise InputError(f"{where}: its input of {shape[2]}x{shape[1]} is no multiple of the strides")
    wanted = sorted((1, detector.cells, values) for values in (1, 4 * (detector.reg_max + 1)))
    if sorted(output.shape for output in detector.outputs) != wanted:
        raise InputError(f"{where}: outputs must be of the shapes {wanted[0]} and {wanted[1]}")
    if detector.go_on > detector.begin:
        raise InputError(f"{where}: go_on must not be over begin")
    rows = detector.expected
    if len(rows) != pictures or any(len(row) != 2 * len(detector.strides) for row in rows):
        raise InputError(f"{where}: expected must have two values a stride for each of {pictures} pictures")
