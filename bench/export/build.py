"""Export of a trained cell into a folder that does not need the run: ``lethe export``.

Axes: L lanes (one), F features, U units.
"""

from pathlib import Path

from torch import Tensor, nn

from bench import models
from bench.encode import tokenizer_from_text
from bench.export.model_card import readme
from bench.export.predictor import Predictor
from bench.models import merging, pretrained, seq2seq, transformer
from bench.plan import CellSpec
from bench.schema import (
    HEAD,
    HEADER,
    README,
    WEIGHTS,
    Exported,
    ExportHeader,
    Fields,
    SavedModelHeader,
    TextTasks,
    checksum,
)
from bench.store import RunReader, SavedModels, new_folder, write_checked, write_tensors
from strategies.core import LaneLinear
from suites.base import generator
from suites.errors import UserError, some

_SHOWN = 6
"""Largest number of cells in a message."""


def export(run: str | Path, cell: str, out: str | Path, task: int | None = None) -> Path:
    """Export the saved model of a cell, as ``lethe export`` does.

    The folder can be loaded by ``Predictor.load``, and learning can continue from it (``resume_from``).

    Args:
        run: Folder of a run made with ``keep_models``.
        cell: Key of the cell, the beginning of the key, or ``strategy/seed``: ``"er/0"``.
        out: A new folder.
        task: Export the model after this many tasks; the last one saved without it.

    Returns:
        ``out``.

    Raises:
        UserError: The cell is unknown or has no saved model, the model cannot be exported, or ``out`` exists.

    Example:
        ```python
        lethe.run("digits", "er", seeds=1, out="runs/first", keep_models="last")
        lethe.export("runs/first", "er/0", "models/er")
        ```
    """
    save(served(Path(run), find(Path(run), cell), task), Path(out))
    return Path(out)


def find(run: Path, cell: str) -> str:
    """Return the key of a cell.

    Args:
        run: Folder of the run.
        cell: The key, a unique beginning of it, or ``identity/seed``.

    Raises:
        UserError: It is not a cell of the run, it could be several, or its model was not saved.
    """
    seen = RunReader(run)
    if not seen.manifest().commands:
        raise UserError(f"{run} is not a run's folder: it has no run.json")
    saved = SavedModels(run)
    records = {r["key"]: r for r in seen.records()}
    specs = {key: CellSpec(**r["spec"]) for key, r in records.items()}
    specs |= {key: spec for key in saved.cells() if (spec := _trained(saved, key)) is not None}
    words = {key: specs[key].title for key in saved.cells() if key in specs}
    found: list[str] = [key for key, spec in specs.items() if spec.is_called(cell)]
    able = [key for key in found if key in words]
    if len(able) == 1:
        _check_same_code(saved, able[0], records.get(able[0]))
        return able[0]
    if len(able) > 1:
        raise UserError(f"{cell} could be {_listed(able, words)}: choose one by its key or as strategy/seed")
    if found and (status := records[found[0]]["status"]) != "done":
        raise UserError(f"{cell} is {status}: it has no model")
    if found:
        raise UserError(f"{run} saved no model of {cell}: run it again with --keep-models last --force")
    has = _listed(list(words), words) or "none (lethe run --keep-models last saves them)"
    raise UserError(f"{run} has no cell {cell}; saved models: {has}")


def _check_same_code(saved: SavedModels, key: str, record: Fields | None) -> None:
    """Raise UserError for a model that was saved before its cell was run again with other code."""
    header = saved.header(key, saved.tasks(key)[-1])
    if record is not None and header.code != (record.get("made_by") or {}).get("code", ""):
        words = "is from other code than its record: run it again with --keep-models last --force"
        raise UserError(f"the saved model of {record['identity']} seed {record['spec']['seed']} {words}")


def _trained(saved: SavedModels, key: str) -> CellSpec | None:
    """Return the cell that a saved model is from, None if its header cannot be read."""
    try:
        return _learned(saved.header(key, saved.tasks(key)[-1]))
    except UserError:  # it is named where this model is asked for
        return None


def _learned(header: SavedModelHeader) -> CellSpec:
    """Return the cell that a saved model is from."""
    return CellSpec(**header.spec.model_dump(exclude_unset=True))


def _listed(keys: list[str], words: dict[str, str]) -> str:
    return some([f"{key} ({words[key]})" for key in keys], _SHOWN)


def served(run: Path, key: str, task: int | None = None) -> Predictor:
    """Return a saved model of a cell; its head has the units of the classes learned by then.

    Args:
        run: Folder of the run.
        key: Key of the cell.
        task: The model after this many tasks; the last one saved without it.

    Raises:
        UserError: The task was not saved, the method predicts with more than its model, the pretrained model
            has changed since, or the trained parameters cannot be merged.
    """
    saved = SavedModels(run)
    tasks = saved.tasks(key)
    if task is not None and task not in tasks:
        has = ", ".join(map(str, tasks))
        raise UserError(f"the model after task {task} was not saved; saved are those after task {has}")
    header = saved.header(key, tasks[-1] if task is None else task)
    spec = _learned(header)
    if header.answers_otherwise:
        raise UserError(
            f"{header.answers_otherwise} does not predict with its network alone, so it cannot be exported; "
            "the rest of its state is saved in the run"
        )
    if header.writes is True:
        raise UserError(f"{run} saved this model with an earlier version: run the cell again with --force")
    units = sorted({u for own in header.tasks[: header.tasks_done] for u in own})
    state = {
        name.removeprefix("model/"): t.unsqueeze(0)
        for name, t in saved.tensors(key, header.tasks_done).items()
        if name.startswith("model/")
    }
    if header.shape is not None:
        shape, options = tuple(header.shape), spec.model_options
        model = models.one_lane(spec.reference, options, shape, len(header.units))
        # A frozen network is not among what was saved.
        model.load_state_dict(model.state_dict() | state if options.get("tune") == "head" else state)
        model.head = _rows(model.head, units)
        return Predictor(model, _header(spec, header, units))
    if spec.model != seq2seq.TINY and pretrained.fingerprint(spec.model) != header.data.model:
        raise UserError(f"model {spec.model} has changed since it was trained in {run}")
    exported = _header(spec, header, units)
    if isinstance(header.writes, TextTasks):
        return _writing(spec, state, header.writes, exported)
    network = merging.merged(_transformer(spec, state))
    network.head = _rows(network.head, units)
    return Predictor(network, exported, pretrained.tokenizer(spec.model))


def _header(spec: CellSpec, header: SavedModelHeader, units: list[int]) -> ExportHeader:
    """Return the contents of lethe.json for a saved model.

    One that generates text does so for the tasks learned and those of the model it continued from.
    """
    images = {"shape", "scale", "mean", "std"} if header.shape else set()
    writes = {}
    if isinstance(texts := header.writes, TextTasks):
        tasks = Exported.at(spec.model).header.tasks if spec.continues else {}
        tasks |= dict(texts.tasks[: header.tasks_done])
        writes = {"writes": {"tasks": [list(task) for task in tasks.items()], "most": texts.most}}
    return ExportHeader.model_validate(
        {
            "schema": ExportHeader.VERSION,
            "reads": "images" if header.shape else "texts",
            "model": spec.reference.architecture or spec.model,
            "options": spec.model_options,
            "labels": [] if header.writes else [header.units[u] for u in units],
            "from": {
                "cell": spec.title,
                "key": header.key,
                "tasks_done": header.tasks_done,
                "tasks": len(header.tasks),
                "data": header.data,
            },
            **header.model_dump(include=images),
            **writes,
        }
    )


def _writing(spec: CellSpec, state: dict[str, Tensor], texts: TextTasks, exported: ExportHeader) -> Predictor:
    """Return a model that generates text."""
    model = models.one_lane(spec.reference, spec.model_options, (2, texts.most), 1)
    assert isinstance(model, seq2seq.Seq2Seq)
    model.load_state_dict(state)
    merging.fold(model)
    own = texts.tokenizer
    tokenizer = pretrained.tokenizer(spec.model) if own is None else tokenizer_from_text(own)
    return Predictor(seq2seq.Seq2Seq(1, model.base), exported, tokenizer)


def _transformer(spec: CellSpec, state: dict[str, Tensor]) -> transformer.Transformer:
    """Return the trained model of a cell with its frozen backbone, with one lane."""
    options, units = spec.model_options, state["head.bias"].shape[1]
    if options["tune"] == "head":
        model = merging.with_head(pretrained.backbone(spec.model, options["pooling"]), units)
    else:
        built = models.one_lane(spec.reference, options, (options["max_tokens"],), units)
        assert isinstance(built, transformer.Transformer)
        model = built
    model.load_state_dict(state)
    return model


def _rows(head: LaneLinear, units: list[int]) -> LaneLinear:
    """Return a head with some of the units of another."""
    cut = LaneLinear([generator(0, "model")], head.weight.shape[1], len(units))
    cut.load_state_dict({"weight": head.weight[:, :, units], "bias": head.bias[:, units]})
    return cut


def save(model: Predictor, folder: Path) -> None:
    """Write a model into a new folder, completely or not at all.

    Raises:
        UserError: The folder exists, or cannot be written.
    """
    with new_folder(folder) as scratch:
        _write_texts(model, scratch) if model.tokenizer is not None else _write_images(model, scratch)
        files = {path.name: checksum(path.read_bytes()) for path in sorted(scratch.iterdir())}
        content = model.header.model_dump(by_alias=True, exclude_unset=True) | {"files": files}
        write_checked(scratch / HEADER, content)
        (scratch / README).write_text(readme(model.header), encoding="utf-8")
        for path in scratch.iterdir():
            path.chmod(0o644)


def _write_images(model: Predictor, folder: Path) -> None:
    write_tensors(folder / WEIGHTS, {k: t[0].contiguous() for k, t in model.model.state_dict().items()})


def _write_texts(model: Predictor, folder: Path) -> None:
    network = model.model
    model.tokenizer.save_pretrained(folder)
    if isinstance(network, seq2seq.Seq2Seq):
        network.base.transformer.save_pretrained(folder)
        return
    assert isinstance(network, transformer.Transformer)
    state = {k: t[0] for k, t in network.state_dict().items()}
    state = {"weight": state.pop("head.weight").T, "bias": state.pop("head.bias"), **state}
    write_tensors(folder / HEAD, {k: t.contiguous() for k, t in state.items()})
    head = None
    if model.header.options["pooling"] == "own":
        head = nn.Linear(state["weight"].shape[1], len(model.labels))
        head.load_state_dict({k: state[k] for k in ("weight", "bias")})
    plain = merging.without_adapters(network.base.transformer)
    network = pretrained.completed(model.header.model, plain, head)
    network.config.id2label = dict(enumerate(model.labels))
    network.config.label2id = {label: u for u, label in enumerate(model.labels)}
    network.save_pretrained(folder)
