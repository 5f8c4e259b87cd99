// Formats text and numbers. Everything that a model can emit becomes visible characters.

const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu; // controls, bidi and zero-width marks, lone surrogates, line separators
const OTHER_SPACES = /(?! )\p{Zs}/gu;
const PICTURES = { "\n": "↵", "\t": "⇥" };

function codePoint(character) {
  return `‹U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;
}

function picture(character) {
  return PICTURES[character] ?? codePoint(character);
}

/** Text on one line. Invisible characters become a symbol or their code point. */
function visible(text) {
  return text.replace(UNSEEN, picture);
}

/** The same, with visible spaces, for a single token. */
function visibleWithSpaces(text) {
  return visible(text).replace(OTHER_SPACES, codePoint).replaceAll(" ", "␣");
}

/** The same for running text: line breaks and tabs remain. */
function visibleLines(text) {
  return text.replace(UNSEEN, (character) => (/[\n\t]/.test(character) ? character : picture(character)));
}

/** A number with `digits` decimals, or a sign for a missing or infinite one. */
function decimal(value, digits = 4) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const tiny = value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits;
  return (tiny ? value.toExponential(1) : value.toFixed(digits)).replace("-", "−");
}

/** A setting or reward with no more digits than necessary. */
function short(value) {
  return value === null ? "none" : String(Number(value.toPrecision(6))).replace("-", "−");
}

/** A value in nats, as children of an element. */
function nats(value) {
  return value === null ? ["–"] : [decimal(value), element("small", "", " nats")];
}

function signed(value, digits = 4) {
  return (value > 0 ? "+" : "") + decimal(value, digits);
}

function percent(share) {
  return Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–";
}

function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** An element with a class and children. Strings become text, never markup. */
function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Fills a definition list. */
function fillList(list, entries) {
  list.replaceChildren(
    ...entries.map(([name, ...value]) => element("div", "", element("dt", "", name), element("dd", "", ...value))),
  );
}
