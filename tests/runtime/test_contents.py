"""Content files: whole or not there, in a folder and in memory alike."""

from __future__ import annotations

import errno
import os
import zlib

import numpy as np
import pytest

from umbel.dialogue import ndarrays_to_parameters
from umbel.errors import ContentDamaged, StoreError, StoreUnavailable
from umbel.params import Params
from umbel.runtime.contents import BLOCK, FileContents, as_parameters, write_content
from umbel.runtime.interactive import one_line
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.transports.simulated.shared import SharedContents


@pytest.fixture(params=["files", "durable files", "memory", "shared"])
def contents(request, tmp_path):
    match request.param:
        case "files":
            return FileContents(tmp_path / "contents")
        case "durable files":
            return FileContents(tmp_path / "contents", power=True)
        case "shared":
            return SharedContents()
        case _:
            return MemoryContents()


MODEL = Params.of({"w": np.arange(6, dtype="float32").reshape(2, 3), "n": np.int64(7)})


def write(contents, name="model", params=MODEL):
    write_content(contents, name, params.schema, iter([params.buffer.data]))


def test_what_is_written_is_a_safetensors_file(contents):
    write(contents)
    content = contents.open("model")
    assert content.read(0, content.size) == MODEL.to_bytes()
    assert content.schema == MODEL.schema
    assert content.crc32 == zlib.crc32(MODEL.to_bytes())
    content.close()


def test_a_writer_has_the_sum_of_what_is_written_so_far(contents):
    writer = contents.create("model")
    for number, part in enumerate((b"a", bytes(2**20), b"", b"bc")):
        writer.write(part)
        assert writer.crc32 == zlib.crc32(b"".join((b"a", bytes(2**20), b"", b"bc")[: number + 1]))
    writer.abort()


def test_it_is_read_at_random_and_in_blocks(contents):
    large = Params.of([np.arange(BLOCK // 2, dtype="uint32")])
    write(contents, "large", large)
    content = contents.open("large")
    assert content.read(content.data_begin + 4 * 1000, 4) == (1000).to_bytes(4, "little")
    assert b"".join(bytes(view) for view in content.blocks(content.data_begin)) == large.buffer.tobytes()
    assert list(content.blocks(content.size)) == []
    out = bytearray(8)
    content.source(8, memoryview(out))
    assert np.frombuffer(out, "uint32").tolist() == [2, 3]


def test_parameters_read_it_when_somebody_asks(contents):
    write(contents)
    parameters = as_parameters(contents.open("model"))
    assert [a.tolist() for a in parameters.arrays()] == [[[0, 1, 2], [3, 4, 5]], 7]
    schema, source = as_parameters(contents.open("model")).reader()
    out = bytearray(8)
    source(0, memoryview(out))
    assert schema == MODEL.schema
    assert int.from_bytes(out, "little") == 7


def test_any_parameters_can_be_written(contents):
    write_content(contents, "own", *ndarrays_to_parameters([np.ones(3)]).stream())
    assert as_parameters(contents.open("own")).arrays()[0].tolist() == [1, 1, 1]


def test_nothing_can_be_opened_before_it_is_complete(contents):
    writer = contents.create("model")
    writer.write(b"half of ")
    with pytest.raises(StoreError, match="'model' is missing"):
        contents.open("model")
    writer.write(memoryview(b"it"))
    writer.commit()
    assert contents.open("model").read(0, 10) == b"half of it"


def test_an_aborted_content_leaves_nothing(contents):
    writer = contents.create("model")
    writer.write(b"half")
    writer.abort()
    with pytest.raises(StoreError):
        contents.open("model")
    if isinstance(contents, FileContents):
        assert list(contents.folder.iterdir()) == []


def test_blocks_that_fail_half_way_leave_nothing(contents):
    def blocks():
        yield MODEL.buffer.data[:8]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_content(contents, "model", MODEL.schema, blocks())
    with pytest.raises(StoreError):
        contents.open("model")
    if isinstance(contents, FileContents):
        assert list(contents.folder.iterdir()) == []


def test_a_content_can_have_a_second_name_and_be_removed(contents):
    write(contents, "reply")
    for _ in range(2):  # who dies after the first may ask again
        contents.link("reply", "model-000000")
    contents.remove("reply")
    assert contents.open("model-000000").schema == MODEL.schema
    contents.remove("model-000000")
    contents.remove("model-000000")
    for name in ("reply", "model-000000"):
        with pytest.raises(StoreError):
            contents.open(name)
    if isinstance(contents, FileContents):
        assert list(contents.folder.iterdir()) == []


def test_a_content_that_is_linked_where_there_are_no_links_is_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    contents = FileContents(tmp_path)
    write(contents, "reply")
    contents.link("reply", "model")
    assert contents.open("model").read(0, 8) == contents.open("reply").read(0, 8)


def test_an_open_content_can_be_read_after_it_was_removed(contents):
    write(contents)
    content = contents.open("model")
    contents.remove("model")
    assert content.read(0, content.size) == MODEL.to_bytes()


def test_a_cleaned_place_keeps_what_it_is_told_and_no_half_written_file(contents):
    for name in ("a", "b", "c"):
        write(contents, name)
    contents.create("d").write(b"half")
    contents.keep_only({"b", "unknown"})
    assert contents.open("b").schema == MODEL.schema
    for name in ("a", "c", "d"):
        with pytest.raises(StoreError):
            contents.open(name)
    if isinstance(contents, FileContents):
        assert [path.name for path in contents.folder.iterdir()] == ["b.safetensors"]


def test_other_files_in_the_folder_are_nobody_s_business(tmp_path):
    contents = FileContents(tmp_path)
    (tmp_path / "lock").touch()
    contents.keep_only([])
    assert (tmp_path / "lock").exists()


def test_a_file_that_became_shorter_is_an_error_and_not_zeros(tmp_path):
    contents = FileContents(tmp_path)
    write(contents)
    content = contents.open("model")
    (tmp_path / "model.safetensors").write_bytes(MODEL.to_bytes()[:-1])
    with pytest.raises(ContentDamaged, match="ends at byte"):
        content.read(0, content.size)
    with pytest.raises(ContentDamaged, match=r"model.safetensors is damaged: it has 151 bytes, 152 were written"):
        contents.open("model")


def flipped(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    changed = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(changed, changed + 10**6))  # the clock of a file system ticks every few milliseconds


@pytest.mark.parametrize("offset", [0, 7, 8, 30, 63, 64, 100, -1])
def test_a_bit_that_flips_anywhere_is_found_by_this_process_and_by_the_next(tmp_path, offset):
    first = FileContents(tmp_path)
    write(first)
    sums = {"model": first.sums.get("model")}
    flipped(tmp_path / "model.safetensors", offset)
    later = FileContents(tmp_path)
    later.sums.expect(sums, {})
    for contents in (first, later):
        with pytest.raises(ContentDamaged, match="is damaged: its 152 bytes are not those that were written"):
            contents.open("model")
    flipped(tmp_path / "model.safetensors", offset)
    for contents in (first, later):
        assert contents.open("model").read(0, 152) == MODEL.to_bytes()


DAMAGE = {
    "gone": (lambda path: path.unlink(), "is gone"),
    "empty": (lambda path: path.write_bytes(b""), "it has 0 bytes, 152 were written"),
    "zeros": (lambda path: path.write_bytes(bytes(152)), "its 152 bytes are not those that were written"),
    "longer": (lambda path: path.write_bytes(MODEL.to_bytes() + b"\0"), "it has 153 bytes, 152 were written"),
    "another version": (
        lambda path: path.write_bytes(Params.of([a + 1 for a in MODEL.arrays()]).to_bytes()),
        "its 152 bytes are not those that were written",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_not_what_was_written_cannot_be_opened(tmp_path, damage, words):
    contents = FileContents(tmp_path)
    write(contents)
    damage(tmp_path / "model.safetensors")
    if (tmp_path / "model.safetensors").exists():
        os.utime(tmp_path / "model.safetensors", ns=(0, 0))
    with pytest.raises(ContentDamaged, match=words):
        contents.open("model")
    write(contents)  # made anew
    assert contents.open("model").schema == MODEL.schema


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 200, MODEL.to_bytes()[:-1], bytes(152)])
def test_where_no_sum_was_kept_what_has_no_form_is_found(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ContentDamaged, match=r"model.safetensors is damaged"):
        FileContents(tmp_path).open("model")
    (tmp_path / "model.safetensors").write_bytes(MODEL.to_bytes())
    assert FileContents(tmp_path).open("model").schema == MODEL.schema


def test_a_linked_file_does_not_inherit_the_checksum_of_another(tmp_path):
    contents = FileContents(tmp_path)
    write(contents, "model")
    write(contents, "reply", Params.of([np.zeros(1)]))
    contents.link("reply", "model")
    assert contents.open("model").crc32 == zlib.crc32(Params.of([np.zeros(1)]).to_bytes())


def test_a_process_that_has_no_file_left_is_told_to_try_again(tmp_path):
    resource = pytest.importorskip("resource")
    contents = FileContents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the next file would have its number
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"cannot write model in .*: Too many open files"):
            write(contents)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    write(contents)


def test_a_store_that_is_gone_ends_a_script_with_one_line_without_numbers_of_errors():
    with pytest.raises(SystemExit, match=r"^umbel: cannot write x in runs: No such file or directory$"), one_line():
        raise StoreError(errno.ENOENT, "cannot write x in runs: No such file or directory")
