"use strict";
/**
 * The curve of a tile (mean activation at each step, with the ends of octaves), the histogram of its activations on a
 * dataset (with the activation of the tile's image), and its path similarity from layer to layer.
 */
window.Featlight = window.Featlight || {};

(() => {
  const WIDTH = 420;
  const HEIGHT = 132;
  const LEFT = 40;
  const BOTTOM = 20;
  const TOP = 8;
  const MOST_PATH = 2; // path similarity beyond which a point is drawn at the edge

  /**
   * @param {[number, ?number][]} curve  step and activation
   * @param {{steps: number}[]} octaves  octaves of the recipe
   * @param {?number} top  maximum of the axis, for plots with a common axis
   * @returns {SVGElement}
   */
  function plot(curve, octaves, top = null) {
    const { make, number } = Featlight.dom;
    const points = curve.filter(([, value]) => value !== null);
    const values = points.map(([, value]) => value);
    const low = Math.min(0, ...values);
    const high = Math.max(top ?? 0, low + 1e-9, ...values);
    const last = Math.max(1, ...curve.map(([step]) => step));
    const x = (step) => LEFT + (step / last) * (WIDTH - LEFT - 4);
    const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const svg = make("svg.plot", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": points.length
        ? `Activation over ${last} steps, from ${number(values[0])} to ${number(values.at(-1))}`
        : "No curve",
    });
    for (const value of [low, high]) {
      svg.append(
        make("line.axis", { x1: LEFT, x2: WIDTH - 4, y1: y(value), y2: y(value) }),
        make("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)),
      );
    }
    let step = 0;
    for (const octave of octaves.slice(0, -1)) {
      step += octave.steps;
      svg.append(make("line.octave", { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    svg.append(
      make("text", { x: LEFT, y: HEIGHT - 4 }, "step 0"),
      make("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, String(last)),
    );
    const path = points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
    svg.append(make("path.curve", { d: path.join("") }));
    return svg;
  }

  // as in histogram.py: four bins per octave from 2 ** -8 to 2 ** 8, also for negative values
  const [PER_OCTAVE, LOWEST, ONE_SIDE] = [4, -8, 64];

  /** Return the position of a value on the axis of bins. */
  function place(value) {
    const away = Math.min(ONE_SIDE, PER_OCTAVE * (Math.log2(Math.abs(value)) - LOWEST));
    if (!(away > 0)) return ONE_SIDE + 0.5;
    return value > 0 ? ONE_SIDE + 1 + away : ONE_SIDE - away;
  }

  /** Return the value at the lower edge of a bin. */
  function edge(bin) {
    return bin > ONE_SIDE ? 2 ** (LOWEST + (bin - ONE_SIDE - 1) / PER_OCTAVE) : -(2 ** (LOWEST + (ONE_SIDE - bin) / PER_OCTAVE));
  }

  /**
   * @param {number} first      number of the first bin
   * @param {number[]} counts   number of images in each bin
   * @param {?number} picture   activation of the tile's image
   * @returns {SVGElement}
   */
  function histogram(first, counts, picture) {
    const { make, number, count } = Featlight.dom;
    const low = Math.min(first, picture === null ? first : Math.floor(place(picture)));
    const high = Math.max(first + counts.length, picture === null ? 0 : Math.ceil(place(picture) + 0.5));
    const x = (at) => LEFT + ((at - low) / (high - low)) * (WIDTH - LEFT - 4);
    const most = Math.max(1, ...counts);
    const down = HEIGHT - BOTTOM;
    const total = counts.reduce((sum, each) => sum + each, 0);
    const own = picture === null ? "" : `; its own picture: ${number(picture)}`;
    const svg = make("svg.plot", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": `Activation on ${count(total, "image")}, from ${number(edge(first))} to ${number(edge(first + counts.length))}${own}`,
    });
    counts.forEach((each, i) => {
      if (!each) return;
      const height = Math.max(1, (each / most) * (down - TOP));
      const bar = { x: x(first + i), y: down - height, width: Math.max(1, x(1) - x(0) - 1), height };
      svg.append(make("rect.bar", bar, make("title", {}, `${count(each, "image")} from ${number(edge(first + i))}`)));
    });
    svg.append(make("line.axis", { x1: LEFT, x2: WIDTH - 4, y1: down, y2: down }),
      make("text", { x: LEFT - 6, y: TOP + 8, "text-anchor": "end" }, String(most)));
    for (const [at, side] of [[first, "start"], [first + counts.length, "middle"]]) {
      svg.append(make("text", { x: x(at), y: HEIGHT - 4, "text-anchor": side }, number(edge(at))));
    }
    if (picture !== null) {
      const at = x(place(picture));
      svg.append(make("line.own", { x1: at, x2: at, y1: TOP, y2: down }),
        make("text.own", { x: at > WIDTH / 3 ? at - 5 : at + 5, y: TOP + 8, "text-anchor": at > WIDTH / 3 ? "end" : "start" },
          `its picture ${number(picture)}`));
    }
    return svg;
  }

  /**
   * @param {[string, number][]} values  path similarity of each layer, in order
   * @returns {SVGElement}
   */
  function paths(values) {
    const { make, number } = Featlight.dom;
    const low = Math.min(-0.2, ...values.map(([, value]) => Math.max(-MOST_PATH, value)));
    const high = Math.max(1.2, ...values.map(([, value]) => Math.min(MOST_PATH, value)));
    const x = (place) => LEFT + ((place + 0.5) / values.length) * (WIDTH - LEFT - 4);
    const y = (value) => TOP + ((high - Math.min(high, Math.max(low, value))) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const svg = make("svg.plot", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": `Path similarity from ${values[0][0]} to ${values.at(-1)[0]}, ${number(values.at(-1)[1])} there`,
    });
    for (const value of [0, 1]) {
      svg.append(make("line.axis", { x1: LEFT, x2: WIDTH - 4, y1: y(value), y2: y(value) }),
        make("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    svg.append(make("text", { x: LEFT, y: HEIGHT - 4 }, values[0][0]),
      make("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, values.length > 1 ? values.at(-1)[0] : ""),
      make("path.curve", { d: values.map(([, value], i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("") }));
    values.forEach(([layer, value], i) => svg.append(
      make("circle.point", { cx: x(i), cy: y(value), r: 3 }, make("title", {}, `${layer}: ${number(value)}`))));
    return svg;
  }

  Featlight.plot = plot;
  Featlight.paths = paths;
  Featlight.histogram = histogram;
})();
