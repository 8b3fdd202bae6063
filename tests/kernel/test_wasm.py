"""The same source, compiled for wasm32 and run by another runtime, reads the same blocks to the same digests.

It is what a browser will run: no files, no threads, no libc. Python drives it here through `wasmtime`, over the very
ABI that ctypes uses natively; only addresses mean offsets in the module's own memory.
"""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from ecsnet._kernel import abi
from ecsnet._kernel.catalogue import describe
from ecsnet.schema.model import Schema
from tests.kernel import golden


class Wasm:
    """A kernel in its own linear memory."""

    def __init__(self, module: Path) -> None:
        self.store = wasmtime.Store()
        compiled = wasmtime.Module.from_file(self.store.engine, str(module))
        self.exports = wasmtime.Instance(self.store, compiled, []).exports(self.store)
        self.memory = self.exports["memory"]

    def call(self, name: str, *arguments: int) -> Any:
        return self.exports[name](self.store, *arguments)

    def put(self, content: bytes) -> int:
        """Copy bytes into the module's memory. Returns where they are."""
        address: int = self.call("ecs_memory_take", max(1, len(content)))
        assert address != 0
        self.memory.write(self.store, content, address)
        return address

    def get(self, address: int, length: int) -> bytes:
        return bytes(self.memory.read(self.store, address, address + length))

    def put_catalogue(self, of: Schema) -> int:
        """The native description, with everything it points to copied over and its addresses changed to match."""
        native, keep = describe(of, 10_000)
        tables = []
        for index in range(native.table_count):
            table = abi.TableIn.from_address(native.tables + index * ctypes.sizeof(abi.TableIn))
            fields = b""
            for number in range(table.field_count):
                field = abi.FieldIn.from_address(table.fields + number * ctypes.sizeof(abi.FieldIn))
                if field.enum_count:
                    field.enum_values = self.put(ctypes.string_at(field.enum_values, 8 * field.enum_count))
                if field.flags & abi.DEFAULT:
                    width = of.tables[index].fields[number].width
                    field.default = self.put(ctypes.string_at(field.default, width))
                fields += bytes(field)
            table.fields = self.put(fields)
            assert table.unique_count == 0, "what the golden schema would need copied too"
            tables.append(bytes(table))
        del keep
        catalogue = abi.CatalogueIn(self.put(b"".join(tables)), native.table_count, native.entities_max)
        return self.put(bytes(catalogue))


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel compiled for wasm32 by the same compiler as the native one."""
    folder = tmp_path_factory.mktemp("wasm")
    cache = golden.ROOT / ".zig-cache"
    command = [sys.executable, "-m", "ziglang", "build", "wasm", "--prefix", str(folder)]
    command += ["--cache-dir", str(cache), "--global-cache-dir", str(cache / "global")]
    subprocess.run(command, cwd=golden.ROOT / "kernel" / "zig", check=True)
    return folder / "bin" / "ecsnet.wasm"


def test_the_wasm_build_reads_the_golden_blocks_to_the_native_digests(module: Path) -> None:
    wasm = Wasm(module)
    handle = wasm.put(bytes(4))
    assert wasm.call("ecs_store_create", wasm.put_catalogue(golden.schema()), handle) == 0
    store = int.from_bytes(wasm.get(handle, 4), "little")
    out = wasm.put(bytes(16))
    assert wasm.call("ecs_baton_take", store) == 0
    assert wasm.call("ecs_publish", store, 0, 1, out, out) == 1
    wasm.call("ecs_baton_give", store)

    for entry in golden.read()["blocks"]:
        block = bytes.fromhex(entry["block"])
        described = wasm.put(bytes(abi.BlockIn(wasm.put(block), len(block))))
        assert wasm.call("ecs_apply", store, entry["base"], entry["version"], 0, described, 1) == 1
        slot = wasm.call("ecs_view_acquire", store)
        wasm.call("ecs_view_digest", store, slot, out)
        wasm.call("ecs_view_release", store, slot)
        assert wasm.get(out, 16).hex() == entry["digest"]


def test_the_wasm_build_has_the_native_layouts(module: Path) -> None:
    wasm = Wasm(module)
    length = wasm.put(bytes(8))
    address = wasm.call("ecs_manifest", length)
    manifest = wasm.get(address, int.from_bytes(wasm.get(length, 8), "little")).decode()
    assert sorted(manifest.splitlines()) == sorted(abi.expected_manifest().splitlines())
