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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._files import whole_file

if TYPE_CHECKING:
    from ..records.parquet import CompletionRecord, TokenRecords

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


def write_token_view(records: "TokenRecords", path: str | Path, title: str = "Token view") -> Path:
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


def token_view_html(records: "TokenRecords", title: str = "Token view") -> str:
    """
    The page that [`write_token_view`] writes.

    Args:
        records ([`TokenRecords`]): The completions and the settings they were trained with.
        title (`str`, *optional*, defaults to `"Token view"`): Heading of the page.

    Returns:
        `str`: The HTML.

    Raises:
        ValueError: If a setting is missing, or the arrays of a completion differ in length.
    """
    folder = files(__package__) / "token_view"
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        policy=_policy(script, style),
        title=html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        style=style,
        script=script,
        blocks="\n".join(_blocks(records)),
    )


def _policy(script: str, style: str) -> str:
    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    # Trusted Types keep any script, including ours, from turning a string into markup or code
    return (
        f"default-src 'none'; script-src {source(script)}; style-src {source(style)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _blocks(records: "TokenRecords") -> Iterator[str]:
    for record in records.completions:
        _check_lengths(record)
    vocabulary = _vocabulary(records.completions)
    index = {
        "resolution": RESOLUTION,
        "settings": _settings(records.settings),
        "entropy_scale": _entropy_scale(records.completions),
        "vocabulary": {"ids": [token for token, _ in vocabulary], "pieces": [piece for _, piece in vocabulary]},
        **_describe(records.completions),
    }
    # Escaped ASCII can hold lone surrogates, UTF-8 cannot
    yield _block("index", json.dumps(index, allow_nan=False).encode("ascii"))
    for number, record in enumerate(records.completions):
        tokens = [vocabulary[key] for key in _keys(record)]
        yield _block(f"tokens-{number}", _planes(np.array(tokens, np.int32)))
        yield _block(f"values-{number}", _values(record))


def _block(name: str, data: bytes) -> str:
    packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
    return f'<script type="application/gzip+base64" id="{name}">{packed}</script>'


def _check_lengths(record: "CompletionRecord") -> None:
    for name in ("tokens", *_PER_TOKEN, *_FLAGS):
        values = getattr(record, name)
        if values is not None and len(values) != len(record.token_ids):
            raise ValueError(
                f"Completion of step {record.step}, rank {record.rank}, row {record.row} has {len(record.token_ids)} "
                f"token_ids but {len(values)} {name}; give one entry per token, without padding."
            )


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in _SETTINGS if settings.get(name) is None]
    if missing:
        raise ValueError(
            f"settings lack {', '.join(missing)}, which define clip ranges and KL weights; pass the settings of the "
            "token records."
        )
    return {name: settings[name] for name in _SETTINGS} | {"delta": settings.get("delta")}


def _keys(record: "CompletionRecord") -> Iterable[tuple[int, str]]:
    return zip(np.asarray(record.token_ids).tolist(), record.tokens, strict=True)


def _vocabulary(completions: Sequence["CompletionRecord"]) -> dict[tuple[int, str], int]:
    """Index of each token id with its piece. Frequent tokens come first, which compresses well."""
    counts = Counter(key for record in completions for key in _keys(record))
    return {key: number for number, (key, _) in enumerate(counts.most_common())}


def _values(record: "CompletionRecord") -> bytes:
    columns = [_fixed_point(values) for name in _PER_TOKEN if (values := getattr(record, name)) is not None]
    flags = sum(np.asarray(getattr(record, name), np.uint8) << bit for bit, name in enumerate(_FLAGS))
    return b"".join(_planes(column) for column in columns) + np.asarray(flags, np.uint8).tobytes()


def _fixed_point(values: ArrayLike) -> NDArray[np.int32]:
    values = np.asarray(values, np.float64)
    scaled = np.nan_to_num(np.rint(values / RESOLUTION), nan=0.0).clip(_MINUS_INFINITY + 1, _INFINITY - 1)
    scaled = np.where(np.isposinf(values), _INFINITY, np.where(np.isneginf(values), _MINUS_INFINITY, scaled))
    return np.where(np.isnan(values), _NAN, scaled).astype(np.int32)


def _planes(column: NDArray[np.int32]) -> bytes:
    """All lowest bytes, then all second bytes and so on, which gzip compresses better than whole integers."""
    return column.astype("<i4").view(np.uint8).reshape(-1, 4).T.tobytes()


def _describe(completions: Sequence["CompletionRecord"]) -> dict[str, Any]:
    """The prompts, and the data of each completion in the list."""
    prompts: dict[str, int] = {}
    members: Counter[str] = Counter()
    described: list[dict[str, Any]] = []
    for record in completions:
        described.append(
            {
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
                **_statistics(record),
                "profile": _profile(record),
            }
        )
        members[record.prompt] += 1
    highest = max((level for about in described for level in about["profile"]), default=0.0) or 1.0
    for record, about in zip(completions, described, strict=True):
        about["group"] = members[record.prompt]
        about["profile"] = [round(255 * level / highest) for level in about["profile"]]
    return {"prompts": list(prompts), "completions": described}


def _statistics(record: "CompletionRecord") -> dict[str, int | float | None]:
    mask = np.asarray(record.mask, bool)
    entropies = _counted_entropies(record)
    return {
        "length": len(mask),
        "counted": int(mask.sum()),
        "mean_entropy": float(entropies.mean(dtype=np.float64)) if len(entropies) else None,
        "reasoning_share": _finite(np.asarray(record.gate)[mask].mean(dtype=np.float64)) if mask.any() else None,
        "clipped_low": int(np.sum(record.clipped_low)),
        "clipped_high": int(np.sum(record.clipped_high)),
    }


def _counted_entropies(record: "CompletionRecord") -> NDArray[np.float32]:
    entropies = np.asarray(record.entropies, np.float32)
    return entropies[np.asarray(record.mask, bool) & np.isfinite(entropies)]


def _profile(record: "CompletionRecord") -> list[float]:
    """Mean entropy along the completion, in bins."""
    entropies = np.asarray(record.entropies, np.float32)
    known = np.where(np.asarray(record.mask, bool) & np.isfinite(entropies), entropies, 0.0)
    bins = np.array_split(known, min(_PROFILE_BINS, len(known))) if len(known) else []
    return [max(0.0, float(part.mean())) for part in bins]


def _entropy_scale(completions: Sequence["CompletionRecord"]) -> float:
    """Upper end of the color scale in nats: the 99th percentile, rounded up to two digits."""
    entropies = [values for record in completions if len(values := _counted_entropies(record))]
    highest = float(np.quantile(np.concatenate(entropies), 0.99)) if entropies else 0.0
    if highest <= RESOLUTION:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(highest)) - 1)
    return math.ceil(highest / step - 1e-9) * step


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
