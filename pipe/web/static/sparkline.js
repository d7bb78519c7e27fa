// A minute of rates as a small picture.

import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const MARGIN = 2;

/** @returns {{element: SVGElement, draw: (rates: number[]) => void}} */
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
    area,
    line,
  );
  return {
    element,
    draw(rates) {
      const path = outline(rates);
      line.setAttribute("d", path);
      area.setAttribute("d", `${path}V${HEIGHT}H0Z`);
      element.classList.toggle("spark-idle", !rates.some(Boolean));
    },
  };
}

function outline(rates) {
  const most = Math.max(...rates, 1);
  const step = WIDTH / (rates.length - 1);
  const high = (rate) => HEIGHT - MARGIN - (rate / most) * (HEIGHT - 2 * MARGIN);
  return rates
    .map((rate, index) => `${index ? "L" : "M"}${(index * step).toFixed(1)} ${high(rate).toFixed(1)}`)
    .join("");
}
