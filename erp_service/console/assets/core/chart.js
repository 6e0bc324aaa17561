// Charts as SVG, drawn for the width that they have. Each says in words, and in a table for screen readers, what it shows.

import { h, svg } from "./dom.js";
import { forDrawing } from "./format.js";

const HEIGHT = 180;
const BELOW = 24;
const ABOVE = 18;
const LEAST_WIDTH = 240;

function responsive(label, draw, table) {
  const place = h("div", { class: "drawing" });
  const figure = h("figure", { class: "chart" }, place, h("div", { class: "hidden" }, table));
  new ResizeObserver(() => {
    const width = Math.max(LEAST_WIDTH, place.clientWidth);
    place.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label },
      draw(width)));
  }).observe(place);
  return figure;
}

// `groups`: [{label, bars: [{value, kind, title}]}]; values are decimal strings at or above zero. `scale` is the text of
// the highest one.
export function barChart(label, groups, scale, table) {
  const most = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => forDrawing(value))), 0);
  return responsive(label, (width) => {
    const step = width / groups.length;
    const room = HEIGHT - BELOW - ABOVE;
    const thick = Math.min(28, (step * 0.7) / groups[0].bars.length);
    return groups.map(({ label: under, bars }, index) => {
      const middle = step * (index + 0.5);
      return svg("g", null,
        bars.map(({ value, kind, title }, place) => {
          const tall = most > 0 ? (forDrawing(value) / most) * room : 0;
          const x = middle + (place - bars.length / 2) * thick;
          // a value that is there is seen, however small it is beside the others
          const seen = tall > 0 ? Math.max(tall, 1.5) : 0;
          return svg("rect", { class: kind, x: x + 1, y: HEIGHT - BELOW - seen, width: thick - 2, height: seen, rx: 2 },
            svg("title", null, title));
        }),
        svg("text", { x: middle, y: HEIGHT - 7, "text-anchor": "middle" }, under));
    }).concat(svg("line", { class: "axis", x1: 0, x2: width, y1: ABOVE - 0.5, y2: ABOVE - 0.5 }), svg("text", { x: 0, y: 12 }, scale), svg("line", { class: "axis", x1: 0, x2: width, y1: HEIGHT - BELOW + 0.5, y2: HEIGHT - BELOW + 0.5 }));
  }, table);
}

// `points`: [{at, value}], in order of `at`, milliseconds; each value holds until the next point, the last until `until`.
// `ends` are the texts below both ends, `scale` those of the highest and the lowest value.
export function stepChart(label, points, { from, until, ends, scale }, table) {
  const values = points.map(({ value }) => forDrawing(value));
  const high = Math.max(...values, 0);
  const low = Math.min(...values, 0);
  return responsive(label, (width) => {
    const room = HEIGHT - BELOW - ABOVE;
    const x = (at) => Math.round(((at - from) / (until - from)) * width * 10) / 10;
    const y = (value) => ABOVE + (high > low ? ((high - value) / (high - low)) * room : room);
    let path = "";
    points.forEach(({ at }, index) => {
      const begin = Math.max(at, from);
      const end = index + 1 < points.length ? points[index + 1].at : until;
      path += `${path ? "L" : "M"}${x(begin)} ${y(values[index])}L${x(end)} ${y(values[index])}`;
    });
    return [
      svg("line", { class: "axis", x1: 0, x2: width, y1: y(0), y2: y(0) }),
      svg("path", { class: "area", d: `${path}L${x(until)} ${y(0)}L${x(Math.max(points[0].at, from))} ${y(0)}Z` }),
      svg("path", { class: "line", d: path }),
      svg("text", { x: 0, y: 12 }, scale[0]),
      low < 0 && svg("text", { x: 0, y: HEIGHT - BELOW - 4 }, scale[1]),
      svg("text", { x: 0, y: HEIGHT - 7 }, ends[0]),
      svg("text", { x: width, y: HEIGHT - 7, "text-anchor": "end" }, ends[1]),
    ].filter(Boolean);
  }, table);
}
