// One side of the pair: a file or recording, its waveform and player, and the server's answer.
import { record } from "./recorder.js";
import { ask } from "./server.js";

export class Pane {
  /**
   * name: Enroll or Test.   limits: {seconds, megabytes} of a recording.   onChange: called when `heard`, the server's
   * answer or null, has changed.
   */
  constructor(name, limits, onChange) {
    this.limits = limits;
    this.onChange = onChange;
    this.heard = null;
    this.element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.part("h2").textContent = `${name} recording`;
    this.part(".wave").setAttribute("aria-label", `Waveform of the ${name} recording, scaled to its peak`);
    this.part("input").setAttribute("aria-label", `Choose a file: ${name} recording`);
    this.part(".channel").setAttribute("aria-label", `Channel, counted from 0: ${name} recording`);
    this.part("audio").setAttribute("aria-label", `Play the ${name} recording`);
    this.recordLabel = `: ${name} recording`;
    this.showRecording(false);
    this.listen();
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  listen() {
    const input = this.part("input");
    const over = (is) => () => this.element.classList.toggle("over", is);
    input.addEventListener("change", () => {
      if (input.files.length) this.take(input.files[0], input.files[0].name);
      input.value = ""; // the same file can be chosen again
    });
    this.part(".record").addEventListener("click", () => (this.stop ? this.stop() : this.record()));
    this.part(".channel").addEventListener("change", () => this.blob && this.take(this.blob, this.label));
    this.part("audio").addEventListener("error", () => this.showPlayer(false));
    this.element.addEventListener("dragover", over(true));
    this.element.addEventListener("dragleave", over(false));
    this.element.addEventListener("drop", over(false));
    this.element.addEventListener("drop", ({ dataTransfer }) => {
      if (dataTransfer.files.length) this.take(dataTransfer.files[0], dataTransfer.files[0].name);
    });
    if (!navigator.mediaDevices) { // the page is neither local nor encrypted
      this.part(".record").disabled = true;
      this.part(".record").textContent = "No microphone on this address";
    }
  }

  showState(state, fault = "") {
    this.part(".state").textContent = state;
    this.part(".error").textContent = fault;
    this.part(".error").hidden = !fault;
  }

  forget() {
    this.stop?.();
    this.upload?.abort();
    this.upload = new AbortController();
    this.heard = null;
    this.part(".heard").hidden = true;
    this.onChange();
    return this.upload.signal;
  }

  /** Show a file and embed it.   label: its name. */
  async take(blob, label) {
    const signal = this.forget();
    [this.blob, this.label] = [blob, label];
    if (blob.size > 1e6 * this.limits.megabytes) {
      this.showState(label, `larger than ${this.limits.megabytes} MB`);
      return;
    }
    this.showState(`${label}: analysing…`);
    try {
      const body = await blob.arrayBuffer();
      const headers = { "Content-Type": "application/octet-stream" };
      const channel = Number(this.part(".channel").value);
      this.heard = await ask(`embed?channel=${channel}`, { method: "POST", headers, body, signal });
      this.show(blob, label);
    } catch (error) {
      if (error.name !== "AbortError") this.showState(label, error.message);
    }
    if (!signal.aborted) this.onChange();
  }

  show(blob, label) {
    this.showState(`${label}: ${this.heard.seconds.toFixed(2)} s, ${this.heard.rate / 1000} kHz`);
    this.part(".wave path").setAttribute("d", outline(this.heard.envelope));
    URL.revokeObjectURL(this.part("audio").src);
    this.part("audio").src = URL.createObjectURL(blob);
    this.showPlayer(true);
    this.part(".heard").hidden = false;
  }

  showPlayer(plays) {
    this.part("audio").hidden = !plays;
    this.part(".mute").hidden = plays;
  }

  async record() {
    this.forget();
    const most = this.limits.seconds;
    this.showState("Waiting for the microphone…");
    this.part(".record").disabled = true;
    try {
      this.stop = await record(most, (now) => this.showTime(now, most), (blob) => this.recorded(blob));
      this.showRecording(true);
    } catch (error) {
      this.showState("No recording yet.", `The microphone is not available: ${error.message}`);
    }
    this.part(".record").disabled = false;
  }

  showTime(now, most) {
    const text = `Recording: ${now.toFixed(0)} s of at most ${most} s`;
    if (this.part(".state").textContent !== text) this.showState(text); // screen readers read each text once
  }

  recorded(blob) {
    this.stop = null;
    this.showRecording(false);
    this.take(blob, "Recorded");
  }

  showRecording(on) {
    const button = this.part(".record");
    button.textContent = on ? "Stop" : "Record";
    button.setAttribute("aria-label", `${button.textContent}${this.recordLabel}`);
    button.setAttribute("aria-pressed", on);
  }
}

/** An SVG path around [minimum, maximum] of each column, in 600 by -1...1. */
function outline(envelope) {
  const peak = Math.max(...envelope.flat().map(Math.abs)) || 1;
  const step = 600 / Math.max(1, envelope.length - 1);
  const point = (place, value) => `${(place * step).toFixed(1)} ${(-value / peak).toFixed(3)}`;
  const there = envelope.map((pair, i) => point(i, pair[1]));
  const back = envelope.map((pair, i) => point(i, pair[0])).reverse();
  return `M${[...there, ...back].join("L")}Z`;
}
