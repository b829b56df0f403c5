"""The model of a GPU in Dynamo's spelling (`h100_sxm`). Pure. What cannot be told for sure is None, never a guess."""

import re

BY_DEVICE_ID = {
    0x2330: "h100_sxm",
    0x2331: "h100_pcie",
    0x2321: "h100_pcie",  # H100 NVL: two PCIe cards with a bridge
    0x2335: "h200_sxm",
    0x20B0: "a100_sxm",
    0x20B2: "a100_sxm",
    0x20B3: "a100_sxm",
    0x20B1: "a100_pcie",
    0x20F1: "a100_pcie",
    0x20B5: "a100_pcie",
    0x20B7: "a30",
    0x26B5: "l40",
    0x26B9: "l40s",
    0x27B8: "l4",
    0x1DB1: "v100_sxm",
    0x1DB5: "v100_sxm",
    0x1DB8: "v100_sxm",
    0x1DF5: "v100_sxm",
    0x1DB4: "v100_pcie",
    0x1DB6: "v100_pcie",
    0x1DF6: "v100_pcie",
    0x1EB8: "t4",
}
UNLISTED = frozenset({0x2342, 0x2343, 0x2345, 0x2348})
"""GH200: Dynamo has no name for it."""

ONE_FORM = {
    "GB200": "gb200_sxm",
    "B200": "b200_sxm",
    "GB10": "gb10",
    "A30": "a30",
    "L40S": "l40s",
    "L40": "l40",
    "L4": "l4",
    "T4": "t4",
}
"""Words of a name that say all."""
TWO_FORMS = ("H200", "H100", "A100", "V100")
"""Made as SXM module and as PCIe card, which the name may leave open."""
PCIE_FORMS = frozenset({"h100_pcie", "a100_pcie", "v100_pcie"})
SXM_WORD = re.compile(r"SXM\d*|HGX|DGX")
PCIE_WORDS = frozenset({"PCIE", "NVL"})
SXM_NVLINKS = 12
"""A module has at least this many; bridged cards have fewer. V100 modules have 6."""
V100_SXM_NVLINKS = 6

KNOWN = tuple(sorted({*BY_DEVICE_ID.values(), *ONE_FORM.values(), *(f"{name.lower()}_sxm" for name in TWO_FORMS)}))
"""Every SKU that can be found."""


def find_sku(device_id: int | None, name: str, nvlinks: int | None) -> str | None:
    """By PCI device id, else by whole words of the name, else by its NVLinks; None when all of them leave it open."""
    if device_id in UNLISTED:
        return None
    if device_id is not None and device_id in BY_DEVICE_ID:
        return BY_DEVICE_ID[device_id]
    words = re.split(r"[\s_-]+", name.upper())
    for word, sku in ONE_FORM.items():
        if word in words:
            return sku
    for word in TWO_FORMS:
        if word in words:
            return _form(word.lower(), words, nvlinks)
    return None


def _form(model: str, words: list[str], nvlinks: int | None) -> str | None:
    if any(SXM_WORD.fullmatch(word) for word in words):
        return f"{model}_sxm"
    card = f"{model}_pcie"
    if PCIE_WORDS.intersection(words):
        return card if card in PCIE_FORMS else None
    least = V100_SXM_NVLINKS if model == "v100" else SXM_NVLINKS
    return f"{model}_sxm" if nvlinks is not None and nvlinks >= least else None
