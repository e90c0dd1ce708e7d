"""Which frames a folder or a stack holds, their names and order; and which file in another folder belongs to a frame."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..support.decoding import DEPTH_WORDS, MASK_WORDS, PIXELS, count_pages

MOST_NAMED = 5  # kinds of files that an error names
DEPTH_ENDINGS = (".png", ".tif", ".tiff", ".pgm", ".exr", ".npy", ".npz")
# words in names that say what an image shows
WORDS = "depth|masks?|seg|segmentation|segmented|segmask|labels?|labelids?|annotations?|semantic|sem|instance|gt|alpha|matte|bw"
SHOWN = rf"(?<![^\W\d_])(?:{WORDS}|hand|colou?r|rgb|image|img|aligned|to)(?![^\W\d_])"
# words for what was done to a depth image
DONE = "raw|registered|rectified|filtered|filled|inpainted|undistorted|transformed"
VERSIONS = rf"(?i)(?<![^\W\d_])(?:{DONE})(?![^\W\d_])"
# what systems put beside images: an archive's second half, thumbnails, things thrown away
NOT_THE_USERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


@dataclass(frozen=True)
class Place:
    """Where a frame lies."""

    path: Path
    page: int | None = None  # of a stack


def frames_at(
    source: Path, endings: Iterable[str] = DEPTH_ENDINGS, words: tuple[str, ...] = DEPTH_WORDS
) -> dict[str, Place]:
    """The frames below a folder, or of one file, by their names, in no order.

    A frame is named by its relative path; frames of a stack (`count_pages`) by the stack's path without its ending and their
    number: seq:000, seq:001. Raises ValueError if a folder cannot be listed, or two stacks share a name.
    """
    folder, files = (source.parent, [source]) if source.is_file() else (source, _files_below(source))
    places = {}
    for path in files:
        if path.suffix.lower() not in endings:
            continue
        relative, count = path.relative_to(folder), count_pages(path, words)
        if count is None:
            places[relative.as_posix()] = Place(path)
            continue
        frames = stack(path, relative.with_name(relative.name[: -len(path.suffix)]).as_posix(), count)
        if frames.keys() & places.keys():
            other = places[next(iter(frames.keys() & places.keys()))].path
            raise ValueError(f"{path} and {other} hold frames of the same names; move one of them away")
        places |= frames
    return places


def stack(path: Path, stem: str, count: int) -> dict[str, Place]:
    """The frames of a file of many, by their names: stem:000, stem:001."""
    digits = max(3, len(str(count - 1)))
    return {f"{stem}:{page:0{digits}}": Place(path, page) for page in range(count)}


def endings_below(source: Path) -> set[str]:
    """The endings of the files below a folder, or of one file."""
    return {path.suffix or path.name for path in ([source] if source.is_file() else _files_below(source))}


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and those below it; what cannot be listed is an error. Links are followed last, and no folder twice."""

    def fail(error: OSError):
        raise ValueError(f"{error.filename}: cannot be listed ({error.strerror}); allow reading, or move it away")

    roots, seen = [folder], set()
    for root in roots:
        for place, folders, files in os.walk(root, onerror=fail):
            if os.path.realpath(place) in seen:  # a link led here before, or leads back
                folders.clear()
                continue
            seen.add(os.path.realpath(place))
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_THE_USERS)
            roots += [Path(place) / name for name in folders if os.path.islink(Path(place) / name)]
            yield from (Path(place) / name for name in files if not name.startswith("."))


# -- order ----------------------------------------------------------------------------------------------------------------


def in_order(names: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Names by folder and by the numbers in them, frame_2 before frame_10 and 0.25 before 0.5; and pairs of equal numbers.

    A dot between two numbers is a decimal point. It separates two counts, as in 1.9 and 1.10, where the numbers behind it
    differ in length and one ends in 0: no program writes fractions so.
    """
    names = sorted(names)  # what decides between equals
    behind = [match[1] for name in names for match in re.finditer(DECIMAL, name) if match[1]]
    counts = len({len(digits) for digits in behind}) > 1 and any(d[-1] == "0" and len(d) > 1 for d in behind)
    keyed = sorted((_numbers(name, not counts), name) for name in names)
    equal = [(a, b) for (key, a), (other, b) in zip(keyed, keyed[1:], strict=False) if key == other]
    return [name for _, name in keyed], equal


DECIMAL = r"(?<![\d.])\d+\.(\d+)(?![\d]|\.\d)"  # 1.25, but nothing of 1.2.3


def _numbers(name: str, decimals: bool):
    """What sorts: for each folder and the stem, text and numbers in turn; a number is (whole, digits behind the point)."""
    key = []
    for part in stem_of(name).split("/"):
        pattern = rf"{DECIMAL}|\d+" if decimals else r"\d+"
        tokens, end = [], 0
        for match in re.finditer(pattern, part):
            whole, _, fraction = match[0].partition(".")
            tokens += [part[end : match.start()].casefold(), (int(whole), fraction.rstrip("0"))]
            end = match.end()
        key.append((*tokens, part[end:].casefold()))
    return tuple(key), name.rpartition(".")[2].lower() if stem_of(name) != name else ""


# -- companions -----------------------------------------------------------------------------------------------------------


def stem_of(name: str) -> str:
    """The name without the ending of an image; what else has a dot, as a time, is kept."""
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending}".lower() in PIXELS else name


class Companions:
    """The images in a folder that belong to frames of another one: same folders and stem, in any case, any ending.

    Where there is none, words that say what an image shows do not count: mask_1.png and 1_mask.png belong to depth_1.png. Last,
    neither do zeros before numbers: 7.png belongs to 0007.png.
    Where both are stacks, named as files, the number alone counts.
    """

    def __init__(self, folder: Path):
        self.folder, self._tiers = folder, tuple(defaultdict(list) for _ in TIERS)
        for name, place in frames_at(folder, PIXELS, MASK_WORDS).items():
            for places, key in zip(self._tiers, TIERS, strict=True):
                places[key(self._stem(name))].append(place)

    def _stem(self, name: str) -> str:
        return name.rpartition(":")[2] if self.folder.is_file() else stem_of(name)

    def of(self, name: str, own: Path | None = None) -> Place:
        """The companion of a frame.

        Args:
            name: of the frame.
            own: the frame's own file, which is its companion only where there is no other.

        Raises:
            ValueError: there is none, or more than one.
        """
        stem = self._stem(name)
        tiers = [places.get(key(stem), []) for places, key in zip(self._tiers, TIERS, strict=True)]
        others = [[place for place in places if place.path != own] for places in tiers]
        for places in (*others, tiers[0]):
            if len(places) == 1:
                return places[0]
            if places:
                found = " and ".join(str(place.path) for place in places)
                raise ValueError(f"{found} both belong to the frame {name}; move one of them away")
        if self.folder.is_file():
            raise ValueError(
                f"{self.folder} is one file, whose images belong to frames in one file, by their numbers; {name} is none of "
                "them: save a folder of images that are named as the frames"
            )
        there = next(iter(self._tiers[0]), None)
        others = ", ".join(sorted(endings_below(self.folder))[:MOST_NAMED])
        none = f"which has no images that are read here, but {others}" if others else "which is empty"
        seen = none if there is None else f"whose first image is {there!r}"
        raise ValueError(
            f"{self.folder / stem_of(name)}.png is missing: each depth image needs its mask or colour image, of the same "
            f"name with any ending, in {self.folder}, {seen}"
        )


def _alike(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _bare(stem: str) -> str:
    """The stem without words that say what its image shows, and without a second ending: all that tells frames apart."""
    folders = [
        re.sub(r"[_\-. ]+", "_", re.sub(SHOWN, "", part)).strip("_") for part in _alike(stem_of(stem)).split("/")
    ]
    return "/".join(part for part in folders if part)


def _unpadded(stem: str) -> str:
    """`_bare` without the zeros before whole numbers; 1.05 remains."""
    return _bare(re.sub(r"(?<![\d.])0+(?=\d)", "", stem))


TIERS = str, _alike, _bare, _unpadded  # what of a stem counts, from all of it to the least


# -- the same frames twice ------------------------------------------------------------------------------------------------


def shown_twice(names: Iterable[str]) -> list[str]:
    """Two names of one frame, as depth/1.png and depth_aligned/1.png, where half of the frames and more are there twice."""
    groups = defaultdict(list)
    for name in names:
        groups[_bare(re.sub(VERSIONS, "", stem_of(name)))].append(name)
    twice = [some for key, some in groups.items() if re.search(r"\d", key) and len(some) > 1]
    return twice[0][:2] if twice and 2 * len(twice) >= len(groups) else []
