"""Table of element types with the name of each in every library.

The table contains only strings and numbers, so this module imports none of those libraries, not
even numpy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Element:
    """One element type and its name in each library.

    Attributes:
        name: torch's and numpy's name; manifests use it.
        storage: the numpy type that holds its bits.
        array_interface: its type string in `__cuda_array_interface__`.
        onnx: the member of `onnx.TensorProto` and of `onnx_ir.DataType`.
        tensorrt: the member of `tensorrt.DataType`.
        kserve: the name in the KServe protocol; Triton's `config.pbtxt` puts `TYPE_` before it.
        inspector: its names in the reports of TensorRT's engine inspector, in capitals.
        dlpack: DLPack's type code and number of bits.
    """

    name: str
    storage: str
    array_interface: str
    onnx: str
    tensorrt: str
    kserve: str
    inspector: tuple[str, ...]
    dlpack: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return self.dlpack[1] // 8

    @property
    def onnxruntime(self) -> str:
        """The name in ONNX Runtime and in ONNX's operator schemas, such as `tensor(float16)`."""
        return f"tensor({self.onnx.lower()})"

    @property
    def in_numpy(self) -> bool:
        """Whether numpy computes in it; numpy only stores bfloat16, as its bits."""
        return self.storage == self.name


# DLPack's type codes.
_I, _U, _F, _BF, _B = 0, 1, 2, 4, 6

# fmt: off
_ROWS = (
    #       name        storage    interf. onnx       TensorRT KServe inspector           DLPack
    Element("float32",  "float32", "<f4", "FLOAT",    "FLOAT", "FP32", ("FP32", "FLOAT"), (_F, 32)),
    Element("float16",  "float16", "<f2", "FLOAT16",  "HALF",  "FP16", ("FP16", "HALF"),  (_F, 16)),
    Element("bfloat16", "uint16", "<V2", "BFLOAT16", "BF16", "BF16", ("BF16", "BFLOAT"), (_BF, 16)),
    Element("uint8",    "uint8",   "|u1", "UINT8",    "UINT8", "UINT8", ("UINT8",),       (_U, 8)),
    Element("int8",     "int8",    "|i1", "INT8",     "INT8",  "INT8",  ("INT8",),        (_I, 8)),
    Element("int32",    "int32",   "<i4", "INT32",    "INT32", "INT32", ("INT32",),       (_I, 32)),
    Element("int64",    "int64",   "<i8", "INT64",    "INT64", "INT64", ("INT64",),       (_I, 64)),
    Element("bool",     "bool",    "|b1", "BOOL",     "BOOL",  "BOOL",  ("BOOL",),        (_B, 8)),
)
# fmt: on

ELEMENTS = {row.name: row for row in _ROWS}
# Types that a model may take and return; the others occur only inside networks.
END_ELEMENTS = _ROWS[:4]
BY_TENSORRT = {row.tensorrt: row for row in _ROWS}
BY_ONNXRUNTIME = {row.onnxruntime: row for row in _ROWS}
