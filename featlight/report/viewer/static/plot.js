"use strict";
/** The curve of a tile: its mean activation, step by step, the octaves' ends marked. */
window.Featlight = window.Featlight || {};

(() => {
  const WIDTH = 420;
  const HEIGHT = 132;
  const LEFT = 40;
  const BOTTOM = 20;
  const TOP = 8;

  /**
   * @param {[number, ?number][]} curve  step and activation
   * @param {{steps: number}[]} octaves  of the recipe
   * @param {?number} top  greatest value of the axis, so that two plots can share it
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

  Featlight.plot = plot;
})();
