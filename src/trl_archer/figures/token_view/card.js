// The card of one token: its values in the loss.

class Card {
  constructor() {
    this.root = document.getElementById("card");
    this.plot = document.getElementById("ratio-plot");
  }

  set(name, text) {
    document.getElementById(`card-${name}`).textContent = text;
  }

  hide() {
    this.root.hidden = true;
  }

  /** Shows token `i` of a completion next to its element. */
  show(completion, i, anchor) {
    const c = completion;
    const has = c.counted(i);
    this.set("text", visibleWithSpaces(c.pieces[i]) || "∅ (decodes to nothing)");
    this.set("where", `id ${c.ids[i]} · position ${i} of ${c.length}, from 0`);
    this.set("role", has ? this.role(c.gate[i]) : "none: not in the loss");
    this.set("entropy", decimal(c.entropies[i]));
    this.set("rank", c.ranked(i) ? `${c.rank(i)} of ${c.ordered.length}` : "–");
    this.set("threshold", decimal(c.about.entropy_threshold));
    this.set("logp", decimal(c.logps[i]));
    this.set("old", decimal(c.oldLogps[i]));
    this.set("reference", c.refLogps === null ? "none" : decimal(c.refLogps[i]));
    this.set("ratio", decimal(c.ratio(i)));
    this.set("range", has ? c.range(i).map(short).join(" to ") : "–");
    this.set("clip", this.clip(c, i));
    this.set("kl-weight", has ? short(c.klWeight(i)) : "–");
    this.set("kl", decimal(c.kl(i)));
    this.set("advantage", signed(c.about.advantage));
    this.drawRatio(c, i);
    this.root.dataset.token = i;
    this.root.hidden = false;
    this.place(anchor);
  }

  role(gate) {
    if (gate === 1) return "reasoning";
    if (gate === 0) return "knowledge";
    return `graded: ${percent(gate)} reasoning`;
  }

  clip(completion, i) {
    if (completion.clippedHigh(i)) return "yes, upper end";
    if (completion.clippedLow(i)) return "yes, lower end";
    return "no";
  }

  /** The ratio as a dot on an axis around 1, with the clip range as a band. */
  drawRatio(completion, i) {
    const ratio = completion.ratio(i);
    this.plot.hidden = !completion.counted(i) || !Number.isFinite(ratio);
    if (this.plot.hidden) return;
    const [low, high] = completion.range(i);
    const reach = 1.3 * Math.max(1 - low, high - 1, 0.1);
    const place = (value) => 100 * Math.min(1, Math.max(0, (value - 1 + reach) / (2 * reach)));
    const [band, , dot] = this.plot.children;
    band.style.left = `${place(low)}%`;
    band.style.width = `${place(high) - place(low)}%`;
    dot.style.left = `${place(ratio)}%`;
    dot.classList.toggle("outside", completion.clipped(i));
  }

  /** Below the token, or above it if there is no room. In a narrow window, at the opposite end (style sheet). */
  place(anchor) {
    const gap = 10;
    const token = anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.root;
    const left = Math.max(gap, Math.min(token.left - 12, innerWidth - width - gap));
    const below = token.bottom + gap + height <= innerHeight;
    const top = below ? token.bottom + gap : Math.max(gap, token.top - gap - height);
    this.root.style.setProperty("--left", `${left}px`);
    this.root.style.setProperty("--top", `${top}px`);
    this.root.classList.toggle("high", token.top > innerHeight / 2);
  }
}
