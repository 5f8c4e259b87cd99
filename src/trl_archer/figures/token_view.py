"""
The token view: recorded completions as one HTML file. Each token is shaded by its entropy and marked by its role.

The file contains code and style (both from the folder `token_view`) and data, and loads nothing: a content security
policy allows one script and one style sheet, by hash. Text from a model is in data blocks (JSON or arrays, gzip,
base64). The script turns it into text nodes, never into markup.
"""

import base64
import gzip
import hashlib
import html
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import whole_file
from ..records.parquet import CompletionRecord, TokenRecords, check_lengths

# In order of dependency; the page runs them as one module.
_SCRIPTS = (
    *("data.js", "text.js", "virtual_rows.js", "layout.js", "scale.js", "pane.js", "card.js"),
    *("search.js", "list.js", "main.js"),
)
_PER_TOKEN = ("entropies", "per_token_logps", "old_per_token_logps", "gate", "ref_per_token_logps")
_FLAGS = ("mask", "clipped_low", "clipped_high")
_SETTINGS = ("knowledge", "reasoning", "entropy_quantile", "gate_width")

RESOLUTION = 1e-6  # of stored values, in nats: float32 log-probabilities are not finer
_NAN, _MINUS_INFINITY, _INFINITY = -(2**31), -(2**31) + 1, 2**31 - 1
_PROFILE_BINS = 72
_PREVIEW = 80  # characters


def write_token_view(records: TokenRecords, path: str | Path, title: str = "Token view") -> Path:
    """
    Writes recorded completions as one self-contained HTML file for any browser from 2023 or later, offline.

    The same records give the same bytes. A file has about 15 bytes per token if values differ from token to token.

    Args:
        records ([`TokenRecords`]): The completions and the settings they were trained with.
        path (`str` or `Path`): The file. It is written atomically and replaces an existing file.
        title (`str`, *optional*, defaults to `"Token view"`): Heading of the page.

    Returns:
        `Path`: The file.

    Raises:
        ValueError: If a setting is missing, or the arrays of a completion differ in length.
    """
    path = Path(path)
    page = token_view_html(records, title)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path


def token_view_html(records: TokenRecords, title: str = "Token view") -> str:
    """The page that [`write_token_view`] writes."""
    folder = files(__package__) / "token_view"
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    # Trusted Types keep any script, including ours, from turning a string into markup or code
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        policy=policy,
        title=html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        style=style,
        script=script,
        blocks="\n".join(_blocks(records)),
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _blocks(records: TokenRecords) -> Iterator[str]:
    completions = records.completions
    for record in completions:
        check_lengths(record)
    # Token ids with their pieces. Frequent tokens come first, which compresses well
    keys = [list(zip(record.token_ids.tolist(), record.tokens, strict=True)) for record in completions]
    vocabulary = [key for key, _ in Counter(key for row in keys for key in row).most_common()]
    index = {
        "resolution": RESOLUTION,
        "settings": _settings(records.settings),
        "entropy_scale": _entropy_scale(completions),
        "vocabulary": {"ids": [token for token, _ in vocabulary], "pieces": [piece for _, piece in vocabulary]},
        **_describe(completions),
    }
    # Escaped ASCII can hold lone surrogates, UTF-8 cannot
    yield _block("index", json.dumps(index, allow_nan=False).encode("ascii"))
    places = {key: place for place, key in enumerate(vocabulary)}
    for number, record in enumerate(completions):
        yield _block(f"tokens-{number}", _planes(np.array([places[key] for key in keys[number]], np.int32)))
        yield _block(f"values-{number}", _values(record))


def _block(name: str, data: bytes) -> str:
    packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
    return f'<script type="application/gzip+base64" id="{name}">{packed}</script>'


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in _SETTINGS if settings.get(name) is None]
    if missing:
        raise ValueError(
            f"settings lack {', '.join(missing)}, which define clip ranges and KL weights; pass the settings of the "
            "token records."
        )
    return {name: settings[name] for name in _SETTINGS} | {"delta": settings.get("delta")}


def _values(record: CompletionRecord) -> bytes:
    columns = [_fixed_point(values) for name in _PER_TOKEN if (values := getattr(record, name)) is not None]
    flags = np.array([getattr(record, name) for name in _FLAGS])
    return b"".join(map(_planes, columns)) + np.packbits(flags, axis=0, bitorder="little").tobytes()


def _fixed_point(values: NDArray[np.float32]) -> NDArray[np.int32]:
    scaled = np.rint(values.astype(np.float64) / RESOLUTION)
    finite = scaled.clip(_MINUS_INFINITY + 1, _INFINITY - 1)
    kinds = [np.isnan(values), np.isposinf(values), np.isneginf(values)]
    return np.select(kinds, [_NAN, _INFINITY, _MINUS_INFINITY], finite).astype(np.int32)


def _planes(column: NDArray[np.int32]) -> bytes:
    """All lowest bytes, then all second bytes and so on, which gzip compresses better than whole integers."""
    return column.astype("<i4").view(np.uint8).reshape(-1, 4).T.tobytes()


def _describe(completions: Sequence[CompletionRecord]) -> dict[str, Any]:
    """The prompts, and the data of each completion in the list."""
    prompts: dict[str, int] = {}
    members: Counter[str] = Counter()
    described: list[dict[str, Any]] = []
    for record in completions:
        known = _known(record)
        about: dict[str, Any] = {
            "step": int(record.step),
            "rank": int(record.rank),
            "row": int(record.row),
            "prompt": prompts.setdefault(record.prompt, len(prompts)),
            "member": members[record.prompt],
            "reward": _finite(record.reward),
            "advantage": _finite(record.advantage),
            "entropy_threshold": _finite(record.entropy_threshold),
            "has_reference": record.ref_per_token_logps is not None,
            "preview": "".join(record.tokens[:_PREVIEW])[:_PREVIEW],
            "length": len(record.mask),
            "counted": int(record.mask.sum()),
            "mean_entropy": _mean(record.entropies[known]),
            "reasoning_share": _mean(record.gate[record.mask]),
            "clipped_low": int(record.clipped_low.sum()),
            "clipped_high": int(record.clipped_high.sum()),
            "profile": _profile(np.where(known, record.entropies, 0.0)),
        }
        described.append(about)
        members[record.prompt] += 1
    highest = max((level for about in described for level in about["profile"]), default=0.0) or 1.0
    for record, about in zip(completions, described, strict=True):
        about["group"] = members[record.prompt]
        about["profile"] = [round(255 * level / highest) for level in about["profile"]]
    return {"prompts": list(prompts), "completions": described}


def _known(record: CompletionRecord) -> NDArray[np.bool_]:
    """Tokens in the loss that have an entropy."""
    return record.mask & np.isfinite(record.entropies)


def _profile(entropies: NDArray[np.float32]) -> list[float]:
    """Mean entropy along the completion, in bins."""
    bins = np.array_split(entropies, min(_PROFILE_BINS, len(entropies))) if len(entropies) else []
    return [max(0.0, float(part.mean())) for part in bins]


def _entropy_scale(completions: Sequence[CompletionRecord]) -> float:
    """Upper end of the color scale in nats: the 99th percentile, rounded up to two digits."""
    entropies = np.concatenate([np.empty(0, np.float32), *(record.entropies[_known(record)] for record in completions)])
    highest = float(np.quantile(entropies, 0.99)) if len(entropies) else 0.0
    if highest <= RESOLUTION:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(highest)) - 1)
    return math.ceil(highest / step - 1e-9) * step


def _mean(values: NDArray[np.float32]) -> float | None:
    return _finite(values.mean(dtype=np.float64)) if len(values) else None


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
