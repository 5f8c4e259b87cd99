// Breaks a completion into lines. The script measures the text itself. Every line then has a known position, and only
// visible lines need elements.

/** Measures the width of text in one font, in CSS pixels. Widths are cached. */
function widthMeter(font) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = font;
  const widths = new Map();
  return (text) => {
    let width = widths.get(text);
    if (width === undefined) {
      width = context.measureText(text).width;
      widths.set(text, width);
    }
    return width;
  };
}

/** Splits text into parts that are at most `limit` wide. */
function cutToWidth(text, limit, meter) {
  const parts = [];
  let part = "";
  let width = 0;
  for (const character of text) {
    const advance = meter(character);
    if (part && width + advance > limit) {
      parts.push(part);
      part = "";
      width = 0;
    }
    part += character;
    width += advance;
  }
  parts.push(part);
  return parts;
}

/** Parts of tokens. A token has several parts if it contains line breaks or is wider than a line. */
function segmentsOf(pieces, limit, meter) {
  const segments = [];
  pieces.forEach((piece, token) => {
    const first = segments.length;
    for (const line of piece.split(/(?<=\n)/)) {
      const text = visible(line) || "∅"; // a token may decode to an empty string
      const parts = meter(text) > limit ? cutToWidth(text, limit, meter) : [text];
      for (const part of parts) {
        segments.push({ token, text: part, width: meter(part), wordStart: false, lineEnd: false });
      }
      segments.at(-1).lineEnd = line.endsWith("\n");
    }
    segments[first].wordStart = /^\s/.test(piece) || /\s$/.test(pieces[token - 1] ?? "");
  });
  return segments;
}

/**
 * Breaks a completion into lines: greedily, and before words where possible.
 *
 * @returns lines (arrays of segments with their `left` edge in pixels) and the first line of each token
 */
function layOut(pieces, limit, meter) {
  const segments = segmentsOf(pieces, limit, meter);
  const lines = [];
  let start = 0;
  while (start < segments.length) {
    let end = start;
    let width = 0;
    let lastWord = 0;
    while (end < segments.length && (end === start || width + segments[end].width <= limit)) {
      if (segments[end].wordStart && end > start) lastWord = end;
      segments[end].left = width;
      width += segments[end].width;
      end += 1;
      if (segments[end - 1].lineEnd) break;
    }
    const full = end < segments.length && !segments[end - 1].lineEnd;
    if (full && !segments[end].wordStart && lastWord > start) end = lastWord;
    lines.push(segments.slice(start, end));
    start = end;
  }
  const lineOf = new Int32Array(pieces.length);
  for (let line = lines.length - 1; line >= 0; line--) {
    for (let i = lines[line].length - 1; i >= 0; i--) lineOf[lines[line][i].token] = line;
  }
  return { lines, lineOf };
}
