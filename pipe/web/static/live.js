// The list of topics as it changes: one EventSource for the whole page, and a minute of history.

import { whoami } from "./api.js";

export const HISTORY_SECONDS = 60;

const RETRY_MILLISECONDS = 4000;

/** What flowed on one topic in the last minute. */
class History {
  constructor() {
    this.samples = [];
  }

  add(now, rate) {
    this.samples.push({ now, rate });
    // One older than the minute stays: its rate held until the next one came.
    while (this.samples.length > 1 && this.samples[1].now < now - HISTORY_SECONDS) {
      this.samples.shift();
    }
  }

  /** One rate for each of the last sixty seconds, oldest first; null where none is known. */
  series(now) {
    const rates = [];
    let next = 0;
    let rate = null;
    for (let second = now - HISTORY_SECONDS + 1; second <= now; second += 1) {
      while (next < this.samples.length && this.samples[next].now <= second) {
        rate = this.samples[next].rate;
        next += 1;
      }
      rates.push(rate);
    }
    return rates;
  }
}

/** Tells its listeners of every new list. The stream is open only while the page is to be seen. */
export class Live {
  /** @param {() => void} loggedOut called when the login has ended */
  constructor(loggedOut) {
    /** @type {Map<string, object>} by full name; empty before the first list */
    this.topics = new Map();
    /** "connecting", "live" or "lost" */
    this.state = "connecting";
    this.known = false;
    this.loggedOut = loggedOut;
    this.histories = new Map();
    this.listeners = new Set();
    this.source = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.adjust());
    this.adjust();
  }

  /** @returns {() => void} what ends it */
  listen(listener) {
    this.listeners.add(listener);
    listener();
    return () => this.listeners.delete(listener);
  }

  /** @returns {(number | null)[]} the rates of the last minute */
  series(topic) {
    const history = this.histories.get(topic);
    return history ? history.series(seconds()) : new Array(HISTORY_SECONDS).fill(null);
  }

  // A browser has six connections to a host, for all its tabs: those in the background keep none.
  adjust() {
    if (document.hidden) this.close();
    else if (!this.source) this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.source = new EventSource("/api/topics?follow=true");
    this.source.onmessage = (event) => this.take(event.data);
    this.source.onerror = () => this.failed();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  take(text) {
    const now = seconds();
    const rows = JSON.parse(text);
    const found = rows.filter((row) => row.topic).map((row) => [row.topic, row]);
    // Who has not answered in time is asked again in a second: until then its topics stay.
    this.topics = new Map(rows.some((row) => row.missing) ? [...this.topics, ...found] : found);
    for (const name of this.histories.keys()) {
      if (!this.topics.has(name)) this.histories.delete(name);
    }
    for (const [name, topic] of this.topics) {
      if (!this.histories.has(name)) this.histories.set(name, new History());
      this.histories.get(name).add(now, topic.in_bytes_per_second);
    }
    this.known = true;
    this.become("live");
  }

  async failed() {
    if (this.source?.readyState !== EventSource.CLOSED) {
      this.become("lost"); // it tries again by itself
      return;
    }
    this.close();
    this.become("lost");
    try {
      await whoami();
    } catch (error) {
      if (error.status === 401) {
        this.loggedOut();
        return;
      }
    }
    this.timer = setTimeout(() => this.adjust(), RETRY_MILLISECONDS);
  }

  become(state) {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}

function seconds() {
  return performance.now() / 1000;
}
