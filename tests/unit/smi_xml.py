"""The XML of nvidia-smi -q -x, as short as it can be: what the captures do not show."""

from __future__ import annotations

UUIDS = tuple(f"GPU-{n}1111111-2222-3333-4444-555555555555" for n in range(8))
ADDRESSES = tuple(f"0000:{bus}:00.0" for bus in ("18", "2a", "3a", "5d", "84", "91", "e4", "f5"))


def gpu(number: int, fields: str = "", uuid: str | None = None) -> str:
    """A GPU at ADDRESSES[number]."""
    name = UUIDS[number] if uuid is None else uuid
    return (
        f'<gpu id="0000{ADDRESSES[number].upper()}"><product_name>NVIDIA H100 80GB HBM3</product_name>'
        f"<product_architecture>Hopper</product_architecture><uuid>{name}</uuid>{fields}</gpu>"
    )


def log(*gpus: str, driver: str = "590.48.01", cuda: str = "13.1") -> str:
    """The document with its prolog."""
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n<nvidia_smi_log>\n'
        f"<driver_version>{driver}</driver_version><cuda_version>{cuda}</cuda_version>\n"
        + "\n".join(gpus)
        + "\n</nvidia_smi_log>\n"
    )


def host(count: int = 8, **fields: str) -> str:
    """A host with so many GPUs; `fields` is further XML by number, ``_2``."""
    return log(*(gpu(n, fields.get(f"_{n}", "")) for n in range(count)))
