"""How the timeline looks: colours for light and dark, told apart by those who cannot tell red from
green (the palette of Okabe and Ito), and by pattern and word besides.
"""

from __future__ import annotations

from collections.abc import Mapping

Rules = Mapping[str, str]

_LIGHT: Rules = {
    ".back": "fill:#fff",
    ".band": "fill:#f4f4f6",
    ".during": "fill:#e9edf5",
    ".grid": "stroke:#d5d7dd",
    "text": "fill:#1b1d22",
    ".dim": "fill:#565a64",
    ".memory": "fill:#cfe3f3;stroke:#8fb4d2",
    ".durable": "fill:#0072b2",
    ".on": "fill:#fff",
    ".bad": "fill:#b23b00",
    ".hatch": "stroke:#f3b68f",
    ".hatched": "stroke:#d55e00",
    ".hatch-ground": "fill:#fde6d8",
    ".halo": "stroke:#fde6d8",
    ".ink": "fill:#1b1d22",
    ".step": "fill:#fff",
    ".s.would": "stroke:#b23b00",
    ".lingering": "fill:#9fd6c2;stroke:#00664d",
    ".gone": "fill:#ececef;stroke:#c4c6cd",
    ".sleeps": "fill:#d9dae0;stroke:#8a8e99",
    ".stands": "fill:#e8e9ee;stroke:#8a8e99",
    ".works": "fill:#8fd4bd;stroke:#00664d",
    ".call": "fill:#f6f6f9;stroke:#8a8e99",
    ".holds": "fill:#e69f00;stroke:#8f6200",
    ".own": "fill:#f7c95c;stroke:#8f6200",
    ".held": "fill:#bfe0f5;stroke:#2f86b8",
    ".waits": "fill:#ecd3e1;stroke:#a34c7c",
    ".operation": "fill:#dfe6d2;stroke:#6b7f45",
    ".dots": "fill:#74809a",
    ".line": "stroke:#3b3f4a",
    ".flag": "fill:#3b3f4a",
    ".line.bad": "stroke:#b23b00;fill:none",
    ".flag.bad": "fill:#b23b00",
    ".pin": "fill:#8c2d00",
    ".pin-text": "fill:#fff",
    ".arrow": "stroke:#5c2d8c;fill:none",
    ".head": "fill:#5c2d8c",
}

_DARK: Rules = {
    ".back": "fill:#15171c",
    ".band": "fill:#1d2027",
    ".during": "fill:#232936",
    ".grid": "stroke:#383c47",
    "text": "fill:#eceef3",
    ".dim": "fill:#b4b9c5",
    ".memory": "fill:#1d3c55;stroke:#4d7fa6",
    ".durable": "fill:#3b9bd9",
    ".on": "fill:#08131c",
    ".bad": "fill:#ff9a62",
    ".hatch": "stroke:#8a4519",
    ".hatched": "stroke:#f0803c",
    ".hatch-ground": "fill:#3d2114",
    ".halo": "stroke:#3d2114",
    ".ink": "fill:#1b1d22",
    ".step": "fill:#15171c",
    ".s.would": "stroke:#ff9a62",
    ".lingering": "fill:#0f5a46;stroke:#37b592",
    ".gone": "fill:#262932;stroke:#4a4e5a",
    ".sleeps": "fill:#3a3e49;stroke:#8a8e99",
    ".stands": "fill:#2c303a;stroke:#8a8e99",
    ".works": "fill:#0f5a46;stroke:#37b592",
    ".call": "fill:#20232b;stroke:#6c707c",
    ".holds": "fill:#d79a1a;stroke:#ffcf6b",
    ".own": "fill:#6b4a00;stroke:#e6a51f",
    ".held": "fill:#1b4964;stroke:#56b4e9",
    ".waits": "fill:#4c2a3e;stroke:#d98cb4",
    ".operation": "fill:#37422a;stroke:#9fb475",
    ".dots": "fill:#9aa5bd",
    ".line": "stroke:#c9cdd8",
    ".flag": "fill:#c9cdd8",
    ".line.bad": "stroke:#ff9a62;fill:none",
    ".flag.bad": "fill:#ff9a62",
    ".pin": "fill:#ffb38a",
    ".pin-text": "fill:#2b0d00",
    ".arrow": "stroke:#c9a2f5;fill:none",
    ".head": "fill:#c9a2f5",
}

_SHAPE: Rules = {
    "": "font:11px/1.2 system-ui,'DejaVu Sans',Verdana,sans-serif",
    "text": "dominant-baseline:middle",
    ".name": "font-size:12px;font-weight:600",
    ".dim": "font-size:10px",
    ".tick": "font-size:10px;text-anchor:middle",
    ".head-line": "font-size:15px;font-weight:700",
    ".big": "font-size:13px;font-weight:700",
    ".strong": "font-weight:700",
    ".grid": "stroke-width:1",
    ".line": "stroke-width:1.5",
    ".dashed": "stroke-dasharray:4 3",
    ".s.would": "stroke-width:1.5;stroke-dasharray:5 4;fill:none",
    ".hatch": "stroke-width:3",
    ".hatched": "stroke-width:1.5",
    ".tick.step": "font-size:8px;font-weight:700",
    ".pin-text": "font-size:10px;font-weight:700;text-anchor:middle",
    ".arrow": "stroke-width:1.8",
    ".clear": "fill:#000;fill-opacity:0",
    ".small": "font-size:10px",
    ".halo": "paint-order:stroke;stroke-width:4px;stroke-linejoin:round",
    ".l": "pointer-events:none",
    ".s": "pointer-events:none;vector-effect:non-scaling-stroke;stroke:none",
    ".m": "pointer-events:none",
}


def style(root: str) -> str:
    """The style sheet of everything inside an element of that class."""
    return (
        _sheet(root, _SHAPE)
        + _sheet(root, _LIGHT)
        + f"@media (prefers-color-scheme:dark){{{_sheet(root, _DARK)}}}"
        # paper is white whatever the screen is
        + f"@media print{{{_sheet(root, _LIGHT)}}}"
    )


def _sheet(root: str, rules: Rules) -> str:
    return "".join(
        f".{root} {selector}{{{rule}}}" if selector else f".{root}{{{rule}}}"
        for selector, rule in rules.items()
    )
