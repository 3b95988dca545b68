"""What a stage wrote, file by file: `sums/<stage>.json` of the run folder.

A file's hash is recorded with its size and times when its stage has ended. Later only size and times are looked at, and
a file is read again where they differ: so a change of any kind is seen at once, a copied run folder is taken for what
it is, and a check of a large run costs one look at each file.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mira.run_folder.files import hash_file, read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import WorkingCopy, fetch, time_of, working_copy_of

__all__ = ["Sums", "changed", "digest_of", "load_sums", "measure", "save_sums"]

Sums = dict[str, tuple[int, int, int, str]]
"""Path in the run folder -> bytes, time of change of its content and of its entry in ns, hash."""


def measure(
    run: RunFolder,
    outputs: Iterable[Path],
    known: Mapping[str, tuple[int, int, int, str]] | None = None,
    *,
    read: bool = False,
) -> Sums:
    """Return size, times and hash of every file of a stage, in a fixed order. Hidden files and folders are left out.

    Args:
        run: The run folder.
        outputs: The stage's files and folders.
        known: What was recorded earlier: a file of the same size and times is not read again.
        read: Read every other file, even one of a run at a URL whose hash was reported by who put it.
    """
    found: Sums = {}
    for output in outputs:
        above = output.relative_to(run.path).as_posix()
        place = working_copy_of(output)
        if place and place[0].is_shared(place[1]):
            found |= _measure_stored(*place, known or {}, read=read)
            continue
        for inside in [""] if output.is_file() else sorted(_files_below(output), key=lambda name: name.split("/")):
            path = f"{output!s}/{inside}" if inside else str(output)
            stat = os.stat(path)  # noqa: PTH116 - a run may hold very many files, and Path is slow
            state = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            name = f"{above}/{inside}" if inside else above
            before = (known or {}).get(name)
            found[name] = (*state, before[3] if before and before[:3] == state else hash_file(Path(path)))
    return found


def _measure_stored(
    copy: WorkingCopy, name: str, known: Mapping[str, tuple[int, int, int, str]], *, read: bool
) -> Sums:
    """Measure objects of a run at a URL: what stands for times there follows from their identity."""
    names = [name] if copy.find(name) else sorted(copy.below(name), key=lambda found: found.split("/"))
    objects = {name: there for name in names if (there := copy.find(name))}
    states = {name: (there.size, time_of(there), 0) for name, there in objects.items()}
    new = [name for name in objects if name not in known or known[name][:3] != states[name]]
    hashes = {name: reported for name in new if not read and (reported := copy.hash_of(name))}
    unknown = [name for name in new if name not in hashes]
    fetch(copy.path(name) for name in unknown)
    hashes |= {name: hash_file(Path(copy.path(name))) for name in unknown}
    return {name: (*states[name], hashes.get(name) or known[name][3]) for name in objects}


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the paths, as seen from a folder, of all files below it that are not hidden."""
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = "" if at == str(folder) else f"{at[len(str(folder)) + 1 :].replace(os.sep, '/')}/"
        yield from (f"{inside}{name}" for name in files if not name.startswith("."))


def changed(known: Mapping[str, tuple[int, int, int, str]], found: Sums) -> list[str]:
    """Return the files that are gone, that are new, or whose content is another than was recorded, sorted."""
    return sorted(
        name
        for name in known.keys() | found.keys()
        if name not in known or name not in found or known[name][3] != found[name][3]
    )


def digest_of(sums: Sums) -> str:
    """Return the hash of a stage's output: of its files' names and hashes, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, (*_, content) in sums.items():
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def load_sums(run: RunFolder, stage: str) -> Sums | None:
    """Return what was recorded of a stage; None if that record is missing or damaged."""
    try:
        given = read_json(_path(run, stage))
        return {str(name): (int(size), int(m), int(c), str(content)) for name, (size, m, c, content) in given.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def save_sums(run: RunFolder, stage: str, sums: Sums | None) -> None:
    """Record what a stage wrote; None forgets it."""
    if sums is None:
        _path(run, stage).unlink(missing_ok=True)
    else:
        write_json(_path(run, stage), sums)


def _path(run: RunFolder, stage: str) -> Path:
    return run.path / "sums" / f"{stage}.json"
