// Reading the data blocks of the page. Everything that a model wrote is in them, packed: gzip, then base64.

const NANS = -(2 ** 31);
const MINUS_INFINITY = NANS + 1;
const INFINITY = 2 ** 31 - 1;

/** Lets the page draw and answer before going on. */
function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** The element of a data block, once the browser has read all of it: the page starts before the file has ended. */
async function findBlock(id) {
  for (;;) {
    const node = document.getElementById(id);
    if (node?.nextSibling || (node && document.readyState !== "loading")) return node;
    if (document.readyState !== "loading") {
      throw new Error(`the data block ${id} is missing; was the file copied whole?`);
    }
    await breathe();
  }
}

/** Unpacks the data block with this id. */
async function readBlock(id) {
  const packed = atob((await findBlock(id)).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function readJson(id) {
  return JSON.parse(new TextDecoder().decode(await readBlock(id)));
}

/** Column `index` of `length` 32-bit integers, of which the block holds all first bytes, then all second ones, ... */
function readColumn(bytes, index, length) {
  const column = new Int32Array(length);
  for (let plane = 0; plane < 4; plane++) {
    const start = (4 * index + plane) * length;
    for (let i = 0; i < length; i++) column[i] |= bytes[start + i] << (8 * plane);
  }
  return column;
}

/** Fixed-point numbers as numbers. */
function fromFixedPoint(column, resolution) {
  return Float64Array.from(column, (value) => {
    if (value === NANS) return NaN;
    if (value === MINUS_INFINITY) return -Infinity;
    if (value === INFINITY) return Infinity;
    return value * resolution;
  });
}

/** All completions of the page; what is known of each without unpacking it is in `completions`. */
class Records {
  static async read() {
    return new Records(await readJson("index"));
  }

  constructor(index) {
    Object.assign(this, index); // settings, resolution, entropy_scale, prompts, vocabulary, completions
    this.texts = new Map();
    this.unpacked = new Map();
  }

  async readTokens(number) {
    return readColumn(await readBlock(`tokens-${number}`), 0, this.completions[number].length);
  }

  /** Text of a completion, kept: a search reads all of them. */
  async text(number) {
    if (!this.texts.has(number)) {
      const pieces = this.vocabulary.pieces;
      this.texts.set(number, Array.from(await this.readTokens(number), (token) => pieces[token]).join(""));
    }
    return this.texts.get(number);
  }

  /** Tokens and values of a completion. The last few are kept. */
  async completion(number) {
    if (!this.unpacked.has(number)) {
      const [tokens, bytes] = await Promise.all([this.readTokens(number), readBlock(`values-${number}`)]);
      this.unpacked.set(number, new Completion(this, number, tokens, bytes));
      if (this.unpacked.size > 8) this.unpacked.delete(this.unpacked.keys().next().value);
    }
    return this.unpacked.get(number);
  }
}

/** One completion: its tokens and, for each, the values that the loss saw. */
class Completion {
  constructor(records, number, tokens, bytes) {
    this.records = records;
    this.number = number;
    this.about = records.completions[number];
    this.length = tokens.length;
    this.prompt = records.prompts[this.about.prompt];
    this.ids = Array.from(tokens, (token) => records.vocabulary.ids[token]);
    this.pieces = Array.from(tokens, (token) => records.vocabulary.pieces[token]);

    const names = ["entropies", "logps", "oldLogps", "gate"];
    if (this.about.has_reference) names.push("refLogps");
    this.refLogps = null;
    names.forEach((name, index) => {
      this[name] = fromFixedPoint(readColumn(bytes, index, this.length), records.resolution);
    });
    this.flags = bytes.subarray(4 * names.length * this.length);
    this.ordered = Float64Array.from(this.entropies.filter((entropy, i) => this.ranked(i))).sort();
  }

  counted(i) {
    return (this.flags[i] & 1) !== 0;
  }

  clippedLow(i) {
    return (this.flags[i] & 2) !== 0;
  }

  clippedHigh(i) {
    return (this.flags[i] & 4) !== 0;
  }

  clipped(i) {
    return (this.flags[i] & 6) !== 0;
  }

  reasoning(i) {
    return this.counted(i) && this.gate[i] >= 0.5;
  }

  ranked(i) {
    return this.counted(i) && Number.isFinite(this.entropies[i]);
  }

  /** 1 for the highest entropy of the response; equal entropies share the better rank. */
  rank(i) {
    let low = 0;
    let high = this.ordered.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ordered[middle] <= this.entropies[i]) low = middle + 1;
      else high = middle;
    }
    return this.ordered.length - low + 1;
  }

  ratio(i) {
    return Math.exp(this.logps[i] - this.oldLogps[i]);
  }

  /** The clip range of token `i`, in ratio units. */
  range(i) {
    const s = this.records.settings;
    return [
      1 - interpolate(this.gate[i], s.epsilon, s.epsilon_reasoning),
      1 + interpolate(this.gate[i], s.epsilon_high, s.epsilon_reasoning_high),
    ];
  }

  klWeight(i) {
    const { beta, beta_reasoning } = this.records.settings;
    return interpolate(this.gate[i], beta, beta_reasoning);
  }

  /** Estimate (k3) of the KL divergence from the reference, in nats, without its weight. */
  kl(i) {
    if (this.refLogps === null) return NaN;
    const difference = this.refLogps[i] - this.logps[i];
    return Math.exp(difference) - difference - 1;
  }
}

function interpolate(gate, knowledge, reasoning) {
  return knowledge + gate * (reasoning - knowledge);
}
