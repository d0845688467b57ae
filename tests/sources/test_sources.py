"""Sources: each kind gives the same images, in one order, in numbered slices."""

from __future__ import annotations

import os
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as arrow
import pyarrow.parquet
import pytest

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.errors import DataError, GspDeployError, SourceError, UsageError
from gsp_deploy.images.walking import PassedOver
from gsp_deploy.sources import Columns, Record, Sources

from .conftest import picture, tar_bytes

SPEC = PreprocessingSpec(8, 8)
COUNT = 7


def records(*arguments: object, size: int = 3, columns: Columns | None = None) -> list[Record]:
    sources = Sources(map(str, arguments), size, columns or Columns())
    return [record for piece in sources for record in piece.records()]


def table() -> arrow.Table:
    """The pictures in the layout of the Hugging Face hub."""
    rows = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(COUNT)]
    labels = [n % 2 for n in range(COUNT)]
    names = [f"id {n}" for n in range(COUNT)]
    return arrow.table({"label": labels, "image": rows, "name": names})


def write_arrow(path: Path, stream: bool) -> None:
    open_writer = arrow.ipc.new_stream if stream else arrow.ipc.new_file
    with open_writer(str(path), table().schema) as writer:
        writer.write_table(table(), max_chunksize=4)


def folder(place: Path) -> str:
    for number in range(COUNT):
        (place / f"{number}.png").write_bytes(picture(number))
    return str(place)


def pattern(place: Path) -> str:
    return f"{folder(place)}/*.png"


def text_list(place: Path) -> str:
    folder(place)
    (place / "list.txt").write_text("".join(f"{n}.png\n" for n in range(COUNT)))
    return str(place / "list.txt")


def csv_list(place: Path) -> str:
    folder(place)
    rows = "".join(f"{n % 2},{n}.png\n" for n in range(COUNT))
    (place / "list.csv").write_text(f"label,path\n{rows}")
    return str(place / "list.csv")


def members() -> dict[str, bytes]:
    found = {}
    for number in range(COUNT):
        found[f"{number:06}.png"] = picture(number)
        found[f"{number:06}.json"] = b"{}"
    return {"a/._hidden.png": b"", **found}


def tar(place: Path) -> str:
    (place / "shard.tar").write_bytes(tar_bytes(members()))
    return str(place / "shard.tar")


def tar_gz(place: Path) -> str:
    (place / "shard.tar.gz").write_bytes(tar_bytes(members(), "w:gz"))
    return str(place / "shard.tar.gz")


def parquet(place: Path) -> str:
    pyarrow.parquet.write_table(table(), place / "t.parquet", row_group_size=3)
    return str(place / "t.parquet")


def arrow_file(place: Path) -> str:
    write_arrow(place / "t.arrow", stream=False)
    return str(place / "t.arrow")


def arrow_stream(place: Path) -> str:
    write_arrow(place / "s.arrow", stream=True)
    return str(place / "s.arrow")


KINDS = [
    folder, pattern, text_list, csv_list, tar, tar_gz, parquet, arrow_file, arrow_stream,
]  # fmt: skip


@pytest.mark.parametrize("where", ["local", "file", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_images(
    kind: Callable[[Path], str], where: str, tmp_path: Path
) -> None:
    source = kind(tmp_path)
    if where == "file":
        source = f"file://{source}"
    if where == "memory":
        store = fsspec.filesystem("memory")
        store.rm("/", recursive=True) if store.exists("/") else None
        store.put(str(tmp_path), f"/{tmp_path.name}", recursive=True)
        source = source.replace(str(tmp_path), f"memory://{tmp_path.name}")
    found = records(source)
    pixels = [record.pixels(SPEC) for record in found]
    expected = [Record("x", "", content=picture(n)).pixels(SPEC) for n in range(COUNT)]
    np.testing.assert_array_equal(pixels, expected)
    ids = [record.id for record in found]
    assert len(set(ids)) == COUNT
    if kind is tar:
        assert ids[0] == f"{source}/000000.png"
    if kind is parquet:
        assert ids[2] == f"{source}/2"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("skip", [0, 2, 5, COUNT])
def test_a_slice_can_begin_later(kind: Callable[[Path], str], skip: int, tmp_path: Path) -> None:
    (piece,) = Sources([kind(tmp_path)], 100)
    assert [r.id for r in piece.records(skip)] == [r.id for r in piece.records()][skip:]


def test_slices_have_numbers_and_keys_that_depend_on_the_listing_alone(photos) -> None:
    root = photos("a/1.png", "a/2.png", "a/3.png", "b/4.png", "b/5.png")
    (root / "shard.tar").write_bytes(tar_bytes({"1.png": picture(1)}))
    arguments = [f"{root}/a", f"{root}/shard.tar", f"{root}/b"]
    pieces = list(Sources(arguments, 2))
    assert [piece.number for piece in pieces] == [0, 1, 2, 3]
    assert [len(piece.files) for piece in pieces] == [2, 1, 1, 2]
    assert [piece.is_container for piece in pieces] == [False, False, True, False]
    assert [piece.key for piece in Sources(arguments, 2)] == [piece.key for piece in pieces]
    os.utime(root / "a" / "2.png", ns=(1, 1))
    changed = [piece.key for piece in Sources(arguments, 2)]
    assert [a == b for a, b in zip(changed, [p.key for p in pieces], strict=True)] == [
        False, True, True, True,
    ]  # fmt: skip


def test_a_file_that_several_arguments_contain_is_read_once(photos) -> None:
    root = photos("a/1.png", "a/2.png", "b/3.png")
    found = records(root / "a", f"{root}/*/*.png", root / "b" / "3.png")
    assert [Path(r.id).name for r in found] == ["1.png", "2.png", "3.png"]


def test_what_is_passed_over_is_counted(photos) -> None:
    root = photos("a/1.png", "a/x.txt", "a/@eaDir/2.png", "a/.3.png")
    sources = Sources([str(root / "a")], 9)
    assert len(list(sources)) == 1
    words = "passed over 2 files: 1 .txt, 1 hidden; 1 folder: 1 @eaDir"
    assert str(sources.listing.passed_over) == words
    remote = Sources([f"file://{root}/a"], 9)
    assert len(list(remote)) == 1
    assert str(remote.listing.passed_over) == words


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_what_is_passed_over_in_a_tar_is_counted_from_its_start(photos, skip: int) -> None:
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "a.png"
    names = ("a.png", "a.json", "b/B.TXT", "b/c.txt", "README", ".d/e.png", "__MACOSX/._a.png")
    root = photos()
    with tarfile.open(root / "s.tar", "w") as archive:
        for member in (link, *map(tarfile.TarInfo, names), tarfile.TarInfo("z.png")):
            archive.addfile(member)
    (piece,) = Sources([str(root / "s.tar")], 9)
    found: list[PassedOver] = []
    assert len(list(piece.records(skip, found.append))) == 2 - skip
    assert [str(counts) for counts in found] == [
        "passed over 7 files: 2 .txt, 1 .json, 1 hidden, 1 in __MACOSX, "
        "1 links or no regular files, 1 without a suffix"
    ]


def test_a_tar_of_strange_names_has_a_short_count(photos) -> None:
    root = photos()
    names = [f"a.{number}" for number in range(99)] + [f"b.{'x' * 500}"]
    (root / "s.tar").write_bytes(tar_bytes(dict.fromkeys(names, b"")))
    (piece,) = Sources([str(root / "s.tar")], 9)
    found: list[PassedOver] = []
    assert list(piece.records(report=found.append)) == []
    (counts,) = found
    assert sum(counts.files.values()) == 100
    assert len(str(counts)) < 500


def test_a_pattern_crosses_folders_and_takes_containers(photos) -> None:
    root = photos("a/1.png", "a/b/2.png", "c.png", "a/.git/3.png")
    (root / "a" / "s.tar").write_bytes(tar_bytes({"1.png": picture(1)}))
    found = {r.id.removeprefix(f"{root}/") for r in records(f"{root}/**/*.*")}
    assert found == {"c.png", "a/1.png", "a/b/2.png", "a/s.tar/1.png"}


@pytest.mark.parametrize("where", ["", "file://"])
def test_a_pattern_leaves_out_the_folders_that_a_walk_leaves_out(photos, where: str) -> None:
    root = photos("a/1.png", "a/@eaDir/2.png", "a/.b/3.png", "__MACOSX/4.png", "@eaDir/5.png")
    for pattern in ("*/*.png", "**/*.png", "**", "*"):
        assert [Path(r.id).name for r in records(f"{where}{root}/{pattern}")] == ["1.png"], pattern
    sources = Sources([f"{where}{root}/**/*.png"], 9)
    assert len(list(sources)) == 1
    assert str(sources.listing.passed_over) == ("passed over 4 folders: 2 @eaDir, 1 .b, 1 __MACOSX")
    assert [Path(r.id).name for r in records(f"{where}{root}/a/@eaDir/*")] == ["2.png"]


def test_a_pattern_passes_links_that_lead_nowhere(photos) -> None:
    root = photos("1.png")
    (root / "2.png").symlink_to(root / "2.png")
    (root / "3.png").symlink_to(root / "absent.png")
    sources = Sources([f"{root}/*.png"], 9)
    assert [len(piece.files) for piece in sources] == [1]
    assert "2 broken links or no regular files" in str(sources.listing.passed_over)


def test_a_tar_leaves_out_the_folders_that_a_walk_leaves_out(tmp_path: Path) -> None:
    """Archives of a Mac or a NAS, and of a folder that Jupyter has seen."""
    names = ("a/1.png", "__MACOSX/a/1.png", "a/.ipynb_checkpoints/1.png", "a/@eaDir/1.png/m.png")
    (tmp_path / "t.tar").write_bytes(tar_bytes({name: picture(1) for name in names}))
    assert [r.id for r in records(tmp_path / "t.tar")] == [f"{tmp_path}/t.tar/a/1.png"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("who\twhere\nann\t0.png\n")
    folder(tmp_path)
    (found,) = records(tmp_path / "list.tsv", columns=Columns("where", "who"))
    assert (found.id, found.location) == ("ann", f"{tmp_path}/0.png")
    ids = [r.id for r in records(parquet(tmp_path), columns=Columns(None, "name"))]
    assert ids == [f"id {n}" for n in range(COUNT)]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(("mask", "image"), "image"), (("photo",), "photo"), (("img", "jpg"), None),
     (("left", "right"), None)],
)  # fmt: skip
def test_one_of_several_columns_of_images_is_not_guessed(
    names: tuple[str, ...], chosen: str | None, tmp_path: Path
) -> None:
    columns = {name: [picture(number)] for number, name in enumerate(names)}
    pyarrow.parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    if chosen is None:
        with pytest.raises(UsageError, match=f"one column of images, got '{', '.join(names)}'; ch"):
            records(tmp_path / "t.parquet")
        chosen = names[1]
        (found,) = records(tmp_path / "t.parquet", columns=Columns(chosen, None))
    else:
        (found,) = records(tmp_path / "t.parquet")
    assert found.content == columns[chosen][0]


def test_a_row_without_an_image_is_a_broken_image(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": None}]
    folder(tmp_path)
    pyarrow.parquet.write_table(arrow.table({"image": rows}), tmp_path / "t.parquet")
    whole, broken = records(tmp_path / "t.parquet")
    assert whole.pixels(SPEC).shape == (8, 8, 3)
    with pytest.raises(DataError, match=r"t\.parquet/1: the row has no image"):
        broken.pixels(SPEC)


def cut(name: str, keep: float) -> Callable[[Path], str]:
    def write(place: Path) -> str:
        source = {"tar": tar, "gz": tar_gz, "parquet": parquet, "arrow": arrow_stream}[name](place)
        data = Path(source).read_bytes()
        Path(source).write_bytes(data[: int(len(data) * keep)])
        return source

    return write


def text(name: str, content: str) -> Callable[[Path], str]:
    def write(place: Path) -> str:
        (place / name).write_text(content)
        return str(place / name)

    return write


BAD = {
    "absent": (lambda place: str(place / "no"), UsageError, "no such file or folder"),
    "absent list": (lambda place: str(place / "no.txt"), UsageError, "no such file or folder"),
    "absent URL": (lambda place: "memory://no/where.png", UsageError, "no such file or folder"),
    "nothing matches": (lambda place: f"{place}/*.png", DataError, "matches nothing"),
    "empty folder": (str, DataError, r"no image in .*name tar files"),
    "unknown store": (lambda place: "zz://a/b", SourceError, "Protocol not known"),
    "cut tar": (cut("tar", 0.5), SourceError, "not a whole tar"),
    "cut tar.gz": (cut("gz", 0.5), SourceError, "not a whole tar|cannot be read"),
    "no tar": (text("a.tar", "x" * 2000), SourceError, "not a whole tar"),
    "cut Parquet": (cut("parquet", 0.8), SourceError, "not a whole table"),
    "cut Arrow": (cut("arrow", 0.5), SourceError, "not a whole table|cannot be read"),
    "no image column": (text("a.csv", "x,y\n1,2\n"), UsageError, "expected a column path or"),
    "two columns": (text("a.csv", "url,y,path\n1,2,3\n"), UsageError, "one column .* 'url, path';"),
    "empty CSV": (text("a.csv", ""), UsageError, "expected a column path or"),
    "no path": (text("a.csv", "path,y\n,2\n"), SourceError, "line 2 names no image"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sources_are_one_line(case: str, tmp_path: Path) -> None:
    make, error, said = BAD[case]
    source = make(tmp_path)
    with pytest.raises(GspDeployError, match=said) as caught:
        records(source)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_a_list_is_a_broken_image(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no.png\nmemory://no/where.png\n")
    for record in records(tmp_path / "a.txt"):
        with pytest.raises(DataError, match="no such file"):
            record.pixels(SPEC)


def test_a_source_that_changes_is_noticed(photos) -> None:
    root = photos("a/1.png", "a/2.png")
    (piece,) = Sources([f"{root}/a"], 9)
    piece.check_unchanged()
    (root / "a" / "2.png").unlink()
    with pytest.raises(SourceError, match=r"2\.png changed during the run"):
        piece.check_unchanged()


def test_memory_does_not_grow_with_a_tar(tmp_path: Path) -> None:
    content = picture(0)
    for name, count in (("small.tar", 500), ("large.tar", 4000)):
        (tmp_path / name).write_bytes(tar_bytes({f"{k}.png": content for k in range(count)}))
    peaks = []
    for name in ("small.tar", "large.tar"):
        (piece,) = Sources([str(tmp_path / name)], 9)
        tracemalloc.start()
        assert sum(1 for _ in piece.records()) > 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A server on loopback that has the pictures, and forbids everything below `secret`."""

    class Pages(SimpleHTTPRequestHandler):
        def send_head(self):
            if self.path.startswith("/secret"):
                self.send_error(403)
                return None
            return super().send_head()

        def log_message(self, *_: object) -> None:
            pass

    pages = partial(Pages, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "list.txt", "list.csv"])
def test_a_website(name: str, website: str, tmp_path: Path) -> None:
    for make in (tar, tar_gz, text_list, csv_list):
        make(tmp_path)
    found = records(f"{website}/{name}")
    assert len(found) == COUNT
    assert found[0].id.startswith(website)
    assert found[3].pixels(SPEC).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("page", "error", "said"),
    [
        ("no.tar", UsageError, "no such file"),
        ("secret/a.tar", SourceError, "403"),
        ("secret/list.txt", SourceError, "403"),
        ("no.txt", UsageError, "no such file"),
    ],
)
def test_a_website_that_refuses(
    page: str, error: type[GspDeployError], said: str, website: str
) -> None:
    with pytest.raises(error, match=said):
        records(f"{website}/{page}")


@pytest.mark.parametrize("line", ["0.png", "0.png,"])
def test_a_line_without_an_id_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path,who\n{line}\n")
    with pytest.raises(SourceError, match="line 2 has no id"):
        records(tmp_path / "list.csv", columns=Columns(None, "who"))


def test_a_row_without_an_id_is_refused(tmp_path: Path) -> None:
    rows = arrow.table({"image": [picture(0), picture(1)], "who": ["a", None]})
    pyarrow.parquet.write_table(rows, tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="row 1 has no id"):
        records(tmp_path / "t.parquet", columns=Columns(None, "who"))
