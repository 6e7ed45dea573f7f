"""The newest intact checkpoint of a run: last, or else previous, or else best."""

from pathlib import Path
from typing import NamedTuple

from minise.files import Damaged
from minise.train.checkpoint import Checkpoint, load
from minise.train.run_folder import RunFolder


class Newest(NamedTuple):
    """The checkpoint from which a run continues."""

    checkpoint: Checkpoint
    path: Path
    warnings: list[str]  # one for each newer checkpoint that is damaged or missing


def newest(folder: RunFolder) -> Newest:
    """Return the newest intact checkpoint of a run.

    The best checkpoint is used only if it has the state from which a run continues. If last is not
    intact, previous may be the only intact checkpoint: if path is not folder.last, save the next
    one without `previous`.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    Damaged
        If all are damaged; the message names the damaged arrays.
    ValueError
        If a newer version of minise wrote the checkpoint.
    """
    problems = []
    damage = None
    for path in (folder.last, folder.previous, folder.best):
        if not path.exists():
            if path == folder.last:
                problems.append(f"{path} does not exist")
            continue
        try:
            checkpoint = load(path)
        except Damaged as error:
            problems.append(error.problem)
            damage = error
            continue
        if path != folder.best or checkpoint.state:
            step = checkpoint.progress.get("step", "unknown")
            warnings = [f"{text}; {path}, of step {step}, is used" for text in problems[-1:]]
            return Newest(checkpoint, path, [*problems[:-1], *warnings])
        problems.append(f"{path} has no state from which the run could continue")
    text = f"no checkpoint of {folder.path} can be used: {'; '.join(problems)}"
    remedy = f"copy it again, or start a new run with --config {folder.path}"
    if damage is None:
        raise FileNotFoundError(f"{text}: {remedy}")
    damage.args = (f"{text}: {remedy}",)
    raise damage
