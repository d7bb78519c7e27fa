// A minute of rates as a small picture.

import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const MARGIN = 2;

/** @returns {{element: SVGElement, draw: (rates: (number | null)[]) => void}} */
export function sparkline() {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line" });
  const element = svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    svg("path", { class: "spark-base", d: `M0 ${HEIGHT - MARGIN}H${WIDTH}` }),
    area,
    line,
  );
  return {
    element,
    draw(rates) {
      const idle = !rates.some(Boolean);
      const points = idle ? rates.map(() => 0) : rates;
      const path = outline(points);
      line.setAttribute("d", path);
      area.setAttribute("d", `${path}V${HEIGHT}H${x(first(points), points)}Z`);
      element.classList.toggle("spark-idle", idle);
    },
  };
}

// What was before the page looked is not drawn.
function outline(rates) {
  const begin = first(rates);
  const most = Math.max(...rates.slice(begin), 1);
  const y = (rate) => (HEIGHT - MARGIN - (rate / most) * (HEIGHT - 2 * MARGIN)).toFixed(1);
  return rates
    .slice(begin)
    .map((rate, index) => `${index ? "L" : "M"}${x(begin + index, rates)} ${y(rate)}`)
    .join("");
}

function first(rates) {
  return rates.findIndex((rate) => rate !== null);
}

function x(index, rates) {
  return ((index * WIDTH) / (rates.length - 1)).toFixed(1);
}
