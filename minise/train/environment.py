"""What the bits of a run depend on, besides its settings: data, back end, libraries, processor.

A checkpoint stores `environment`; a run that is resumed compares it with its own by `differences`.
An entry states an effect, such as the kernel that OpenBLAS has chosen, not its cause, such as the
processor or an environment variable.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from minise.checks import escaped
from minise.data import Augment, Batches, LazyImages
from minise.files import shortened
from minise.nn import Layer
from minise.ops.dependencies import SEPARATOR, UNKNOWN, dependencies
from minise.train.batches import BatchSource, batches_fingerprint
from minise.train.run_folder import versions

NOT_RECORDED = "not recorded"


def environment(
    net: Layer, sources: Mapping[str, BatchSource | None], threads: int
) -> dict[str, str]:
    """Return a text for everything on which the bits of a run depend, by its title.

    Parameters
    ----------
    net : Layer
        The net.
    sources : dict of str to batches or None
        Batches by name, such as "training"; None where the run has none.
    threads : int
        Number of BLAS threads of the run; 0 means one. It is an entry only if the bits depend on
        it: those of jit and cuda do not.

    Returns
    -------
    dict of str to str
        Two runs with equal settings and equal entries have equal bits, unless a net, an objective
        or batches of the user's own use something else, such as a library or a global random
        generator. A file of ops counts by its content, without the files that it imports. An entry
        of data is "unknown" if they cannot be compared (see batches_fingerprint).
    """
    entries: dict[str, str] = {}
    for name, source in sources.items():
        entries |= _data_entries(name, source)
    packages = versions(("minise", "numpy"))
    entries |= {f"{name} version": packages[name] for name in ("minise", "numpy")}
    return entries | dependencies([layer.ops for _, layer in net.layers()], threads)


def differences(saved: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Return a line for each entry that differs, such as "BLAS kernel: Zen when saved, …".

    Parameters
    ----------
    saved, now : dict of str to str
        What `environment` returned when a checkpoint was saved, by this or by another version of
        minise, and what it returns now. "unknown" equals everything; an entry that one of the two
        lacks, which another version does not record, differs.
    """
    lines = []
    for title in dict.fromkeys((*now, *saved)):
        old, new = (str(entries.get(title, NOT_RECORDED)) for entries in (saved, now))
        if old != new and UNKNOWN not in (old, new):
            lines.append(escaped(f"{title}: {_difference(old, new)}"))
    return lines


def _difference(old: str, new: str) -> str:
    """Return the first parts that only one of two values has, or both values."""
    before, after = old.split(SEPARATOR), new.split(SEPARATOR)
    removed = [part for part in before if part not in after]
    added = [part for part in after if part not in before]
    if not removed and not added:  # another order
        return f"{old} when saved, {new} now"
    if not added:
        return f"{shortened(removed)} when saved, but not now"
    if not removed:
        return f"{shortened(added)} now, but not when saved"
    return f"{shortened(removed)} when saved, {shortened(added)} now"


def _data_entries(name: str, source: BatchSource | None) -> dict[str, str]:
    """Return the entries of a source of batches: its data, their order, and what decodes them."""
    if source is None:
        return {f"{name} data": "none"}
    entries = {f"{name} data": batches_fingerprint(source)}
    uses_pillow = isinstance(getattr(getattr(source, "dataset", None), "images", None), LazyImages)
    if isinstance(source, Batches):
        uses_pillow |= isinstance(source.augment, Augment) and source.augment.resized_crop
        augment, settings = source.augment, ("batch_size", "seed", "shuffle", "drop_last")
        described = augment is None or is_dataclass(augment)
        texts = {key: str(getattr(source, key)) for key in (*settings, "mean", "std", "dtype")}
        texts["augment"] = repr(augment) if described else type(augment).__name__
        parts = (f"{key}={text}" for key, text in texts.items())
        entries[f"{name} batches"] = SEPARATOR.join(parts)
    if uses_pillow:
        entries["Pillow version"] = versions(("pillow",))["pillow"]
    return entries
