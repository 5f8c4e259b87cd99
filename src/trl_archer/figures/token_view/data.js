// Reads the data blocks of the page. They contain all model output, compressed with gzip and encoded in base64.

const NANS = -(2 ** 31);
const MINUS_INFINITY = NANS + 1;
const INFINITY = 2 ** 31 - 1;

/** Lets the page draw and respond before the work continues. */
function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Waits until the browser has read a data block and returns its element. The page starts before the file is complete. */
async function findBlock(id) {
  for (;;) {
    const node = document.getElementById(id);
    if (node?.nextSibling || (node && document.readyState !== "loading")) return node;
    if (document.readyState !== "loading") {
      throw new Error(`the data block ${id} is missing; is the file complete?`);
    }
    await breathe();
  }
}

/** Decodes the data block with this id. */
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

/** Column `index` of `length` 32-bit integers. The block has all lowest bytes, then all second bytes and so on. */
function readColumn(bytes, index, length) {
  const column = new Int32Array(length);
  for (let plane = 0; plane < 4; plane++) {
    const start = (4 * index + plane) * length;
    for (let i = 0; i < length; i++) column[i] |= bytes[start + i] << (8 * plane);
  }
  return column;
}

/** Converts fixed-point numbers to floats. */
function fromFixedPoint(column, resolution) {
  return Float64Array.from(column, (value) => {
    if (value === NANS) return NaN;
    if (value === MINUS_INFINITY) return -Infinity;
    if (value === INFINITY) return Infinity;
    return value * resolution;
  });
}

/** All completions of the page. `completions` has what is known about each without decoding it. */
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

  /** Text of a completion, cached because a search reads all of them. */
  async text(number) {
    if (!this.texts.has(number)) {
      const pieces = this.vocabulary.pieces;
      this.texts.set(number, Array.from(await this.readTokens(number), (token) => pieces[token]).join(""));
    }
    return this.texts.get(number);
  }

  /** Tokens and values of a completion. The last few are cached. */
  async completion(number) {
    if (!this.unpacked.has(number)) {
      const [tokens, bytes] = await Promise.all([this.readTokens(number), readBlock(`values-${number}`)]);
      this.unpacked.set(number, new Completion(this, number, tokens, bytes));
      if (this.unpacked.size > 8) this.unpacked.delete(this.unpacked.keys().next().value);
    }
    return this.unpacked.get(number);
  }
}

/** One completion: its tokens and the values of each in the loss. */
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

  /** 1 for the highest entropy of the response. Equal entropies share the better rank. */
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
    const { knowledge, reasoning } = this.records.settings;
    return [
      1 - interpolate(this.gate[i], knowledge.epsilon_low, reasoning.epsilon_low),
      1 + interpolate(this.gate[i], knowledge.epsilon_high, reasoning.epsilon_high),
    ];
  }

  klWeight(i) {
    const { knowledge, reasoning } = this.records.settings;
    return interpolate(this.gate[i], knowledge.beta, reasoning.beta);
  }

  /** Unweighted k3 estimate of the KL divergence from the reference, in nats. */
  kl(i) {
    if (this.refLogps === null) return NaN;
    const difference = this.refLogps[i] - this.logps[i];
    return Math.exp(difference) - difference - 1;
  }
}

function interpolate(gate, knowledge, reasoning) {
  return knowledge + gate * (reasoning - knowledge);
}
