// How the page writes what the commands write too: sizes, times, names. See pipe/commands/layout.py.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `512 B`, `1.5 MiB`. */
export function size(count) {
  let unit = 0;
  while (count >= 1023.95 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

/** `12s`, `1h05m`, `3d04h`. */
export function span(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m${two(whole % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/** `90s` is `1m30s`, `1d`, `2h24m`: the two largest units, without those that are nought. */
export function duration(seconds) {
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const whole = Math.floor(left / length);
    if (whole) parts.push(`${whole}${unit}`);
    left -= whole * length;
  }
  return parts.slice(0, 2).join("") || "0s";
}

/** `1 reader`, `2 readers`. */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** A moment in the reader's own time and language, from seconds since 1970. */
export function date(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, {
    dateStyle: "medium",
    timeStyle: "short",
  });
}

/** `in 3 days`, `5 minutes ago`. */
export function relative(seconds, now = Date.now() / 1000) {
  const difference = seconds - now;
  const steps = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ];
  const words = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  for (const [unit, length] of steps) {
    if (Math.abs(difference) >= length) return words.format(Math.trunc(difference / length), unit);
  }
  return difference < 0 ? "just now" : "in less than a minute";
}

/** A share of the time; never 100 % unless it was all of it. */
export function percent(ratio) {
  return ratio === null ? "not known" : `${(Math.floor(ratio * 10_000) / 100).toFixed(2)} %`;
}

/** A full name as its owner types it: `alice/build` is `build` to alice. */
export function shortName(topic, user) {
  const [owner, ...path] = topic.split("/");
  return owner === user && path.length === 1 ? path[0] : topic;
}

/** A name as somebody typed it, in full: `build` is `alice/build` to alice. */
export function fullName(name, user) {
  return name.includes("/") ? name : `${user}/${name}`;
}

/** A topic's place in an address. */
export function topicPath(topic) {
  return topic.split("/").map(encodeURIComponent).join("/");
}

const PICTURES = 0x2400;

/**
 * Make a line of somebody's bytes safe to show: colours of terminals go, other control characters
 * become their pictures, and what turns the direction of writing is written out.
 */
export function visible(line) {
  return line
    .replace(/\x1b\[[0-9;]*m/g, "")
    .replace(/[\x00-\x08\x0b-\x1f]/g, (one) => String.fromCharCode(PICTURES + one.charCodeAt(0)))
    .replace(/[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (one) => {
      return `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`;
    });
}
