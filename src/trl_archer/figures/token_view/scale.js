// The color scale of the entropy and its legend.

const STEPS = 40;

/** Position of an entropy on the color scale, 0 to 1. */
function shade(entropy, scaleMax) {
  return Math.min(1, Math.max(0, entropy / scaleMax));
}

/** The colors of the scale as computed by the style sheet, for drawing on a canvas. */
function scaleColors() {
  const probe = element("span", "token");
  document.body.append(probe);
  const colors = Array.from({ length: STEPS }, (_, step) => {
    probe.style.setProperty("--shade", String((step + 0.5) / STEPS));
    return getComputedStyle(probe).backgroundColor;
  });
  probe.remove();
  return colors;
}

class Scale {
  constructor(scaleMax) {
    this.max = scaleMax;
    this.bars = Array.from({ length: STEPS }, (_, step) => {
      const bar = element("i", "", element("b"));
      bar.style.setProperty("--shade", String((step + 0.5) / STEPS));
      return bar;
    });
    document.getElementById("bars").replaceChildren(...this.bars);
    const marks = 4;
    const ticks = Array.from({ length: marks + 1 }, (_, i) => {
      const label = short(Number(((scaleMax * i) / marks).toPrecision(3)));
      return element("span", "", i === marks ? `≥ ${label}` : label);
    });
    document.getElementById("ticks").replaceChildren(...ticks);
    this.mark = document.getElementById("threshold-mark");
  }

  /** Shows the distribution of colors in a completion (log scale) and its threshold. */
  show(completion) {
    const counts = new Array(STEPS).fill(0);
    for (const entropy of completion.ordered) {
      counts[Math.min(STEPS - 1, Math.floor(shade(entropy, this.max) * STEPS))] += 1;
    }
    const highest = Math.log1p(Math.max(1, ...counts));
    this.bars.forEach((bar, step) => {
      bar.firstChild.style.height = `${(100 * Math.log1p(counts[step])) / highest}%`;
    });
    const threshold = completion.about.entropy_threshold;
    this.mark.hidden = threshold === null || completion.ordered.length === 0;
    if (this.mark.hidden) return;
    this.mark.style.left = `${100 * shade(threshold, this.max)}%`;
    this.mark.firstElementChild.textContent = `τ ${decimal(threshold)}`;
    this.mark.classList.toggle("flipped", shade(threshold, this.max) > 0.6);
  }
}
