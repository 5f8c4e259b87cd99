// The reading pane: the lines of one completion with shaded and marked tokens, and a minimap beside them.

const LINE_HEIGHT = 28;

class Pane {
  constructor(scaleMax, { onHover, onCursor }) {
    this.scaleMax = scaleMax;
    this.completion = null;
    this.cursor = null;
    this.hits = new Set();
    this.root = document.getElementById("tokens");
    this.rows = new VirtualRows(this.root, LINE_HEIGHT, (line) => this.renderLine(line));
    this.minimap = new Minimap(this);

    const tokenAt = (event) => {
      const node = event.target.closest?.(".token");
      return node && this.root.contains(node) ? Number(node.dataset.token) : null;
    };
    this.root.addEventListener("pointermove", (event) => onHover(tokenAt(event)));
    this.root.addEventListener("pointerleave", () => onHover(null));
    this.root.addEventListener("scroll", () => onHover(null), { passive: true });
    this.root.addEventListener("click", (event) => onCursor(tokenAt(event)));
    new ResizeObserver(() => this.layOut()).observe(this.root);
  }

  show(completion) {
    this.completion = completion;
    this.cursor = null;
    this.width = 0;
    this.root.scrollTop = 0;
    this.layOut();
  }

  /** Breaks lines again if the width has changed. The token at the top stays there. */
  layOut() {
    const style = getComputedStyle(this.root);
    const width = this.root.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (this.completion === null || width === this.width || width <= 0) return;
    const top = this.lines?.[Math.floor(this.root.scrollTop / LINE_HEIGHT)]?.[0].token;
    const resized = this.width > 0;
    this.width = width;
    this.meter ??= widthMeter(`${style.fontSize} ${style.fontFamily}`);
    Object.assign(this, layOut(this.completion.pieces, width, this.meter));
    this.rows.reset(this.lines.length);
    if (resized && top !== undefined) this.root.scrollTop = this.lineOf[top] * LINE_HEIGHT;
    this.minimap.draw();
  }

  setHits(tokens) {
    this.hits = tokens;
    this.rows.refresh();
    this.minimap.draw();
  }

  setCursor(token) {
    this.cursor = token;
    if (token !== null) this.rows.reveal(this.lineOf[token]);
    this.rows.refresh();
  }

  /** The element of a token, or of its first part, if it is visible. */
  elementOf(token) {
    return this.root.querySelector(`[data-token="${token}"]`);
  }

  /** The token at the same horizontal position, `by` lines further down. */
  tokenOnLine(token, by) {
    const line = this.lines[this.lineOf[token] + by];
    if (line === undefined) return token;
    const { left } = this.lines[this.lineOf[token]].find((segment) => segment.token === token);
    return (line.findLast((segment) => segment.left <= left) ?? line[0]).token;
  }

  renderLine(line) {
    const row = element("div", "line");
    for (const segment of this.lines[line]) row.append(this.renderSegment(segment));
    return row;
  }

  renderSegment({ token, text }) {
    const { completion } = this;
    const node = element("span", this.classOf(token), text);
    node.dataset.token = token;
    if (completion.ranked(token)) {
      node.style.setProperty("--shade", shade(completion.entropies[token], this.scaleMax).toFixed(3));
      node.style.setProperty("--gate", completion.gate[token].toFixed(2));
    }
    return node;
  }

  classOf(token) {
    const { completion } = this;
    const classes = ["token"];
    if (!completion.counted(token)) classes.push("uncounted");
    else {
      classes.push(completion.reasoning(token) ? "reasoning" : "knowledge");
      if (!completion.ranked(token)) classes.push("unknown");
      if (completion.gate[token] > 0) classes.push("gated");
    }
    if (completion.clippedHigh(token)) classes.push("clipped-high");
    if (completion.clippedLow(token)) classes.push("clipped-low");
    if (this.hits.has(token)) classes.push("hit");
    if (token === this.cursor) classes.push("cursor");
    return classes.join(" ");
  }
}

/** All lines at once, a few pixels each, with entropy, clipping and search hits. */
class Minimap {
  constructor(pane) {
    this.pane = pane;
    this.root = document.getElementById("minimap");
    this.canvas = this.root.querySelector("canvas");
    this.window = document.getElementById("viewport");
    pane.root.addEventListener("scroll", () => this.follow(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.colors = null;
      this.draw();
    });

    const scrollTo = (event) => {
      const line = (event.clientY - this.root.getBoundingClientRect().top) / this.lineHeight;
      pane.root.scrollTop = line * LINE_HEIGHT - pane.root.clientHeight / 2;
    };
    this.root.addEventListener("pointerdown", (event) => {
      this.root.setPointerCapture(event.pointerId);
      scrollTo(event);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (this.root.hasPointerCapture(event.pointerId)) scrollTo(event);
    });
  }

  draw() {
    const { pane, canvas } = this;
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!pane.lines || width === 0 || height === 0) return;
    this.colors ??= scaleColors();
    const density = devicePixelRatio;
    canvas.width = width * density;
    canvas.height = height * density;
    const context = canvas.getContext("2d");
    context.scale(density, density);
    const style = getComputedStyle(this.root);
    const [text, clip, hit] = ["--faint", "--ink", "--accent"].map((name) => style.getPropertyValue(name));
    this.lineHeight = Math.min(4, height / Math.max(1, pane.lines.length));
    const thickness = Math.max(0.75, this.lineHeight - 1);
    const across = (width - 6) / pane.width;
    pane.lines.forEach((line, number) => {
      const y = number * this.lineHeight;
      for (const segment of line) {
        const { completion } = pane;
        const level = shade(completion.entropies[segment.token], pane.scaleMax);
        const colored = completion.ranked(segment.token) && level > 0.04;
        context.fillStyle = colored ? this.colors[Math.min(STEPS - 1, Math.floor(level * STEPS))] : text;
        context.fillRect(segment.left * across, y, segment.width * across, thickness);
        if (completion.clipped(segment.token)) {
          context.fillStyle = clip;
          context.fillRect(width - 5, y, 5, Math.max(1.5, thickness));
        }
        if (pane.hits.has(segment.token)) {
          context.fillStyle = hit;
          context.fillRect(segment.left * across - 1, y - 0.5, Math.max(4, segment.width * across), thickness + 1);
        }
      }
    });
    this.follow();
  }

  follow() {
    const { root } = this.pane;
    const scale = this.lineHeight / LINE_HEIGHT;
    this.window.hidden = this.pane.lines.length === 0;
    this.window.style.top = `${root.scrollTop * scale}px`;
    this.window.style.height = `${Math.min(root.clientHeight, root.scrollHeight) * scale}px`;
  }
}
